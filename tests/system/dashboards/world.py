"""Two models with something to see: one whose world changes, one of many classes."""

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from sqlalchemy import select

from service.db.engine import make_engine, make_sessions
from service.processes import generator
from service.processes.demo import as_parquet, prediction_records
from service.registry.tables import Model
from service.runs.tables import Window
from tests.integration.seeded import add_measurement
from tests.system.harness import Service

LOANS, KINDS, VERSION = "loans", "kinds", "7"
# The days of the generator's month in which everything goes wrong: the unit of a column, then
# customers, then the concept.
FIRST_DAY, DAYS, ROWS = 15, 6, 200
LABEL_DELAY = timedelta(minutes=1)
CLASSES = ("billing", "broken", "other")
MONITOR: dict[str, Any] = {
    "window": "1d",
    "min_rows": 20,
    "alert": {"open": "1 of 1"},
    "performance": {"label_horizon": None},
}
LOANS_MONITOR = {
    **MONITOR,
    "slices": [
        {"column": "region"},
        {"name": "large", "where": "loan_amount > 20000", "critical": True, "metric": "roc_auc"}
        | {"floor": 0.95},
    ],
    "fairness": [{"column": "region", "min_disparate_impact": 0.99}],
}


@dataclass(frozen=True)
class World:
    """The running service, and when what was judged began and ended."""

    service: Service
    start: datetime
    end: datetime


def build(service: Service, database_url: str) -> World:
    """Register both models, send what they predicted, and have it judged."""
    recent = datetime.now(UTC) - timedelta(hours=1)
    end = recent.replace(hour=0, minute=0, second=0, microsecond=0)
    _register_loans(service, end)
    _kinds(service, end)
    month = end - timedelta(days=FIRST_DAY + DAYS)
    last = FIRST_DAY + DAYS - 1
    for day in range(FIRST_DAY, last + 1):
        rows = generator.day_rows(month, day, rows=ROWS)
        if day == last:
            rows.features["employment_months"] *= generator.DAYS_A_MONTH
        send(service, "predictions", LOANS, prediction_records(rows))
        send(service, "labels", LOANS, _labels(rows))
    for model in (LOANS, KINDS):
        service.evaluate(model, end)
    _find_a_slice(database_url)
    return World(service, end - timedelta(days=DAYS), end)


def _labels(rows: generator.LoanRows) -> list[dict[str, Any]]:
    later = (rows.ts + np.timedelta64(LABEL_DELAY, "us")).astype("datetime64[us]")
    known = np.datetime_as_string(later)
    return [
        {"prediction_id": one, "label": label, "label_ts": f"{at}Z"}
        for one, label, at in zip(rows.ids, rows.label.tolist(), known, strict=True)
    ]


def send(service: Service, kind: str, model: str, records: list[dict[str, Any]]) -> Any:
    """Send records; the answer says what became of them."""
    envelope: dict[str, Any] = {"model": model, "records": records}
    if kind == "predictions":
        envelope["version"] = VERSION
    return service.client.post(f"/v1/{kind}", json=envelope).json()


def traffic(world: World, database_url: str) -> None:
    """Do of each kind what a process counts: rows that wait, repeat, are refused; a webhook."""
    month = world.end - timedelta(days=FIRST_DAY + DAYS)
    row = prediction_records(generator.day_rows(month, FIRST_DAY, rows=1))[0]
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "ALTER TABLE prediction ADD CHECK (prediction_id <> 'refused') NOT VALID"
        )
    send(world.service, "predictions", LOANS, [row, row | {"prediction_id": "refused"}])
    label = {"prediction_id": "nobody", "label": 1, "label_ts": world.end.isoformat()}
    send(world.service, "labels", LOANS, [label])
    world.service.put("/v1/webhooks/nobody", {"url": "http://127.0.0.1:9/"})
    assert world.service.client.post("/v1/webhooks/nobody/test").status_code == 202


def _register(
    service: Service, model: str, task: str, version: dict[str, Any], reference: bytes
) -> None:
    path = f"/v1/models/{model}"
    service.put(path, {"task": task, "owner": "risk"})
    service.put(f"{path}/versions/{VERSION}", {"stage": "live", **version})
    answer = service.client.put(
        f"{path}/versions/{VERSION}/reference",
        content=reference,
        headers={"Content-Type": "application/vnd.apache.parquet"},
    )
    assert answer.status_code == 200, answer.text


def _register_loans(service: Service, end: datetime) -> None:
    version = {"features": list(generator.SCHEMA), "classes": ["0", "1"], "positive_class": "1"}
    reference = generator.reference_rows(end - timedelta(days=FIRST_DAY + DAYS), rows=2_000)
    _register(service, LOANS, "binary", version, as_parquet(reference))
    service.put(f"/v1/models/{LOANS}/monitor", {"model": LOANS, **LOANS_MONITOR})


def _kinds(service: Service, end: datetime) -> None:
    rng = np.random.default_rng(7)
    reference = _tickets(rng, 900)
    version = {"features": [{"name": "length", "kind": "numeric"}], "classes": list(CLASSES)}
    content = io.BytesIO()
    reference.to_parquet(content, index=False)
    _register(service, KINDS, "multiclass", version, content.getvalue())
    judged = {"performance": {**MONITOR["performance"], "metrics": ["accuracy", "recall"]}}
    service.put(f"/v1/models/{KINDS}/monitor", {"model": KINDS, **MONITOR, **judged})
    start = end - timedelta(days=1)
    predictions, labels = [], []
    for number, row in enumerate(_tickets(rng, 300).to_dict("records")):
        at = (start + timedelta(minutes=4 * number)).isoformat()
        scores = {name: row[f"scores.{name}"] for name in CLASSES}
        one = {"prediction_id": f"ticket-{number}", "ts": at, "prediction": row["prediction"]}
        predictions.append({**one, "scores": scores, "features": {"length": row["length"]}})
        labels.append({"prediction_id": f"ticket-{number}", "label": row["label"], "label_ts": at})
    send(service, "predictions", KINDS, predictions)
    send(service, "labels", KINDS, labels)


def _tickets(rng: np.random.Generator, n: int) -> pd.DataFrame:
    scores = rng.dirichlet((2.0, 1.0, 3.0), n)
    drawn = (scores.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return pd.DataFrame(
        {
            "length": rng.normal(100.0, 20.0, n),
            "prediction": [CLASSES[i] for i in scores.argmax(axis=1)],
            "label": [CLASSES[i] for i in drawn],
            **{f"scores.{name}": scores[:, i] for i, name in enumerate(CLASSES)},
        }
    )


def _find_a_slice(database_url: str) -> None:
    """Record a found slice as the worker does; to find one takes more rows than are sent here."""
    engine = make_engine(database_url)
    with make_sessions(engine).begin() as session:
        windows = session.scalars(
            select(Window).join(Model, Model.id == Window.model_id).where(Model.name == LOANS)
        )
        for window in windows:
            found = {"metric": "accuracy", "slice": "region=north", "value": 0.4, "p_value": 1e-9}
            of_rows = {"method": "discovered", "engine": "labelled_rows"}
            add_measurement(session, window, 10_000, **found, **of_rows)
    engine.dispose()
