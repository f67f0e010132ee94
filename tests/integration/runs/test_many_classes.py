"""Models of many classes, from the first PUT to a judged window, over HTTP."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics
from sqlalchemy import Engine, text

from service.runs.pipeline import Pipeline
from tests.clients import TestClient
from tests.integration.runs.bench import work
from tests.integration.runs.tasks import ROWS, judged, put, put_reference, send_day, the_api


@pytest.fixture
def client(database_url: str) -> Iterator[TestClient]:
    with the_api(database_url) as client:
        yield client


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
