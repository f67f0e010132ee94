"""Two versions' worth of recorded results, put straight into the tables."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy.orm import Session, sessionmaker

from service.alerts.tables import Incident, Signal
from service.buckets.tables import BucketProfile
from service.evaluation.causes import Cause
from service.ledger.tables import DueWork, WorkerHeartbeat
from service.profiles.profile import PerformanceProfile
from service.profiles.serialise import performance_to_bytes
from service.registry.repository import find_version
from service.registry.schemas import ModelDocument, VersionDocument
from service.registry.service import put_model, put_version
from service.registry.tables import Binning
from service.registry.values import VersionSpec
from service.retraining.service import request_retraining
from service.retraining.tables import RetrainingRequest
from service.runs.tables import LatestWindow, Measurement, Window
from tests.integration.webhooks.receiver import add_webhook

START = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOSTILE = 'a "quoted" back\\slash {x="1"}'


def register(sessions: sessionmaker[Session], name: str, stage: str = "live") -> VersionSpec:
    """Register a version of ``loans`` with two features."""
    document = {
        "features": [
            {"name": "income", "kind": "numeric", "importance": 0.3},
            {"name": HOSTILE, "kind": "categorical"},
        ],
        "classes": ["0", "1"],
        "positive_class": "1",
        "stage": stage,
    }
    with sessions.begin() as session:
        put_model(session, "loans", ModelDocument(owner="risk"))
        put_version(session, "loans", name, VersionDocument.model_validate(document))
    with sessions() as session:
        return find_version(session, "loans", name)


def add_window(
    session: Session, version: VersionSpec, day: int = 0, revision: int = 1, **overrides: Any
) -> Window:
    """Add a window of one day, by default its only revision."""
    fields: dict[str, Any] = {
        "model_id": version.model_id,
        "version_id": version.version_id,
        "start": START + day * DAY,
        "end": START + (day + 1) * DAY,
        "revision": revision,
        "latest": True,
        "rows": 5000,
        "labelled": 4100,
        "label_coverage": 0.82,
        "verdicts": {
            "quality": "ok",
            "drift": "alert",
            "estimated_performance": "insufficient_data",
            "performance": "alert",
        },
        "drifted_features": ["income"],
        "alerting_metrics": ["roc_auc"],
        "warnings": [],
        "action": "retrain",
        "reason": "the model got worse",
        "silent": False,
        "reference_revision": 1,
        "config_revision": 0,
        "digest": "",
        "data_digest": "",
    }
    known = {column.key for column in Window.__mapper__.column_attrs}
    window = Window(**{k: v for k, v in {**fields, **overrides}.items() if k in known})
    session.add(window)
    session.flush()
    return window


def add_measurement(session: Session, window: Window, position: int, **overrides: Any) -> None:
    """Add a measurement, by default an ROC AUC that alerts."""
    fields: dict[str, Any] = {
        "window_id": window.id,
        "position": position,
        "metric": "roc_auc",
        "value": 0.8,
        "ci_low": 0.78,
        "ci_high": 0.82,
        "n": 4100,
        "method": "delong",
        "engine": "profile",
        "direction": "lower_is_worse",
        "reference_value": 0.9,
        "threshold": 0.89,
        "verdict": "alert",
    }
    session.add(Measurement(**{**fields, **overrides}))


def add_drift(session: Session, window: Window, position: int, subject: str, **more: Any) -> None:
    """Add a drift score."""
    fields = {
        "metric": "drift",
        "subject": subject,
        "value": 0.31,
        "ci_low": None,
        "ci_high": None,
        "method": "jensen_shannon",
        "direction": "higher_is_worse",
        "reference_value": None,
        "threshold": 0.1,
    }
    add_measurement(session, window, position, **{**fields, **more})


def point_latest(session: Session, window: Window) -> None:
    """Make the window the newest of all families."""
    for family in ("data", "estimate", "performance"):
        session.add(
            LatestWindow(
                version_id=window.version_id,
                family=family,
                model_id=window.model_id,
                start=window.start,
                end=window.end,
            )
        )


def add_labels(
    session: Session,
    version: VersionSpec,
    start: datetime,
    counts: list[int],
    *,
    binning_revision: int | None = None,
) -> None:
    """Add the performance profile of one bucket with so many rows of each class."""
    revision = 1 + start.hour if binning_revision is None else binning_revision
    binning = Binning(model_id=version.model_id, revision=revision, content=b"")
    session.add(binning)
    session.flush()
    table = np.array([[counts[0], 0], [0, counts[1]]], dtype=np.int64)
    scores = np.zeros((2, 2, 3), dtype=np.int64)
    profile = PerformanceProfile(
        labelled=sum(counts),
        unusable=0,
        confusion=table,
        confusion_weights=table.astype(float),
        confusion_weights_squared=table.astype(float),
        score_counts=scores,
        score_weights=scores.astype(float),
        losses=np.zeros((2, 4)),
    )
    session.add(
        BucketProfile(
            version_id=version.version_id,
            binning_id=binning.id,
            family="performance",
            start=start,
            rows=sum(counts),
            content=performance_to_bytes(profile),
        )
    )


def add_incident(sessions: sessionmaker[Session], **overrides: Any) -> int:
    """Add an incident of ``loans`` 7, by default an open one of income's drift."""
    with sessions.begin() as session:
        version = find_version(session, "loans", "7")
        fields: dict[str, Any] = {
            "model_id": version.model_id,
            "version_id": version.version_id,
            "kind": "drift",
            "metric": "",
            "subject": "income",
            "slice": "",
            "state": "open",
            "severity": "warning",
            "action": "watch",
            "reason": "drift of income 0.31 over 0.10",
            "since": START,
            "opened_start": START + DAY,
            "opened_end": START + 2 * DAY,
            **overrides,
        }
        names = ("kind", "metric", "subject", "slice")
        cause = Cause(**{name: fields[name] for name in names}).key
        incident = Incident(cause=cause, **fields)
        session.add(incident)
        session.flush()
        return incident.id


def add_signal(
    sessions: sessionmaker[Session], version: VersionSpec, day: int, **overrides: Any
) -> None:
    """Add what a window of one day says, by default that income drifts."""
    fields = {
        "kind": "drift",
        "metric": "",
        "subject": "income",
        "slice": "",
        "state": "alert",
        "severity": "warning",
        "action": "watch",
        "reason": "drift of income 0.31 over 0.10",
        **overrides,
    }
    names = ("kind", "metric", "subject", "slice")
    cause = Cause(**{name: fields[name] for name in names}).key
    with sessions.begin() as session:
        start = START + day * DAY
        session.add(
            Signal(
                version_id=version.version_id, cause=cause, start=start, end=start + DAY, **fields
            )
        )


def add_request(sessions: sessionmaker[Session], **overrides: Any) -> int:
    """Add an open retraining request of ``loans`` 7, without any window."""
    with sessions.begin() as session:
        version = find_version(session, "loans", "7")
        own = {"model_id": version.model_id, "version_id": version.version_id}
        request = RetrainingRequest(**own, action="retrain", reason="it got worse", **overrides)
        session.add(request)
        session.flush()
        return request.id


def ask(
    session: Session, version: VersionSpec, window: Window, cooldown: timedelta = timedelta(0)
) -> int | None:
    """Ask for a retraining because of the window."""
    return request_retraining(
        session,
        model_id=version.model_id,
        version_id=version.version_id,
        model=version.model,
        version=version.version,
        action="retrain",
        reason=window.reason,
        window=(window.start, window.end),
        signals=[],
        cooldown=cooldown,
    )


def seed(sessions: sessionmaker[Session]) -> VersionSpec:
    """Fill the tables: a live version with results, and a retired one that must not be seen."""
    add_webhook(sessions, "ci")
    version = register(sessions, "7")
    retired = register(sessions, "6", "retired")
    with sessions.begin() as session:
        window = add_window(session, version)
        add_drift(session, window, 0, "income")
        add_drift(session, window, 1, HOSTILE, value=0.01, verdict="ok")
        add_drift(session, window, 2, "score", value=0.2, verdict="ok")
        add_drift(
            session,
            window,
            3,
            "income",
            value=0.5,
            method="evidently.wasserstein",
            engine="evidently",
            verdict=None,
        )
        add_measurement(session, window, 4)
        add_measurement(session, window, 5, metric="label_coverage", value=0.82, verdict="ok")
        add_measurement(session, window, 6, metric="estimated_roc_auc", value=0.81, verdict="ok")
        add_measurement(session, window, 7, metric="recall", value=None, reason="single_class")
        add_drift(session, window, 8, "income", metric="missing_ratio", value=0.25, verdict="ok")
        point_latest(session, window)
        add_labels(session, version, START, [30, 12])
        ask(session, version, window)
        old = add_window(session, retired)
        add_drift(session, old, 0, "income")
        point_latest(session, old)
        session.add(WorkerHeartbeat(worker="w1"))
        session.add(
            DueWork(
                kind="window",
                model_id=version.model_id,
                version_id=version.version_id,
                start=START,
                end=START + DAY,
                due_at=START,
            )
        )
    return version
