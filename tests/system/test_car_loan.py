"""The figures of nannyml_car_loan, through the running service: what the world published.

Chunks of 5,000 rows, each replayed as a day of its own; the drift starts with the sixth of ten.
"""

import json
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest

from tests.conftest import sized
from tests.system.harness import Service, eventually, running

DATA = Path(__file__).parents[3] / "shared" / "data" / "nannyml_car_loan"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the data set nannyml_car_loan is not beside the project"
)

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
CHUNK = 5_000
CHUNKS = range(10)
DAYS = len(CHUNKS)
QUIET, LOUD = CHUNKS.index(5), DAYS - CHUNKS.index(5)
BATCH = 2_500
# Once among the predictions, and once among the labels.
KILLED_EVERY = 4
MOVED = {"car_value", "salary_range", "loan_length", "repaid_loan_on_prev_car"}
FEATURES = [
    "car_value",
    "salary_range",
    "debt_to_income_ratio",
    "loan_length",
    "repaid_loan_on_prev_car",
    "size_of_downpayment",
    "driver_tenure",
]


@dataclass(frozen=True)
class Batches:
    predictions: list[dict[str, Any]]
    labels: list[dict[str, Any]]


@pytest.fixture(scope="module")
def expected() -> list[dict[str, Any]]:
    document = json.loads((DATA / "expected.json").read_text())
    chunks: list[dict[str, Any]] = document["chunks"]
    return [chunks[number] for number in CHUNKS]


@pytest.fixture(scope="module")
def days() -> list[Batches]:
    frame = pd.read_parquet(DATA / "analysis.parquet")
    return [_day(frame, index, number) for index, number in enumerate(CHUNKS)]


def _day(frame: pd.DataFrame, index: int, number: int) -> Batches:
    chunk = frame.iloc[number * CHUNK : (number + 1) * CHUNK]
    start = FIRST + timedelta(days=index)
    step = timedelta(days=1) / CHUNK
    features = chunk[FEATURES].to_dict("records")
    predictions = [
        {
            "prediction_id": f"loan-{index}-{number:04}",
            "ts": (start + number * step).isoformat(),
            "features": features[number],
            "prediction": str(row.y_pred),
            "score": row.y_pred_proba,
        }
        for number, row in enumerate(chunk.itertuples())
    ]
    labels = [
        {
            "prediction_id": f"loan-{index}-{number:04}",
            "label": str(int(value)),
            "label_ts": (start + timedelta(days=10) + number * step).isoformat(),
        }
        for number, value in enumerate(chunk["repaid"])
    ]
    return Batches(predictions, labels)


def _register(service: Service) -> None:
    service.put("/v1/models/loans", {"task": "binary", "owner": "risk"})
    service.put("/v1/models/loans/versions/7", {"stage": "live"})
    answer = service.client.put(
        "/v1/models/loans/versions/7/reference",
        params={
            "ts": "timestamp",
            "score": "y_pred_proba",
            "prediction": "y_pred",
            "label": "repaid",
        },
        content=(DATA / "reference.parquet").read_bytes(),
        headers={"Content-Type": "application/vnd.apache.parquet"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"] == answer.json()["labelled"] == 50_000
    service.put(
        "/v1/models/loans/monitor",
        {
            "model": "loans",
            "window": "1d",
            "performance": {"metrics": ["roc_auc", "accuracy", "recall"]},
        },
    )


def _send(service: Service, path: str, records: list[dict[str, Any]], *, version: str) -> int:
    """Send in batches; return how many rows were duplicates."""
    duplicates = 0
    for first in range(0, len(records), BATCH):
        batch = records[first : first + BATCH]
        envelope: dict[str, Any] = {"model": "loans", "records": batch}
        if path.endswith("predictions"):
            envelope["version"] = version
        answer = service.client.post(path, json=envelope)
        assert answer.status_code == 200, answer.text[:300]
        counts = answer.json()
        assert counts["accepted"] + counts["duplicates"] == len(batch), counts
        assert counts["rejected"] == []
        duplicates += counts["duplicates"]
    return duplicates


def _figures(service: Service) -> list[dict[str, Any]]:
    """Return the windows with their measurements, without what names the evaluation."""
    windows = service.get("/v1/models/loans/windows", version="7")["windows"]
    found = []
    for window in windows:
        whole = service.get(f"/v1/models/loans/windows/{window['start']}", version="7")
        for name in ("revision", "evaluated_at", "config_revision"):
            whole.pop(name)
        found.append(whole)
    return found


def _value(window: dict[str, Any], metric: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [m for m in window["measurements"] if m["metric"] == metric]
    assert len(found) == 1
    return found[0]


@dataclass(frozen=True)
class Straight:
    estimated: list[dict[str, Any]]
    windows: list[dict[str, Any]]
    requests: list[dict[str, Any]]
    requests_before_labels: list[dict[str, Any]]


@pytest.fixture(scope="module")
def straight(
    module_database: str, days: list[Batches], tmp_path_factory: pytest.TempPathFactory
) -> Straight:
    """Replay in order: predictions, evaluation, labels, evaluation."""
    with running(module_database, tmp_path_factory.mktemp("logs")) as service:
        service.start_worker()
        _register(service)
        for day in days:
            _send(service, "/v1/predictions", day.predictions, version="7")
        service.evaluate("loans", FIRST + timedelta(days=DAYS))
        estimated = _figures(service)
        early = service.get("/v1/retraining-requests", model="loans")["requests"]
        for day in days:
            _send(service, "/v1/labels", day.labels, version="7")
        _settle(service)
        return Straight(
            estimated,
            _figures(service),
            service.get("/v1/retraining-requests", model="loans")["requests"],
            early,
        )


def _settle(service: Service) -> None:
    """Wait until every day has been judged on all of its rows and labels."""

    def judged() -> bool:
        windows = service.get("/v1/models/loans/windows", version="7")["windows"]
        return len(windows) == DAYS and all(
            window["rows"] == window["labelled"] == CHUNK for window in windows
        )

    message = "the windows were not judged on all labels"
    eventually(judged, seconds=400, every=0.3, message=message)


def test_realised_performance_is_what_was_published(
    straight: Straight, expected: list[dict[str, Any]]
) -> None:
    for window, chunk in zip(straight.windows, expected, strict=True):
        realised = chunk["realised"]
        assert window["rows"] == window["labelled"] == CHUNK
        assert _value(window, "roc_auc")["value"] == pytest.approx(realised["roc_auc"], abs=1e-4)
        for metric in ("accuracy", "f1"):
            value = _value(window, metric)["value"]
            assert value == pytest.approx(realised[metric], abs=1e-6), metric


def test_performance_is_estimated_before_any_label(
    straight: Straight, expected: list[dict[str, Any]]
) -> None:
    for window, chunk in zip(straight.estimated, expected, strict=True):
        assert window["labelled"] == 0
        assert window["verdicts"]["performance"] == "insufficient_data"
        estimate = _value(window, "estimated_roc_auc")["value"]
        assert estimate == pytest.approx(chunk["published"]["cbpe_auc"], abs=0.005)


def test_performance_alerts_from_the_sixth_chunk_on_only(straight: Straight) -> None:
    verdicts = [window["verdicts"]["performance"] for window in straight.windows]
    assert verdicts == ["ok"] * QUIET + ["alert"] * LOUD
    for metric in ("accuracy", "recall"):
        shown = [_value(window, metric)["verdict"] for window in straight.windows]
        assert shown == ["ok"] * QUIET + ["alert"] * LOUD, metric


def test_drift_alerts_on_what_moved_from_the_sixth_chunk_on_only(straight: Straight) -> None:
    for index, window in enumerate(straight.windows):
        drifted = set(window["drifted_features"])
        if index < QUIET:
            assert not drifted & set(FEATURES), window["start"]
        else:
            assert drifted >= MOVED
            assert drifted & set(FEATURES) == MOVED


def test_one_retraining_request_says_why_and_on_which_windows(straight: Straight) -> None:
    (request,) = straight.requests
    # Without a single label the estimate asks for labels; they confirm the loss.
    assert straight.requests_before_labels == []
    actions = [window["action"] for window in straight.estimated[QUIET:]]
    assert actions == ["collect_labels"] * LOUD
    assert (request["model"], request["version"]) == ("loans", "7")
    assert (request["state"], request["action"]) == ("open", "retrain")
    starts = [window["start"] for window in request["evidence"]["windows"]]
    assert starts == [window["start"] for window in straight.windows[QUIET:]]
    assert request["evidence"]["labelled_rows_per_class"]
    assert request["reason"]


# None of those that go together undoes what another does; in full size each goes alone, too.
WAYS = [{"twice", "reversed", "killed"}, {"labels-first", "two-workers"}]


@pytest.mark.parametrize(
    "ways",
    sized(default=WAYS, full=[*WAYS, *({way} for ways in WAYS for way in sorted(ways))]),
    ids=lambda ways: " ".join(sorted(ways)),
)
def test_the_figures_do_not_depend_on_how_the_rows_came(
    ways: set[str], straight: Straight, days: list[Batches], database_url: str, tmp_path: Path
) -> None:
    with running(database_url, tmp_path) as service:
        worker = service.start_worker()
        if "two-workers" in ways:
            service.start_worker()
        _register(service)
        ordered = list(reversed(days)) if "reversed" in ways else days
        kinds = ["predictions", "labels"]
        if "labels-first" in ways:
            kinds.reverse()
        for number, (kind, day) in enumerate((kind, day) for kind in kinds for day in ordered):
            records = getattr(day, kind)
            _send(service, f"/v1/{kind}", records, version="7")
            if "twice" in ways:
                assert _send(service, f"/v1/{kind}", records, version="7") == CHUNK
            if "killed" in ways and number % KILLED_EVERY == KILLED_EVERY - 1:
                _kill_at_work(worker, database_url)
                worker = service.start_worker()
        _settle(service)
        # What is still due would only be judged again to the same result.
        service.evaluate("loans", FIRST + timedelta(days=DAYS))
        windows = _figures(service)
        requests = service.get("/v1/retraining-requests", model="loans")["requests"]
    _assert_identical(windows, straight.windows)
    (request,) = requests
    starts = [window["start"] for window in request["evidence"]["windows"]]
    assert starts == [window["start"] for window in straight.windows[QUIET:]]


def _kill_at_work(worker: subprocess.Popen[bytes], database_url: str) -> None:
    """Kill the worker while it holds a claim."""
    with psycopg.connect(database_url, autocommit=True) as connection:

        def holds() -> bool:
            found = connection.execute(
                "SELECT count(*) FROM due_work WHERE claimed_by LIKE %s", [f"%-{worker.pid}/%"]
            ).fetchone()
            return found is not None and found[0] > 0

        eventually(holds, seconds=120, every=0.001, message="the worker took no work")
        worker.kill()
        worker.wait()


def _assert_identical(found: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            _assert_identical(found[key], wanted[key])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            _assert_identical(one, other)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=1e-12, rel=0)
    else:
        assert found == wanted
