"""Times, texts, vectors and attributions: from a reference and logged rows to measurements."""

import asyncio
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.reader import RowReader
from service.ledger.marks import Item
from service.registry.repository import find_version
from service.runs.row_material import load_material, measure_engine
from service.runs.tables import Measurement, Window
from tests.clients import TestClient
from tests.integration.ingest.conftest import running
from tests.integration.runs.bench import a_pipeline, work

Sessions = sessionmaker[Session]
URL = "/v1/models/loans/versions/7"
PARQUET = "application/vnd.apache.parquet"
DAY = datetime(2026, 6, 1, tzinfo=UTC)
WORDS = np.array(["the", "loan", "was", "late", "again", "sorry", "thanks", "rate"])


def some_rows(seed: int, rows: int, **overrides: Any) -> dict[str, list[Any]]:
    rng = np.random.default_rng(seed)
    # A prime apart, so that every hour and weekday of signup occurs in each window.
    ts = [DAY + timedelta(minutes=7 * i % 1440) for i in range(rows)]
    ages = rng.integers(0, 400 * 24 * 3600, rows).tolist()
    return {
        "ts": ts,
        "signup": [at - timedelta(seconds=age) for at, age in zip(ts, ages, strict=True)],
        "comment": [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(rows)],
        "vector": rng.normal(size=(rows, 3)).astype(np.float32).tolist(),
        "attributions.vector": rng.normal(size=rows).tolist(),
        "prediction": rng.choice(["0", "1"], rows).tolist(),
        **overrides,
    }


def put_reference(client: TestClient, rows: dict[str, Any]) -> Any:
    buffer = io.BytesIO()
    pq.write_table(pa.table(rows), buffer)
    return client.put(
        f"{URL}/reference", content=buffer.getvalue(), headers={"content-type": PARQUET}
    )


def log(url: str, sessions: Sessions, rows: dict[str, list[Any]]) -> Any:
    records = [
        {
            "prediction_id": str(i),
            "ts": ts.isoformat(),
            "prediction": prediction,
            "features": {"signup": signup.isoformat(), "comment": comment, "vector": vector},
            "attributions": {"vector": attribution},
        }
        for i, (ts, signup, comment, vector, attribution, prediction) in enumerate(
            zip(*rows.values(), strict=True)
        )
    ]

    async def send() -> Any:
        async with running(url, sessions) as api:
            return (await api.predictions(*records)).json()

    return asyncio.run(send())


@pytest.fixture
def reader(database_url: str) -> Iterator[RowReader]:
    reader = RowReader(database_url)
    yield reader
    reader.close()


def judged(sessions: Sessions, reader: RowReader) -> dict[tuple[str, str | None], Measurement]:
    work(a_pipeline(sessions, reader))
    with sessions() as session:
        rows = session.scalars(select(Measurement).join(Window).where(Window.latest))
        return {(row.metric, row.subject): row for row in rows}


def declare(client: TestClient) -> None:
    features = [{"name": "comment", "kind": "text"}]
    answer = client.put(URL, json={"features": features, "attributions": True})
    assert answer.status_code == 200, answer.json()


def test_each_kind_comes_through_to_measurements_of_its_parts(
    client: TestClient, sessions: Sessions, engine: Engine, database_url: str, reader: RowReader
) -> None:
    declare(client)
    answer = put_reference(client, some_rows(1, 4000)).json()
    kinds = {feature["name"]: feature["kind"] for feature in answer["features"]}
    assert kinds == {"comment": "text", "signup": "datetime", "vector": "embedding"}
    rows = some_rows(2, 800, comment=["FREE $$$ click http://x.yz !!!"] * 800)
    rows["signup"][0] = datetime(9999, 12, 31, tzinfo=UTC)
    rows["attributions.vector"] = [3.0 + value for value in rows["attributions.vector"]]
    assert log(database_url, sessions, rows)["accepted"] == 800
    measured = judged(sessions, reader)
    verdicts = {
        subject: row.verdict for (metric, subject), row in measured.items() if metric == "drift"
    }
    assert verdicts == {
        **dict.fromkeys(("signup.hour", "signup.weekday", "signup.month", "signup.age"), "ok"),
        **dict.fromkeys(("comment.length", "comment.non_letters", "comment.oov"), "alert"),
        "vector.norm": "ok",
        "prediction": "ok",
    }
    assert measured["attribution_drift", "vector"].verdict == "alert"
    missing = {subject for metric, subject in measured if metric == "missing_ratio"}
    assert missing == {"signup", "comment", "vector", "prediction"}
    with sessions() as session:
        window = session.scalars(select(Window).where(Window.latest)).one()
        assert set(window.drifted_features) == {
            "comment.length", "comment.non_letters", "comment.oov",
        }  # fmt: skip
    with engine.connect() as connection:
        found = connection.execute(
            text(
                'SELECT signup, comment, vector, "attributions.vector" FROM logs."loans@7"'
                " WHERE prediction_id = '1'"
            )
        ).one()
    assert found.signup == rows["signup"][1]
    assert found.vector == pytest.approx(rows["vector"][1])
    assert found[3] == rows["attributions.vector"][1]


def test_a_sample_has_the_vectors_and_evidently_the_parts(
    client: TestClient, sessions: Sessions, database_url: str, reader: RowReader
) -> None:
    declare(client)
    put_reference(client, some_rows(1, 500))
    log(database_url, sessions, some_rows(2, 300))
    judged(sessions, reader)
    with sessions() as session:
        version = find_version(session, "loans", "7")
        window = session.scalars(select(Window).where(Window.latest)).one()
        item = Item(window.model_id, window.version_id, window.start, window.end)
        material = load_material(session, reader, item, 1)
    assert material is not None
    assert material.current["vector"].to_pylist()[0] is not None
    sampled = {column.name for column in material.sampled}
    assert sampled >= {"vector", "vector.norm", "signup.age", "comment.length"}
    # Half of the reference's rows have none, which would tell them from the window's.
    assert "comment.oov" not in sampled
    assert {found.verdict for found in measure_engine("rows", material)} <= {"ok", None}
    scores = measure_engine("evidently", material)
    assert {score.subject for score in scores} == {
        *("signup.hour", "signup.weekday", "signup.month", "signup.age", "vector.norm"),
        *("comment.length", "comment.non_letters", "comment.oov", "prediction"),
    }
    assert version.attributions[0].name == "attributions.comment"


@pytest.mark.parametrize(
    ("features", "code"),
    [
        ([("signup", "datetime"), ("signup.hour", "numeric")], "derived-name"),
        ([("e.norm", "numeric"), ("e", "embedding", 3)], "derived-name"),
        ([("e", "embedding")], "value-error"),
        ([("e", "embedding", 5000)], "less-than-equal"),
        ([("n", "numeric", 3)], "value-error"),
        ([(f"e{i}", "embedding", 3) for i in range(5)], "too-many-features"),
        ([("attributions.n", "numeric")], "value-error"),
    ],
)
def test_what_cannot_be_registered_is_a_clear_error(
    client: TestClient, features: list[Any], code: str
) -> None:
    names = ("name", "kind", "length")
    documents = [dict(zip(names, own, strict=False)) for own in features]
    answer = client.put(URL, json={"features": documents})
    assert answer.status_code == 422
    assert code in {answer.json()["code"], *(r["code"] for r in answer.json().get("rejected", []))}


def test_a_name_is_taken_across_the_versions_of_a_model(client: TestClient) -> None:
    client.put(URL, json={"features": [{"name": "signup.hour", "kind": "numeric"}]})
    later = {"features": [{"name": "signup", "kind": "datetime"}]}
    assert client.put("/v1/models/loans/versions/8", json=later).json()["code"] == "derived-name"


def test_a_vector_cannot_change_its_length(client: TestClient) -> None:
    for length, status in ((3, 200), (3, 200), (4, 409)):
        document = {"features": [{"name": "e", "kind": "embedding", "length": length}]}
        assert client.put(URL, json=document).status_code == status


@pytest.mark.parametrize(
    ("column", "detail"),
    [
        ({"vector": [[1.0, 2.0]] * 49 + [[1.0]]}, "is no vector of 2 numbers (first in row 49)"),
        ({"vector": [[0.0] * 4097] * 50}, "at most 4096"),
        ({"vector": [["a"]] * 50}, "is no type of a feature"),
        ({"signup": [datetime(1, 1, 1)] * 49 + [None], "comment": [5] * 49 + [None]}, None),
        ({"attributions.x": [1.0] * 50}, "there is no such feature"),
    ],
)
def test_odd_columns_of_a_reference_are_located(
    client: TestClient, column: dict[str, Any], detail: str | None
) -> None:
    declare(client)
    answer = put_reference(client, {**some_rows(1, 50), **column})
    assert (answer.status_code == 200) == (detail is None), answer.json()
    assert detail is None or detail in answer.json()["detail"]


def test_half_a_vector_is_missing(client: TestClient, sessions: Sessions) -> None:
    declare(client)
    vectors = [[1.0, float("nan"), 1.0]] * 5 + [[1.0, 1e39, 1.0]] * 5 + [[3.0, 0.0, 4.0]] * 40
    answer = put_reference(client, {**some_rows(1, 50), "vector": vectors})
    assert answer.status_code == 200, answer.json()
    with sessions() as session:
        [sample] = session.execute(text("SELECT sample FROM reference")).one()
    norms = pq.read_table(io.BytesIO(sample))["vector.norm"].to_pylist()
    assert norms == [None] * 10 + [5.0] * 40


def test_free_text_that_nobody_declared_is_pointed_out(client: TestClient) -> None:
    rows = some_rows(1, 400)
    rows["comment"] = [f"customer {i} says it is fine" for i in range(400)]
    answer = put_reference(client, rows).json()
    assert {"code": "looks-like-text", "column": "comment"} in answer["warnings"]
