"""Queries on signals and incidents; whoever writes holds the version's lock."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from sqlalchemy import delete, func, insert, or_, select
from sqlalchemy.orm import Session

from service.alerts.tables import Incident, Signal
from service.evaluation import causes
from service.evaluation.hysteresis import State
from service.ledger.calendar import Interval

RESOLVED, WITHDRAWN = "resolved", "withdrawn"
LIVE_STATES = ("open", "acknowledged")

_EXISTS = or_(Incident.outcome.is_(None), Incident.outcome != WITHDRAWN)


def replace_signals(
    session: Session, version_id: int, window: Interval, signals: Iterable[causes.Signal]
) -> set[causes.Cause]:
    """Store what a window says, and return the causes that it alerted about before."""
    before = session.execute(
        delete(Signal)
        .where(
            Signal.version_id == version_id,
            Signal.start == window.start,
            Signal.end == window.end,
        )
        .returning(Signal.state, Signal.kind, Signal.metric, Signal.subject, Signal.slice)
    ).all()
    rows = [
        {
            "version_id": version_id,
            "cause": signal.cause.key,
            "start": window.start,
            "end": window.end,
            "kind": signal.cause.kind,
            "metric": signal.cause.metric,
            "subject": signal.cause.subject,
            "slice": signal.cause.slice,
            "state": signal.state.value,
            "severity": signal.severity.value,
            "action": signal.action.value,
            "reason": signal.reason,
        }
        for signal in signals
    ]
    if rows:
        session.execute(insert(Signal), rows)
    return {causes.Cause(*parts) for state, *parts in before if state == State.ALERT.value}


def causes_open_at(session: Session, version_id: int, start: datetime) -> set[causes.Cause]:
    """Return the causes of the incidents that the window starting then may close or keep open."""
    found = session.execute(
        select(Incident.kind, Incident.metric, Incident.subject, Incident.slice).where(
            Incident.version_id == version_id,
            Incident.opened_start < start,
            or_(Incident.closed_start.is_(None), Incident.closed_start >= start),
            _EXISTS,
        )
    )
    return {causes.Cause(*row) for row in found}


def incidents_of(
    session: Session, version_id: int, keys: Collection[str]
) -> defaultdict[str, list[Incident]]:
    """Return the incidents of each cause, in order of time."""
    found: defaultdict[str, list[Incident]] = defaultdict(list)
    rows = session.scalars(
        select(Incident)
        .where(Incident.version_id == version_id, Incident.cause.in_(keys), _EXISTS)
        .order_by(Incident.opened_start)
    )
    for row in rows:
        found[row.cause].append(row)
    return found


def signals_since(
    session: Session, version_id: int, keys: Collection[str], start: datetime
) -> defaultdict[str, dict[Interval, State]]:
    """Return what windows that start at or after a time said about each cause."""
    found: defaultdict[str, dict[Interval, State]] = defaultdict(dict)
    rows = session.execute(
        select(Signal.cause, Signal.start, Signal.end, Signal.state).where(
            Signal.version_id == version_id, Signal.cause.in_(keys), Signal.start >= start
        )
    )
    for cause, begin, end, state in rows:
        found[cause][Interval(begin, end)] = State(state)
    return found


def newest_unrest(
    session: Session, version_id: int, keys: Collection[str], since: datetime, before: datetime
) -> dict[str, datetime]:
    """Return the start of each cause's newest window in [since, before) that was not calm."""
    found = session.execute(
        select(Signal.cause, func.max(Signal.start).label("newest"))
        .where(
            Signal.version_id == version_id,
            Signal.cause.in_(keys),
            Signal.start >= since,
            Signal.start < before,
            Signal.state.in_((State.ALERT.value, State.RAISED.value)),
        )
        .group_by(Signal.cause)
    )
    return {row.cause: row.newest for row in found}


def newest_alert(
    session: Session, version_id: int, cause: str, until: datetime | None
) -> Signal | None:
    """Return the newest alert about a cause, of a window that starts until then."""
    statement = select(Signal).where(
        Signal.version_id == version_id,
        Signal.cause == cause,
        Signal.state == State.ALERT.value,
    )
    if until is not None:
        statement = statement.where(Signal.start <= until)
    return session.scalar(statement.order_by(Signal.start.desc()).limit(1))


def list_incidents(
    session: Session,
    *,
    model_id: int | None = None,
    version_id: int | None = None,
    state: str | None = None,
    after: int = 0,
    limit: int = 50,
) -> Sequence[Incident]:
    """Return incidents with an id above ``after``, in the order of their ids."""
    statement = select(Incident).where(Incident.id > after)
    if model_id is not None:
        statement = statement.where(Incident.model_id == model_id)
    if version_id is not None:
        statement = statement.where(Incident.version_id == version_id)
    if state is not None:
        statement = statement.where(Incident.state == state)
    return session.scalars(statement.order_by(Incident.id).limit(limit)).all()


def alerts_of(session: Session, incident: Incident, limit: int) -> Sequence[Signal]:
    """Return what the windows of an incident alerted about, newest first."""
    statement = select(Signal).where(
        Signal.version_id == incident.version_id,
        Signal.cause == incident.cause,
        Signal.state == State.ALERT.value,
        Signal.start >= incident.since,
    )
    if incident.closed_start is not None:
        statement = statement.where(Signal.start <= incident.closed_start)
    return session.scalars(statement.order_by(Signal.start.desc()).limit(limit)).all()
