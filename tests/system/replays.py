"""Data sets with known answers, sent to the running service as their owners would."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from tests.system.harness import Service, eventually

VERSION = "1"
BATCH = 2_500
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Replay:
    """A model, its reference, and what it predicted.

    ``rows`` has ``id``, ``ts``, ``prediction``, ``label`` (may be missing), ``score`` or
    ``scores.<class>`` where the model has them, and the features; so has the ``reference``.
    """

    model: str
    task: str
    features: Sequence[str]
    reference: pd.DataFrame
    rows: pd.DataFrame
    monitor: Mapping[str, Any]
    version: Mapping[str, Any] = field(default_factory=dict)


def in_days(rows: pd.DataFrame, chunk: int) -> pd.Series:
    """Return times that give every chunk of rows a day of its own."""
    step = timedelta(days=1) / chunk
    return pd.Series(
        [FIRST + timedelta(days=i // chunk) + (i % chunk) * step for i in range(len(rows))],
        index=rows.index,
    )


def register(service: Service, replay: Replay) -> dict[str, Any]:
    """Register the model with its version, reference and monitor; return the reference's answer."""
    path = f"/v1/models/{replay.model}"
    service.put(path, {"task": replay.task, "owner": "tests"})
    service.put(f"{path}/versions/{VERSION}", {"stage": "live", **replay.version})
    content = io.BytesIO()
    replay.reference.to_parquet(content, index=False)
    answer = service.client.put(
        f"{path}/versions/{VERSION}/reference",
        content=content.getvalue(),
        headers={"Content-Type": "application/vnd.apache.parquet"},
    )
    assert answer.status_code == 200, answer.text
    service.put(f"{path}/monitor", {"model": replay.model, **replay.monitor})
    found: dict[str, Any] = answer.json()
    return found


def send_predictions(service: Service, replay: Replay) -> None:
    """Send every prediction."""
    _send(service, "/v1/predictions", {"model": replay.model, "version": VERSION}, _records(replay))


def send_labels(service: Service, replay: Replay) -> None:
    """Send every label that there is."""
    known = replay.rows[replay.rows["label"].notna()]
    times = known["label_ts"] if "label_ts" in known else known["ts"]
    records = [
        {"prediction_id": str(number), "label": label, "label_ts": at.isoformat()}
        for number, label, at in zip(known["id"], map(_plain, known["label"]), times, strict=True)
    ]
    _send(service, "/v1/labels", {"model": replay.model}, records)


def judged(service: Service, replay: Replay) -> list[dict[str, Any]]:
    """Return the windows with their measurements, once each has been judged on all its labels."""
    path = f"/v1/models/{replay.model}/windows"
    rows, labels = len(replay.rows), int(replay.rows["label"].notna().sum())

    def complete() -> bool:
        service.check_alive()
        windows = service.get(path, version=VERSION)["windows"]
        counted = [sum(int(window[name]) for window in windows) for name in ("rows", "labelled")]
        return counted == [rows, labels]

    message = f"{replay.model}: not all rows were judged"
    eventually(complete, seconds=400, every=0.3, message=message)
    service.evaluate(replay.model, replay.rows["ts"].max() + timedelta(days=32))
    windows = service.get(path, version=VERSION)["windows"]
    return [service.get(f"{path}/{window['start']}", version=VERSION) for window in windows]


def measurements(
    window: Mapping[str, Any], metric: str, subject: str | None = None, **of: str | None
) -> list[dict[str, Any]]:
    """Return what a window says of a metric of a subject, without slices unless one is named."""
    wanted = {"metric": metric, "subject": subject, "slice": None, **of}
    return [
        found
        for found in window["measurements"]
        if all(found[name] == value for name, value in wanted.items())
    ]


def measured(
    window: Mapping[str, Any], metric: str, subject: str | None = None, **of: str | None
) -> dict[str, Any]:
    """Return the one measurement of a metric of a subject."""
    found = measurements(window, metric, subject, **of)
    assert len(found) == 1, (metric, subject, found)
    return found[0]


def _records(replay: Replay) -> list[dict[str, Any]]:
    rows = replay.rows
    features = rows[list(replay.features)].to_dict("records")
    classes = [name for name in rows.columns if name.startswith("scores.")]
    scores = rows[classes].to_dict("records")
    records = []
    for position, (number, at, predicted) in enumerate(
        zip(rows["id"], rows["ts"], rows["prediction"], strict=True)
    ):
        record = {
            "prediction_id": str(number),
            "ts": at.isoformat(),
            "features": {
                name: None if pd.isna(value) else value
                for name, value in features[position].items()
            },
            "prediction": _plain(predicted),
        }
        if "score" in rows:
            record["score"] = float(rows["score"].iloc[position])
        if classes:
            record["scores"] = {
                str(name).removeprefix("scores."): value for name, value in scores[position].items()
            }
        records.append(record)
    return records


def _plain(value: Any) -> Any:
    """Return a number as one, and a class by its name."""
    if isinstance(value, float):
        return value
    return str(value)


def _send(
    service: Service, path: str, envelope: dict[str, Any], records: list[dict[str, Any]]
) -> None:
    for first in range(0, len(records), BATCH):
        batch = records[first : first + BATCH]
        answer = service.client.post(path, json={**envelope, "records": batch})
        assert answer.status_code == 200, answer.text[:300]
        counts = answer.json()
        assert counts["accepted"] == len(batch), counts
        assert counts["rejected"] == [], counts
