"""A fleet of models with results, put straight into the tables: as wide as a deployment gets."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session, sessionmaker

from service.alerts.tables import Signal
from service.evaluation.causes import Cause
from service.ledger.tables import WorkerHeartbeat
from service.registry.monitor import MonitorDocument
from service.registry.tables import Feature, Model, Monitor, Version
from service.runs.tables import LatestWindow, Measurement, Window

START = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS = 7
CLASSES = 5
BUCKETS = 8
METRICS = ("roc_auc", "accuracy")
OF_COLUMNS = ("missing_ratio", "out_of_range_ratio", "unseen_ratio")


def seed_fleet(
    sessions: sessionmaker[Session], *, models: int = 100, features: int = 50, slices: int = 10
) -> None:
    """Fill the tables with live versions, all of whose features drift and slices are declared."""
    with sessions.begin() as session:
        session.add(WorkerHeartbeat(worker="w1"))
        for number in range(models):
            _add_model(session, f"model-{number:03}", features, slices)


def _add_model(session: Session, name: str, features: int, slices: int) -> None:
    model = Model(name=name, task="binary", owner="fleet")
    session.add(model)
    session.flush()
    version = Version(model_id=model.id, name="7", stage="live")
    session.add(version)
    session.flush()
    own = {"model_id": model.id, "version_id": version.id}
    document = {"model": name, "slices": [{"column": "region"}]}
    stored = MonitorDocument.model_validate(document).model_dump(mode="json", exclude_unset=True)
    session.add(Monitor(model_id=model.id, revision=1, document=stored))
    session.execute(
        insert(Feature),
        [
            {
                **own,
                "name": f"feature_{n:02}",
                "kind": "numeric",
                "importance": 1 / (n + 1),
                "position": n,
            }
            for n in range(features)
        ],
    )
    windows = [_add_window(session, own, day) for day in range(DAYS)]
    for family in ("data", "estimate", "performance"):
        newest = windows[-1]
        session.add(LatestWindow(**own, family=family, start=newest.start, end=newest.end))
    session.execute(insert(Signal), list(_signals(version.id, features)))
    rows = enumerate(_measurements(features, slices))
    session.execute(
        insert(Measurement),
        [{**row, "position": at, "window_id": windows[-1].id} for at, row in rows],
    )


def _add_window(session: Session, own: dict[str, int], day: int) -> Window:
    window = Window(
        **own,
        start=START + day * DAY,
        end=START + (day + 1) * DAY,
        revision=1,
        latest=True,
        rows=5000,
        labelled=4100,
        label_coverage=0.82,
        verdicts=dict.fromkeys(
            ("quality", "drift", "estimated_performance", "performance", "concept", "slices"), "ok"
        ),
        drifted_features=[],
        alerting_metrics=[],
        warnings=[],
        action="watch",
        reason="",
        silent=False,
        data_digest="",
        digest="",
        config_revision=1,
    )
    session.add(window)
    session.flush()
    return window


def _signals(version_id: int, features: int) -> Iterator[dict[str, Any]]:
    for day in range(DAYS):
        for n in range(features):
            cause = Cause("drift", subject=f"feature_{n:02}")
            yield {
                "version_id": version_id,
                "cause": cause.key,
                "start": START + day * DAY,
                "end": START + (day + 1) * DAY,
                "kind": "drift",
                "metric": "",
                "subject": cause.subject,
                "slice": "",
                "state": "alert",
                "severity": "warning",
                "action": "watch",
                "reason": "",
            }


def _measurement(metric: str, **overrides: Any) -> dict[str, Any]:
    return {
        "metric": metric,
        "subject": None,
        "slice": None,
        "value": 0.8123456789012345,
        "ci_low": 0.78,
        "ci_high": 0.82,
        "n": 4100,
        "method": "delong",
        "engine": "profile",
        "direction": "lower_is_worse",
        "reference_value": 0.9,
        "threshold": 0.89,
        "verdict": "ok",
        **overrides,
    }


def _measurements(features: int, slices: int) -> Iterator[dict[str, Any]]:
    for n in range(features):
        subject = f"feature_{n:02}"
        yield _measurement("drift", subject=subject, method="jensen_shannon")
        for metric in OF_COLUMNS:
            yield _measurement(metric, subject=subject, method="fisher")
    for metric in METRICS:
        yield _measurement(metric)
        yield _measurement(f"estimated_{metric}")
        for n in range(slices):
            yield _measurement(metric, slice=f"region={n}")
    for n in range(CLASSES):
        yield _measurement("recall", subject=f"class {n}")
    for n in range(BUCKETS):
        yield _measurement("prediction_share", subject=f"{n}: bucket", direction="information")
    yield _measurement("label_coverage")
