"""Models of numbers, from the first PUT to a judged window, over HTTP."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import Engine, text

from service.runs.pipeline import Pipeline
from tests.clients import TestClient
from tests.integration.runs.bench import work
from tests.integration.runs.tasks import ROWS, judged, put, put_reference, send_day, the_api


@pytest.fixture
def client(database_url: str) -> Iterator[TestClient]:
    with the_api(database_url) as client:
        yield client


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
    monitor = put(client, "prices/monitor", {"alert": {"open": "1 of 1"}})
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
    assert (bias["verdict"], bias["direction"]) == (None, "either_is_worse")
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
    for metric in ("recall", "prediction_mean"):
        document = {"performance": {"metrics": [metric]}}
        answer = client.put("/v1/models/prices/monitor", json=document)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-document"), metric
    document = {"performance": {"metrics": ["rmsle", "mean_error"]}}
    stored = put(client, "prices/monitor", document)
    assert stored["performance"]["metrics"] == ["rmsle", "mean_error"]
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


def test_slices_of_a_regression_are_judged_and_a_critical_one_has_a_ceiling(
    client: TestClient, pipeline: Pipeline
) -> None:
    put(client, "prices", {"task": "regression"})
    put(client, "prices/versions/1", {})
    age, predicted, label = prices(0, 4000)
    put_reference(
        client, "prices", pa.table({"age": age, "p": predicted, "label": label}), prediction="p"
    )
    old = {"name": "old", "where": "age > 10", "critical": True, "metric": "rmse", "ceiling": 15}
    refused = {**old, "ceiling": None, "floor": 0.5}
    answer = client.put("/v1/models/prices/monitor", json={"model": "prices", "slices": [refused]})
    assert (answer.status_code, "has a ceiling" in answer.text) == (422, True)
    young = {"name": "young", "where": "age < 10 and label > 0"}
    put(client, "prices/monitor", {"slices": [old, young]})
    age, predicted, label = prices(1, 800)
    label = np.where(age > 10, predicted + 2.5 * (label - predicted), label)
    send_day(client, "prices", 0, price_records(age, predicted), label.tolist())
    work(pipeline)
    (window,) = judged(client, "prices")
    found = {(m["metric"], m["slice"]): m for m in window["measurements"] if m["slice"]}
    error = (predicted - label)[age > 10]
    rmse = found["rmse", "old"]
    assert rmse["value"] == pytest.approx(np.sqrt((error**2).mean()))
    assert (rmse["verdict"], rmse["reason"], rmse["threshold"]) == ("alert", "over_ceiling", 15)
    assert found["mae", "young"]["verdict"] == "ok"
    assert found["mae", "young"]["n"] == int((age < 10).sum())
    assert window["verdicts"]["slices"] == "alert"
