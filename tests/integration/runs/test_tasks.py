"""Models that are not binary, from the first PUT to a judged window, over HTTP."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr
from sklearn import metrics
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.reader import RowReader
from service.processes.api import create_app
from service.runs.pipeline import Pipeline
from service.settings import Settings
from tests.clients import TestClient
from tests.integration.runs.bench import a_pipeline, work

DAY = datetime(2026, 11, 1, tzinfo=UTC)
ROWS = 400
PARQUET = {"content-type": "application/vnd.apache.parquet"}


@pytest.fixture
def client(database_url: str) -> Iterator[TestClient]:
    app = create_app(Settings(database_url=SecretStr(database_url)), keyless=True)
    with TestClient(app, base_url="http://localhost") as client:
        yield client


@pytest.fixture
def pipeline(sessions: sessionmaker[Session], database_url: str) -> Iterator[Pipeline]:
    reader = RowReader(database_url)
    yield a_pipeline(sessions, reader)
    reader.close()


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


CARDS = ("prepaid", "highstreet", "up %: market")


def cards(seed: int, n: int = ROWS, noise: float = 0.0) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(seed)
    limit = rng.normal(0, 1, n)
    logits = np.stack([-2 * limit, np.zeros(n), 2 * limit], axis=1)
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    label = (scores.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, 2)
    label = np.where(rng.random(n) < noise, rng.integers(0, 3, n), label)
    return limit, scores, scores.argmax(axis=1), label


def card_records(limit: Any, scores: Any, predicted: Any) -> list[dict[str, Any]]:
    return [
        {
            "features": {"limit": at},
            "prediction": CARDS[which],
            "scores": dict(zip(reversed(CARDS), reversed(each), strict=True)),
        }
        for at, each, which in zip(limit.tolist(), scores.tolist(), predicted.tolist(), strict=True)
    ]


def card_reference(n: int = 4000) -> pa.Table:
    limit, scores, predicted, label = cards(0, n)
    names = np.array(CARDS)
    return pa.table(
        {
            "limit": limit,
            "prediction": names[predicted],
            "label": names[label],
            **{f"scores.{name}": scores[:, i] for i, name in enumerate(CARDS)},
        }
    )


@pytest.mark.parametrize("declared", [True, False])
def test_many_classes_are_watched_from_their_reference_to_their_verdict(
    client: TestClient, pipeline: Pipeline, engine: Engine, declared: bool
) -> None:
    put(client, "cards", {"task": "multiclass"})
    put(client, "cards/versions/1", {"classes": list(CARDS)} if declared else {})
    stored = put_reference(client, "cards", card_reference())
    classes = list(CARDS) if declared else sorted(CARDS)
    assert (stored["classes"], stored["positive_class"]) == (classes, None)
    assert [f["name"] for f in stored["features"]] == ["limit"]
    assert {w["code"] for w in stored["warnings"]} == {"no-times"}
    monitor = put(client, "cards/monitor", {"alert": {"open": "1 of 1"}})
    assert monitor["performance"]["metrics"] == ["roc_auc", "accuracy", "f1"]
    days = [cards(1), cards(2, noise=0.6)]
    for day, (limit, scores, predicted, label) in enumerate(days):
        labels = [CARDS[i] for i in label.tolist()]
        send_day(client, "cards", day, card_records(limit, scores, predicted), labels)
    work(pipeline)
    windows = judged(client, "cards")
    assert [w["verdicts"]["performance"] for w in windows] == ["ok", "alert"]
    assert [w["verdicts"]["drift"] for w in windows] == ["ok", "ok"]
    assert [w["verdicts"]["quality"] for w in windows] == ["ok", "ok"]
    losses = {"roc_auc", "accuracy", "f1"}
    concept = {*(f"concept_drift_{name}" for name in losses), "calibration_drift"}
    # The labels changed, and the scores did not announce it.
    assert set(windows[1]["alerting_metrics"]) == losses | concept
    assert [w["verdicts"]["concept"] for w in windows[:2]] == ["ok", "alert"]
    assert [w["verdicts"]["estimated_performance"] for w in windows[:2]] == ["ok", "ok"]
    assert windows[1]["action"] == "retrain"
    _, scores, predicted, label = days[1]
    by = windows[1]["by"]
    assert by["concept_drift_accuracy", None]["reason"] == "less_than_promised"
    for name, expected in (
        ("accuracy", metrics.accuracy_score(label, predicted)),
        ("f1", metrics.f1_score(label, predicted, average="macro")),
        ("log_loss", metrics.log_loss(label, scores)),
    ):
        assert by[name, None]["value"] == pytest.approx(expected), name
    auc = metrics.roc_auc_score(label, scores, multi_class="ovr")
    assert by["roc_auc", None]["value"] == pytest.approx(auc, abs=1e-4)
    # Not an upper bound: rows of the reference tell how much of the classes' errors is left.
    assert by["roc_auc", None]["method"] == by["roc_auc", CARDS[0]]["method"] == "delong_logit"
    assert by["average_precision", None]["method"] == "delta_logit"
    recall = metrics.recall_score(label, predicted, average=None)
    assert [by["recall", name]["value"] for name in CARDS] == pytest.approx(recall)
    assert {("drift", f"scores.{name}") for name in CARDS} <= set(by)
    assert by["estimated_f1", None]["value"] == pytest.approx(0.68, abs=0.2)
    logged = client.get("/v1/models/cards/predictions/1-0").json()["predictions"][0]
    assert logged["scores"] == pytest.approx(dict(zip(CARDS, scores[0], strict=True)))
    request = client.get("/v1/retraining-requests").json()["requests"][0]
    found = request["evidence"]["labelled_rows_per_class"]
    assert found == {name: int((label == i).sum()) for i, name in enumerate(CARDS)}
    with engine.connect() as connection:
        row = connection.execute(
            text("SELECT scores FROM logs.\"cards@1\" WHERE prediction_id = '1-0'")
        ).scalar_one()
    assert len(row) == 3


@pytest.mark.parametrize(
    ("record", "code", "field"),
    [
        ({"prediction": "x"}, "unknown-class", "prediction"),
        ({"prediction": "a", "score": 0.5}, "bad-score", "score"),
        ({"scores": {"a": 0.5, "b": 0.5}}, "bad-score", "scores"),
        ({"scores": {"a": 0.5, "b": 0.5, "x": 0}}, "unknown-class", "scores"),
        ({"scores": {"a": 0.5, "b": 0.5, "c": 1.5}}, "bad-score", "scores"),
        ({"scores": {"a": 0.5, "b": 0.5, "c": None}}, "bad-score", "scores"),
        ({"scores": [0.5]}, "bad-score", "scores"),
        ({}, "missing-field", "prediction"),
    ],
)
def test_what_is_no_prediction_of_many_classes_costs_its_row(
    client: TestClient, record: dict[str, Any], code: str, field: str
) -> None:
    put(client, "cards", {"task": "multiclass"})
    put(client, "cards/versions/1", {"classes": ["c", "a", "b"]})
    when = {"ts": "2026-01-01T00:00:00Z", "features": {}}
    scores = {"a": 0, "b": 0.25, "c": 1}
    good = {**when, "prediction_id": "a", "scores": scores}
    also = {**when, "prediction_id": "c", "prediction": "a"}
    bad = {**when, "prediction_id": "b", **record}
    body = {"model": "cards", "version": "1", "records": [good, bad, also]}
    answer = client.post("/v1/predictions", json=body).json()
    assert answer["accepted"] == 2
    assert [(r["index"], r["code"], r["field"]) for r in answer["rejected"]] == [(1, code, field)]
    assert client.post("/v1/predictions", json=body).json()["duplicates"] == 2
    read = [
        client.get(f"/v1/models/cards/predictions/{name}").json()["predictions"][0]["scores"]
        for name in ("a", "c")
    ]
    assert read == [scores, None]


@pytest.mark.parametrize(
    "document",
    [
        {"classes": ["a", "b"]},
        {"classes": ["a", "b", "a"]},
        {"classes": ["a", "b", "c"], "positive_class": "a"},
        {"classes": [str(i) for i in range(51)]},
    ],
)
def test_classes_that_many_classes_cannot_have(
    client: TestClient, document: dict[str, Any]
) -> None:
    put(client, "cards", {"task": "multiclass"})
    answer = client.put("/v1/models/cards/versions/1", json=document)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-document")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("prediction,label\na,b\nb,a\n", "unknown-classes"),
        ("prediction,label,scores.a\na,b,0.5\nb,c,0.5\n", "bad-column"),
        ("prediction,label,scores.a,scores.b,scores.c\na,b,0.5,2,0\nb,c,1,0,0\n", "bad-column"),
    ],
)
def test_a_reference_that_many_classes_cannot_have(
    client: TestClient, body: str, code: str
) -> None:
    put(client, "cards", {"task": "multiclass"})
    put(client, "cards/versions/1", {})
    answer = client.put(
        "/v1/models/cards/versions/1/reference", content=body, headers={"content-type": "text/csv"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_scores_that_come_with_a_later_reference_get_edges(client: TestClient) -> None:
    put(client, "cards", {"task": "multiclass"})
    put(client, "cards/versions/1", {})
    table = card_reference(1200)
    plain = put_reference(client, "cards", table.select(["limit", "prediction", "label"]))
    assert "no-scores" not in {w["code"] for w in plain["warnings"]}
    assert put_reference(client, "cards", table)["binning_revision"] == 2
    assert put_reference(client, "cards", table)["binning_revision"] == 2


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


def test_slices_and_fairness_of_many_classes_are_judged(
    client: TestClient, pipeline: Pipeline
) -> None:
    names = ["no", "maybe", "yes"]
    put(client, "loans", {"task": "multiclass"})
    put(client, "loans/versions/1", {"classes": names})

    def people(seed: int, n: int, bias: float) -> tuple[list[str], list[str], list[str]]:
        rng = np.random.default_rng(seed)
        sex, label = rng.choice(["f", "m"], n), rng.choice(names, n)
        wrong = rng.random(n) < np.where(sex == "f", bias, 0.1)
        return sex.tolist(), np.where(wrong, "no", label).tolist(), label.tolist()

    sex, predicted, label = people(0, 4000, 0.1)
    put_reference(
        client, "loans", pa.table({"sex": sex, "p": predicted, "label": label}), prediction="p"
    )
    answer = client.put(
        "/v1/models/loans/monitor", json={"model": "loans", "fairness": [{"column": "sex"}]}
    )
    assert (answer.status_code, "favourable_class" in answer.text) == (422, True)
    put(
        client,
        "loans/monitor",
        {
            "performance": {"metrics": ["accuracy"]},
            "slices": [{"column": "sex"}],
            "fairness": [{"column": "sex", "favourable_class": "yes"}],
        },
    )
    sex, predicted, label = people(1, 900, 0.5)
    rows = [{"features": {"sex": s}, "prediction": p} for s, p in zip(sex, predicted, strict=True)]
    send_day(client, "loans", 0, rows, label)
    work(pipeline)
    (window,) = judged(client, "loans")
    found = {(m["metric"], m["slice"] or m["subject"]): m for m in window["measurements"]}
    assert found["accuracy", "sex=f"]["verdict"] == "alert"
    assert found["accuracy", "sex=m"]["verdict"] == "ok"
    selected = {s: np.mean([p == "yes" for x, p in zip(sex, predicted, strict=True) if x == s])
                for s in ("f", "m")}  # fmt: skip
    impact = found["disparate_impact", "sex"]
    assert impact["value"] == pytest.approx(selected["f"] / selected["m"])
    assert (impact["verdict"], impact["reason"]) == ("alert", "f against m")
