"""Models that are not binary, from the first PUT to a judged window, over HTTP."""

import io
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.reader import RowReader
from service.processes.api import create_app
from service.runs.leases import LeaseKeeper
from service.runs.pipeline import Pipeline
from service.settings import Settings

# The test client would rather have httpx2; the service itself speaks httpx.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

DAY = datetime(2026, 11, 1, tzinfo=UTC)
ROWS = 400
LEASE = timedelta(minutes=1)
PARQUET = {"content-type": "application/vnd.apache.parquet"}


@pytest.fixture
def client(database_url: str) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(database_url=SecretStr(database_url)))) as client:
        yield client


@pytest.fixture
def pipeline(sessions: sessionmaker[Session], database_url: str) -> Iterator[Pipeline]:
    reader = RowReader(database_url)
    yield Pipeline(
        sessions,
        reader,
        LeaseKeeper(sessions, "test", LEASE),
        worker="test",
        lease=LEASE,
        quiet=timedelta(0),
        second_instrument=False,
    )
    reader.close()


def work(pipeline: Pipeline) -> None:
    while pipeline.collect() or pipeline.plan() or pipeline.profile() or pipeline.judge():
        pass


def put(client: TestClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.put(f"/v1/models/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def put_reference(client: TestClient, model: str, table: pa.Table, **names: str) -> dict[str, Any]:
    file = io.BytesIO()
    pq.write_table(table, file)
    answer = client.put(
        f"/v1/models/{model}/versions/1/reference",
        content=file.getvalue(),
        params=names,
        headers=PARQUET,
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def send(client: TestClient, path: str, model: str, records: list[dict[str, Any]]) -> None:
    body: dict[str, Any] = {"model": model, "records": records}
    if path == "predictions":
        body["version"] = "1"
    answer = client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == len(records), answer.text


def send_day(
    client: TestClient, model: str, day: int, rows: list[dict[str, Any]], labels: list[Any]
) -> None:
    start = DAY + timedelta(days=day)
    step = timedelta(days=1) / len(rows)
    records = [
        {"prediction_id": f"{day}-{i}", "ts": (start + i * step).isoformat(), **row}
        for i, row in enumerate(rows)
    ]
    send(client, "predictions", model, records)
    later = (start + timedelta(days=1)).isoformat()
    truths = [
        {"prediction_id": f"{day}-{i}", "label": label, "label_ts": later}
        for i, label in enumerate(labels)
    ]
    send(client, "labels", model, truths)


def judged(client: TestClient, model: str) -> list[dict[str, Any]]:
    """Return the windows, their measurements by metric and subject."""
    found = []
    for window in client.get(f"/v1/models/{model}/windows").json()["windows"]:
        whole = client.get(f"/v1/models/{model}/windows/{window['start']}").json()
        whole["by"] = {(m["metric"], m["subject"]): m for m in whole["measurements"]}
        found.append(whole)
    return found


def prices(seed: int, n: int = ROWS, noise: float = 10.0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    age = rng.uniform(0, 20, n)
    predicted = 500 - 20 * age
    return age, predicted, predicted + rng.normal(0, noise, n)


def price_records(age: Any, predicted: Any) -> list[dict[str, Any]]:
    return [
        {"features": {"age": a}, "prediction": p}
        for a, p in zip(age.tolist(), predicted.tolist(), strict=True)
    ]


def test_a_regression_is_watched_from_its_reference_to_its_verdict(
    client: TestClient, pipeline: Pipeline, engine: Engine
) -> None:
    put(client, "prices", {"task": "regression"})
    put(client, "prices/versions/1", {})
    age, predicted, label = prices(0, 4000)
    stored = put_reference(
        client,
        "prices",
        pa.table({"age": age, "p": predicted, "label": label}),
        prediction="p",
    )
    assert (stored["rows"], stored["labelled"], stored["classes"]) == (4000, 4000, [])
    assert [f["name"] for f in stored["features"]] == ["age"]
    assert {w["code"] for w in stored["warnings"]} == {"no-times"}
    monitor = client.get("/v1/models/prices/monitor").json()
    assert monitor["performance"]["metrics"] == ["rmse", "mae"]
    days = [prices(1), prices(2, noise=20.0), prices(3)]
    days[2] = (days[2][0], days[2][1] + 200, days[2][2] + 200)
    for day, (age, predicted, label) in enumerate(days):
        send_day(client, "prices", day, price_records(age, predicted), label.tolist())
    work(pipeline)
    windows = judged(client, "prices")
    verdicts = [w["verdicts"]["performance"] for w in windows]
    assert verdicts == ["ok", "alert", "ok"]
    assert [w["verdicts"]["drift"] for w in windows] == ["ok", "ok", "alert"]
    assert windows[2]["drifted_features"] == ["prediction"]
    assert windows[1]["action"] == "retrain"
    assert windows[1]["alerting_metrics"] == ["mae", "rmse"]
    error = days[1][1] - days[1][2]
    rmse, bias = windows[1]["by"]["rmse", None], windows[1]["by"]["mean_error", None]
    assert rmse["value"] == pytest.approx(np.sqrt((error**2).mean()))
    assert rmse["ci_low"] < rmse["value"] < rmse["ci_high"]
    assert bias["value"] == pytest.approx(error.mean())
    assert (bias["verdict"], bias["direction"]) == (None, "information")
    estimate = windows[0]["by"]["estimated_rmse", None]
    assert (estimate["value"], estimate["reason"]) == (None, "no_estimator")
    assert windows[0]["verdicts"]["estimated_performance"] == "insufficient_data"
    logged = client.get("/v1/models/prices/predictions/0-0").json()
    assert logged["predictions"][0]["prediction"] == pytest.approx(days[0][1][0])
    assert logged["label"] == pytest.approx(days[0][2][0])
    request = client.get("/v1/retraining-requests").json()["requests"][0]
    assert request["evidence"]["labelled_rows_per_class"] is None
    with engine.connect() as connection:
        row = connection.execute(
            text("SELECT prediction, label FROM logs.\"prices@1\" WHERE prediction_id = '0-0'")
        ).one()
    assert row == pytest.approx((days[0][1][0], days[0][2][0]))


@pytest.mark.parametrize(
    ("record", "code", "field"),
    [
        ({"prediction": "12"}, "bad-prediction", "prediction"),
        ({"prediction": True}, "bad-prediction", "prediction"),
        ({"prediction": 1.0, "score": 0.5}, "bad-score", "score"),
        ({"prediction": 1.0, "scores": {"a": 0.5}}, "bad-score", "scores"),
        ({"score": 0.5}, "bad-score", "score"),
        ({}, "missing-field", "prediction"),
        ({"prediction": 1 << 70}, "number-out-of-range", "prediction"),
    ],
)
def test_what_is_no_prediction_of_a_regression_costs_its_row(
    client: TestClient, record: dict[str, Any], code: str, field: str
) -> None:
    put(client, "prices", {"task": "regression"})
    put(client, "prices/versions/1", {"features": [{"name": "age", "kind": "numeric"}]})
    good = {"prediction_id": "a", "ts": "2026-01-01T00:00:00Z", "prediction": -3, "features": {}}
    bad = {"prediction_id": "b", "ts": "2026-01-01T00:00:00Z", **record}
    body = {"model": "prices", "version": "1", "records": [good, bad]}
    answer = client.post("/v1/predictions", json=body).json()
    assert answer["accepted"] == 1
    assert [(r["index"], r["code"], r["field"]) for r in answer["rejected"]] == [(1, code, field)]
    again = client.post("/v1/predictions", json=body).json()
    assert again["duplicates"] == 1
    label = {"prediction_id": "a", "label_ts": "2026-01-02T00:00:00Z"}
    labels = [{**label, "label": 2}, {**label, "prediction_id": "b", "label": "x"}]
    answer = client.post("/v1/labels", json={"model": "prices", "records": labels}).json()
    assert [(r["index"], r["code"]) for r in answer["rejected"]] == [(1, "bad-label")]
    conflict = [{**label, "label": 2.0}, {**label, "label": 2.5}]
    answer = client.post("/v1/labels", json={"model": "prices", "records": conflict}).json()
    assert answer["duplicates"] == 1
    assert [r["code"] for r in answer["rejected"]] == ["conflicting-label"]


def test_a_model_keeps_its_task_and_has_the_metrics_of_it(client: TestClient) -> None:
    put(client, "prices", {"task": "regression"})
    bad = client.put("/v1/models/prices/versions/1", json={"classes": ["0", "1"]})
    assert (bad.status_code, bad.json()["code"]) == (422, "invalid-document")
    put(client, "prices/versions/1", {})
    changed = client.put("/v1/models/prices", json={"task": "binary"})
    assert (changed.status_code, changed.json()["code"]) == (409, "conflict")
    for metric, code in (("recall", "invalid-document"), ("mean_error", "not-implemented")):
        document = {"performance": {"metrics": [metric]}}
        answer = client.put("/v1/models/prices/monitor", json=document)
        assert (answer.status_code, answer.json()["code"]) == (422, code), metric
    document = {"performance": {"metrics": ["rmsle"]}}
    assert put(client, "prices/monitor", document)["performance"]["metrics"] == ["rmsle"]
    put(client, "loans", {})
    answer = client.put("/v1/models/loans/monitor", json=document)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-document")


def test_a_score_cannot_be_mapped_for_a_regression(client: TestClient) -> None:
    put(client, "prices", {"task": "regression"})
    put(client, "prices/versions/1", {})
    answer = client.put(
        "/v1/models/prices/versions/1/reference",
        content="p,label,s\n1,2,0.5\n",
        params={"prediction": "p", "score": "s"},
        headers={"content-type": "text/csv"},
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-document")
