"""Labels that are given again, from the request to the window that is judged anew."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.reader import RowReader
from service.profiles.arrays import RELABELLED
from service.registry.repository import find_version
from service.runs.pipeline import Pipeline
from tests.clients import TestClient
from tests.integration.runs.bench import work
from tests.integration.runs.tasks import DAY, judged, put, send, the_api

ROWS = 200
RATIO = ("conflicting_label_ratio", None)
VERSIONS: dict[str, dict[str, Any]] = {
    "binary": {"features": [], "classes": ["0", "1"], "positive_class": "1"},
    "multiclass": {"features": [], "classes": ["0", "1", "2"]},
    "regression": {"features": []},
}


@pytest.fixture
def client(database_url: str) -> Iterator[TestClient]:
    with the_api(database_url) as client:
        yield client


def register(client: TestClient, task: str) -> None:
    put(client, "m", {"task": task})
    put(client, "m/versions/1", VERSIONS[task])


def predict(client: TestClient, rows: int, hours: int = 24) -> None:
    step = timedelta(hours=hours) / rows
    ids = [{"prediction_id": str(i), "ts": (DAY + i * step).isoformat()} for i in range(rows)]
    send(client, "predictions", "m", [{**row, "features": {}, "prediction": 1} for row in ids])


def label(client: TestClient, day: int, given: dict[int, float]) -> None:
    at = (DAY + timedelta(days=day)).isoformat()
    records = [{"prediction_id": str(i), "label": x, "label_ts": at} for i, x in given.items()]
    send(client, "labels", "m", records)


@pytest.mark.parametrize("task", VERSIONS)
def test_another_label_of_a_row_is_a_conflict_and_the_same_again_is_none(
    client: TestClient, reader: RowReader, sessions: sessionmaker[Session], task: str
) -> None:
    register(client, task)
    predict(client, 6)
    label(client, 3, {0: 1, 1: 1, 3: 0, 4: 1})
    label(client, 1, {1: 1, 2: 1, 3: 1, 4: 1})
    label(client, 2, {4: 0})
    with sessions() as session:
        version = find_version(session, "m", "1")
    span = (DAY, DAY + timedelta(days=1))
    for batches, unlabelled in (
        (reader.labelled(version, *span), []),
        (reader.with_labels(version, *span, ["tags.x"]), [(None, None)]),
    ):
        rows = [row for batch in batches for row in batch.to_pylist()]
        rows.sort(key=lambda row: row["ts"])
        found = [(row["label"] and float(row["label"]), row[RELABELLED]) for row in rows]
        known = [(1.0, False), (1.0, False), (1.0, False), (0.0, True), (1.0, True)]
        assert found == known + unlabelled


def test_labels_that_are_taken_back_later_judge_the_window_again_and_ask_for_better_data(
    client: TestClient, pipeline: Pipeline
) -> None:
    register(client, "binary")
    predict(client, ROWS)
    work(pipeline)
    [window] = judged(client, "m")
    assert RATIO not in window["by"]
    label(client, 1, dict.fromkeys(range(ROWS), 1))
    work(pipeline)
    label(client, 2, dict.fromkeys(range(ROWS), 1))
    work(pipeline)
    [window] = judged(client, "m")
    found = window["by"][RATIO]
    assert (window["revision"], found["value"], found["verdict"]) == (2, 0.0, "ok")
    label(client, 3, dict.fromkeys(range(20), 0))
    work(pipeline)
    [window] = judged(client, "m")
    found = window["by"][RATIO]
    assert (found["value"], found["n"], found["verdict"]) == (0.1, ROWS, "alert")
    assert found["ci_low"] < 0.1 < found["ci_high"]
    assert (window["revision"], window["action"]) == (3, "fix_data")
    assert window["reason"] == (
        "the labels contradict each other, and no model should learn from them: "
        "10.0 % of the labelled rows were given different labels"
    )
