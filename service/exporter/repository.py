"""What the collector reads: a few queries, however many versions there are."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from service.alerts.repository import LIVE_STATES
from service.alerts.tables import Incident
from service.ingest.tables import PendingLabel, prediction
from service.ledger.tables import DueWork, WorkerHeartbeat
from service.registry.tables import Feature, Model, Monitor, Version
from service.retraining.tables import RetrainingRequest
from service.runs.tables import LatestWindow, Measurement, Window
from service.webhooks.tables import Outbox


@dataclass(frozen=True, slots=True)
class LiveVersion:
    """A live version; ``monitor`` is its model's stored document, if there is one."""

    id: int
    model: str
    version: str
    task: str
    stage: str
    owner: str
    created_at: datetime
    last_prediction: datetime | None
    monitor: dict[str, Any] | None


def live_versions(session: Session) -> list[LiveVersion]:
    """Return every live version, by model and name, with the time of its newest prediction."""
    newest = (
        select(func.max(prediction.c.ts))
        .where(prediction.c.model_id == Version.model_id, prediction.c.version_id == Version.id)
        .correlate(Version)
        .scalar_subquery()
    )
    document = (
        select(Monitor.document)
        .where(Monitor.model_id == Version.model_id)
        .order_by(Monitor.revision.desc())
        .limit(1)
        .correlate(Version)
        .scalar_subquery()
    )
    found = session.execute(
        select(
            Version.id,
            Model.name,
            Version.name,
            Model.task,
            Version.stage,
            Model.owner,
            Version.created_at,
            newest,
            document,
        )
        .join(Model, Model.id == Version.model_id)
        .where(Version.stage == "live")
        .order_by(Model.name, Version.name)
    )
    return [LiveVersion(*row) for row in found]


def latest_windows(session: Session, version_ids: Sequence[int]) -> dict[tuple[int, str], Window]:
    """Return the window that holds the newest figures, by version and family."""
    found = session.execute(
        select(LatestWindow.family, Window)
        .join(
            Window,
            and_(
                Window.version_id == LatestWindow.version_id,
                Window.start == LatestWindow.start,
                Window.end == LatestWindow.end,
                Window.latest,
            ),
        )
        .where(LatestWindow.version_id.in_(version_ids))
        .order_by(LatestWindow.version_id, LatestWindow.family)
    )
    return {(window.version_id, family): window for family, window in found}


# Plain rows: 20,000 ORM objects would cost more than the query.
MEASURED = (
    Measurement.window_id,
    Measurement.metric,
    Measurement.subject,
    Measurement.slice,
    Measurement.n,
    Measurement.value,
    Measurement.ci_low,
    Measurement.ci_high,
    Measurement.method,
    Measurement.engine,
    Measurement.reference_value,
    Measurement.threshold,
    Measurement.verdict,
)


def measurements_of(session: Session, window_ids: Sequence[int]) -> dict[int, list[Any]]:
    """Return the unsliced measurements of the windows that have a value, in their order."""
    found: defaultdict[int, list[Any]] = defaultdict(list)
    rows = session.execute(
        select(*MEASURED)
        .where(
            Measurement.window_id.in_(window_ids),
            Measurement.slice.is_(None),
            Measurement.value.is_not(None),
        )
        .order_by(Measurement.window_id, Measurement.position),
    )
    for row in rows:
        found[row.window_id].append(row)
    return found


def slices_of(session: Session, window_ids: Sequence[int]) -> dict[int, list[Any]]:
    """Return the judged measurements of the windows' slices, in their order.

    What a slice is too small for has no value; groups' rates are of fairness, and what another
    instrument found was not declared.
    """
    found: defaultdict[int, list[Any]] = defaultdict(list)
    rows = session.execute(
        select(*MEASURED)
        .where(
            Measurement.window_id.in_(window_ids),
            Measurement.slice.is_not(None),
            Measurement.engine == "profile",
            Measurement.direction != "information",
        )
        .order_by(Measurement.window_id, Measurement.position),
    )
    for row in rows:
        found[row.window_id].append(row)
    return found


def alerting_of(session: Session, window_ids: Sequence[int]) -> dict[int, list[Any]]:
    """Return the measurements of the windows that alert, in their order."""
    found: defaultdict[int, list[Any]] = defaultdict(list)
    rows = session.execute(
        select(*MEASURED, Measurement.direction)
        .where(Measurement.window_id.in_(window_ids), Measurement.verdict == "alert")
        .order_by(Measurement.window_id, Measurement.position)
    )
    for row in rows:
        found[row.window_id].append(row)
    return found


def importances(session: Session, version_ids: Sequence[int]) -> dict[tuple[int, str], float]:
    """Return how important each feature was said to be."""
    found = session.execute(
        select(Feature.version_id, Feature.name, Feature.importance).where(
            Feature.version_id.in_(version_ids), Feature.importance.is_not(None)
        )
    )
    return {(version_id, name): importance or 0.0 for version_id, name, importance in found}


def request_counts(session: Session, version_ids: Sequence[int]) -> dict[tuple[int, str], int]:
    """Return the number of retraining requests by version and state."""
    found = session.execute(
        select(RetrainingRequest.version_id, RetrainingRequest.state, func.count())
        .where(RetrainingRequest.version_id.in_(version_ids))
        .group_by(RetrainingRequest.version_id, RetrainingRequest.state)
    )
    return {(version_id, state): count for version_id, state, count in found}


def open_incidents(
    session: Session, version_ids: Sequence[int]
) -> dict[int, list[tuple[datetime, tuple[str, ...]]]]:
    """Return since when, and the metric labels, of what is open by version; the oldest first."""
    found = session.execute(
        select(
            Incident.version_id,
            Incident.since,
            Incident.kind,
            Incident.metric,
            Incident.subject,
            Incident.slice,
            Incident.severity,
            Incident.action,
        )
        .where(Incident.version_id.in_(version_ids), Incident.state.in_(LIVE_STATES))
        .order_by(Incident.since, Incident.id)
    )
    incidents: defaultdict[int, list[tuple[datetime, tuple[str, ...]]]] = defaultdict(list)
    for version_id, since, *metric_labels in found:
        incidents[version_id].append((since, tuple(metric_labels)))
    return incidents


def last_heartbeat(session: Session) -> datetime | None:
    """Return when a worker was last known to be alive."""
    return session.scalar(select(func.max(WorkerHeartbeat.beat_at)))


def pending(session: Session) -> dict[str, tuple[int, float]]:
    """Return how much is due, and for how many seconds the oldest has been, by queue."""
    now = func.clock_timestamp()
    due = session.execute(
        select(
            DueWork.kind,
            func.count(),
            func.extract("epoch", now - func.min(DueWork.due_at)),
        )
        .where(DueWork.due_at <= now)
        .group_by(DueWork.kind)
    )
    found = {kind: (count, float(age)) for kind, count, age in due}
    # An event that waits for its next attempt is pending since it was recorded.
    waiting, age = session.execute(
        select(
            func.count(),
            func.coalesce(func.extract("epoch", now - func.min(Outbox.created_at)), 0),
        ).where(Outbox.delivered_at.is_(None), ~Outbox.abandoned, Outbox.webhook_id.is_not(None))
    ).one()
    return {**found, "webhooks": (waiting, float(age))}


def pending_labels(session: Session) -> list[tuple[str, int]]:
    """Return how many labelled predictions each model waits for; none of a model is no row."""
    statement = (
        select(Model.name, func.count())
        .join(PendingLabel, PendingLabel.model_id == Model.id)
        .group_by(Model.name)
        .order_by(Model.name)
    )
    return [(name, count) for name, count in session.execute(statement)]
