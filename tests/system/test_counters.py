"""What ``/metrics`` counts is what the database holds and what clients were told."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.system.harness import Service, running

MODELS = ("loans", "cards")
REQUESTS = 160
CLIENTS = 8


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with running(database_url, tmp_path) as service:
        for model in MODELS:
            service.put(f"/v1/models/{model}", {})
            document = {
                "features": [{"name": "income", "kind": "numeric"}],
                "classes": ["0", "1"],
                "positive_class": "1",
            }
            service.put(f"/v1/models/{model}/versions/7", document)
        yield service


def a_row(chance: random.Random) -> dict[str, Any]:
    """Return a prediction: new, told before, contradicting another, or wrong."""
    row = {
        "prediction_id": f"p{chance.randrange(600)}",
        "ts": "2026-01-02T03:04:05Z",
        "features": {"income": 1},
        "prediction": "1",
        "score": 0.5 if chance.random() < 0.9 else 0.25,
    }
    if chance.random() < 0.1:
        row["features"] = {chance.choice(["unknown", "a\0b"]): 1}
    if chance.random() < 0.05:
        row["prediction_id"] = ""
    return row


def a_label(chance: random.Random) -> dict[str, Any]:
    return {
        "prediction_id": f"p{chance.randrange(900)}",
        "label": chance.choice([1, 1, 1, 0, "never"]),
        "label_ts": "2026-02-01T00:00:00Z",
    }


def send(service: Service, seed: int) -> list[tuple[str, httpx.Response]]:
    """Send one of the mixed requests, some of them twice; return its kind and the answers."""
    chance = random.Random(seed)
    model = chance.choice([*MODELS, *MODELS, "nobody"])
    kind = chance.choice(["predictions", "labels"])
    make = a_row if kind == "predictions" else a_label
    rows = [make(chance) for _ in range(chance.randrange(1, 30))]
    headers = {"Content-Type": "application/json"}
    if chance.random() < 0.3:
        headers["Idempotency-Key"] = str(seed % 40)
    if chance.random() < 0.3:
        rows = [{"model": model, "version": "7", **row} for row in rows]
        body = "\n".join([*map(json.dumps, rows), *["{"] * (seed % 3)])
        headers["Content-Type"] = "application/x-ndjson"
    else:
        document = {"model": model, "version": "7", "records": rows}
        body = json.dumps(document)[: -1 if seed % 17 == 0 else None]
    times = 2 if chance.random() < 0.2 else 1
    path = f"/v1/{kind}"
    return [(kind, service.client.post(path, content=body, headers=headers)) for _ in range(times)]


def told(answers: list[tuple[str, httpx.Response]]) -> Counter[tuple[str, str]]:
    """Return what clients were told became of their rows."""
    found: Counter[tuple[str, str]] = Counter()
    for kind, answer in answers:
        document = answer.json()
        if "idempotency-replayed" in answer.headers:
            continue
        if answer.status_code == 200:
            found[kind, "accepted"] += document["accepted"]
            found[kind, "duplicate"] += document["duplicates"]
        if answer.status_code == 200 or document["code"] == "all-rejected":
            found[kind, "rejected"] += len(document["rejected"])
    return found


def counted(service: Service, name: str, *metric_labels: str) -> Counter[tuple[str, ...]]:
    text = service.client.get("/metrics").text
    found: Counter[tuple[str, ...]] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                found[tuple(sample.labels[label] for label in metric_labels)] += int(sample.value)
    return found


def test_counters_are_equal_to_the_database_after_a_mix(
    service: Service, database_url: str
) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        sent = pool.map(lambda seed: send(service, seed), range(REQUESTS))
        answers = [answer for both in sent for answer in both]
    assert {answer.status_code for _, answer in answers} == {200, 400, 404, 422}
    rows = counted(service, "modelwatch_ingest_rows_total", "model", "kind", "result")
    with psycopg.connect(database_url) as connection:
        for kind, table in (("predictions", "prediction"), ("labels", "label")):
            statement = f"SELECT m.name, count(*) FROM {table} JOIN model m ON m.id = model_id"
            stored: dict[str, int] = dict(connection.execute(f"{statement} GROUP BY 1").fetchall())
            assert stored == {model: rows[model, kind, "accepted"] for model in MODELS}
        refused = connection.execute(
            "SELECT coalesce(sum(rows), 0) FROM ingest_fault WHERE field = ''"
        ).fetchone()
    # Rows of models that nobody has registered are in no model's table of faults.
    known = sum(n for (model, _, result), n in rows.items() if model and result == "rejected")
    assert refused == (known,)
    batches = counted(service, "modelwatch_ingest_batches_total", "outcome")
    # What found the database away on a machine that stalled was sent again.
    assert batches.total() - batches["database-away",] == len(answers)
    assert batches["replayed",] > 0
    assert batches["key-reused",] > 0
    by_result: Counter[tuple[str, str]] = Counter()
    for (_, kind, result), count in rows.items():
        by_result[kind, result] += count
    assert by_result == told(answers)
