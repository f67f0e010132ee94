"""What the collector reads: a few queries, however many versions there are."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Interval, and_, column, func, select, true, values
from sqlalchemy.orm import Session

from service.alerts.repository import LIVE_STATES
from service.alerts.tables import Incident, Signal
from service.evaluation.hysteresis import State
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


# All at once they would keep the interpreter from whoever else is waiting for it.
FEW = {"yield_per": 200}

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
        execution_options=FEW,
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
        execution_options=FEW,
    )
    for row in rows:
        found[row.window_id].append(row)
    return found


def mature_coverages(
    session: Session, horizons: Mapping[int, timedelta | None]
) -> dict[int, tuple[datetime, float]]:
    """Return end and label coverage of each version's newest window whose horizon has passed."""
    known = [(version_id, span) for version_id, span in horizons.items() if span is not None]
    if not known:
        return {}
    asked = values(
        column("version_id", BigInteger), column("horizon", Interval), name="asked"
    ).data(known)
    newest = (
        select(Window.end, Window.label_coverage)
        .where(
            Window.version_id == asked.c.version_id,
            Window.latest,
            Window.label_coverage.is_not(None),
            Window.end <= func.clock_timestamp() - asked.c.horizon,
        )
        .order_by(Window.start.desc())
        .limit(1)
        .lateral()
    )
    found = session.execute(
        select(asked.c.version_id, newest.c.end, newest.c.label_coverage)
        .select_from(asked)
        .join(newest, true())
    )
    return {version_id: (end, coverage) for version_id, end, coverage in found}


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
    """Return since when, and kind, subject, slice, severity and action of what is open, by version.

    The oldest come first: of two checks of one column the exposition has room for one.
    """
    found = session.execute(
        select(
            Incident.version_id,
            Incident.since,
            Incident.kind,
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


# How many of a version's newest windows are looked at for those that alert in a row.
MOST_IN_A_ROW = 24


def drifting_in_a_row(session: Session, version_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """Return in how many of the newest windows each feature drifts without a break.

    A window that could not be judged neither counts nor breaks the row; nor does a silent one,
    which says nothing of its own accord.
    """
    recent = (
        select(
            Window.start,
            Window.end,
            func.row_number().over(order_by=Window.start.desc()).label("place"),
        )
        .where(Window.version_id == Version.id, Window.latest, ~Window.silent)
        .order_by(Window.start.desc())
        .limit(MOST_IN_A_ROW)
        .lateral()
    )
    found = session.execute(
        select(Signal.version_id, Signal.subject, recent.c.place, Signal.state)
        .select_from(Version)
        .join(recent, true())
        .join(
            Signal,
            and_(
                Signal.version_id == Version.id,
                Signal.start == recent.c.start,
                Signal.end == recent.c.end,
            ),
        )
        .where(
            Version.id.in_(version_ids),
            Signal.kind == "drift",
            Signal.state.in_((State.ALERT.value, State.UNKNOWN.value)),
        )
        .order_by(Signal.version_id, Signal.subject, recent.c.place),
        execution_options=FEW,
    )
    windows: defaultdict[int, dict[str, int]] = defaultdict(dict)
    reached: defaultdict[tuple[int, str], int] = defaultdict(int)
    for version_id, subject, place, state in found:
        key = (version_id, subject)
        if place == reached[key] + 1:
            reached[key] = place
            before = windows[version_id].get(subject, 0)
            windows[version_id][subject] = before + (state == State.ALERT.value)
    return windows


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
