"""Incidents follow from what the windows said: a change folds the history of its cause again."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy.orm import Session

from service.alerts import repository
from service.alerts.repository import LIVE_STATES, RESOLVED, WITHDRAWN
from service.alerts.schemas import Deed
from service.alerts.tables import Incident
from service.errors import ConflictError
from service.evaluation.causes import Signal
from service.evaluation.hysteresis import Rule, Span, State, fold
from service.ledger.calendar import Calendar, Interval

OUTCOMES = {"resolve": RESOLVED, "dismiss": "dismissed"}

JudgedSince = Callable[[datetime], Collection[Interval]]


@dataclass(frozen=True, slots=True)
class Timeline:
    """One version's windows: how they lie, when incidents open and close, which were judged."""

    model_id: int
    version_id: int
    calendar: Calendar
    rule: Rule
    judged_since: JudgedSince


def record_signals(
    session: Session,
    timeline: Timeline,
    window: Interval,
    signals: Collection[Signal],
    *,
    pending: bool = False,
) -> None:
    """Store what a window says about every cause, and bring the incidents up to date.

    An open incident of which the window says nothing is unknown while more is ``pending``, and
    else calm: nobody watches its cause any more.  The caller holds the version's lock: two workers
    that judge neighbours would not see each other's window otherwise.
    """
    told = [signal for signal in signals if signal.state is not State.CALM]
    going_on = repository.causes_open_at(session, timeline.version_id, window.start)
    if pending:
        silent = going_on - {signal.cause for signal in signals}
        told += [Signal(cause, State.UNKNOWN) for cause in sorted(silent)]
    touched = repository.replace_signals(session, timeline.version_id, window, told)
    touched.update(signal.cause.key for signal in told if signal.state is State.ALERT)
    touched.update(cause.key for cause in going_on)
    for cause in sorted(touched):
        _settle(session, timeline, cause, window.start)


def handle(
    incident: Incident, deed: Deed, *, by: str, note: str, at: datetime, newest: Interval
) -> None:
    """Acknowledge, resolve or dismiss an incident; the caller holds the version's lock.

    Raises
    ------
    ConflictError
        If it has ended otherwise before.
    """
    if deed == "acknowledge":
        if incident.state == "closed":
            message = "the incident is closed"
            raise ConflictError(message)
        if incident.state == "open":
            incident.state, incident.note = "acknowledged", note or incident.note
            incident.acknowledged_by, incident.acknowledged_at = by, at
        return
    outcome = OUTCOMES[deed]
    if incident.state == "closed":
        if incident.outcome != outcome:
            message = f"the incident is closed: {incident.outcome}"
            raise ConflictError(message)
        return
    incident.state, incident.outcome, incident.note = "closed", outcome, note or incident.note
    incident.ended_by, incident.ended_at = by, at
    if outcome == RESOLVED:
        incident.closed_start, incident.closed_end = newest.start, newest.end


def _settle(session: Session, timeline: Timeline, cause: str, at: datetime) -> None:
    """Fold one cause from the window at ``at`` on; what was before cannot have changed."""
    incidents = repository.incidents_of(session, timeline.version_id, cause)
    position = partial(timeline.calendar.position, at)
    last = next((one for one in reversed(incidents) if one.opened_start < at), None)
    before = _span(last, position) if last is not None else None
    reach = timeline.calendar.before(at, timeline.rule.n)
    lower = -timeline.rule.n
    if last is not None and before is not None and before.closed is None:
        reach = (
            repository.newest_unrest(session, timeline.version_id, cause, last.opened_start, at)
            or last.opened_start
        )
        lower = position(reach)
    elif before is not None and before.closed is not None:
        lower = max(lower, before.closed)
    windows, states = _history(session, timeline, cause, reach, position)
    spans = fold(
        {at: state for at, state in states.items() if at > lower},
        timeline.rule,
        before,
        {position(end) for one in incidents if (end := _ended_by_hand(one)) is not None},
    )
    rows = [one for one in incidents if one is last or one.opened_start >= at]
    _reconcile(session, timeline, cause, rows, spans, windows, position)


def _ended_by_hand(incident: Incident) -> datetime | None:
    return incident.closed_start if incident.outcome == RESOLVED else None


def _span(incident: Incident, position: Callable[[datetime], int]) -> Span:
    """Return a stored incident as it stood before the window at position 0."""
    closed = None if incident.closed_start is None else position(incident.closed_start)
    if closed is not None and closed >= 0:
        closed = None
    return Span(position(incident.since), position(incident.opened_start), closed)


def _history(
    session: Session,
    timeline: Timeline,
    cause: str,
    since: datetime,
    position: Callable[[datetime], int],
) -> tuple[dict[int, Interval], dict[int, State]]:
    """Return the windows by position, and what each says; one without a signal is calm."""
    signals = {
        Interval(signal.start, signal.end): State(signal.state)
        for signal in repository.signals_since(session, timeline.version_id, cause, since)
    }
    found = {
        position(window.start): window
        for window in {*timeline.judged_since(since), *signals}
        if timeline.calendar.has(window)
    }
    return found, {at: signals.get(window, State.CALM) for at, window in found.items()}


def _reconcile(
    session: Session,
    timeline: Timeline,
    cause: str,
    rows: Sequence[Incident],
    spans: Sequence[Span],
    windows: Mapping[int, Interval],
    position: Callable[[datetime], int],
) -> None:
    """Make the stored incidents those of the fold: an incident keeps its row while it overlaps."""
    stored = [(row, _stored_span(row, position)) for row in rows]
    matched: list[tuple[Span, Incident | None]] = []
    for span in spans:
        found = next((pair for pair in stored if pair[1].overlaps(span)), None)
        if found is not None:
            stored.remove(found)
        matched.append((span, found[0] if found is not None else None))
    for row, _ in stored:
        row.state, row.outcome = "closed", WITHDRAWN
    session.flush()
    for span, known in matched:
        if known is None:
            _write(session, _new(timeline, cause), span, windows)
        elif span.closed is None or _stored_span(known, position) != span:
            _write(session, known, span, windows)


def _stored_span(row: Incident, position: Callable[[datetime], int]) -> Span:
    closed = None if row.closed_start is None else position(row.closed_start)
    return Span(position(row.since), position(row.opened_start), closed)


def _new(timeline: Timeline, cause: str) -> Incident:
    return Incident(
        model_id=timeline.model_id,
        version_id=timeline.version_id,
        cause=cause,
        state="open",
    )


def _write(session: Session, row: Incident, span: Span, windows: Mapping[int, Interval]) -> None:
    """Bring a row in line with its span; what somebody said about it stays."""
    if span.since in windows:
        row.since = windows[span.since].start
    if span.opened in windows:
        row.opened_start, row.opened_end = windows[span.opened].start, windows[span.opened].end
    closed = None if span.closed is None else windows[span.closed]
    row.closed_start, row.closed_end = (
        (None, None) if closed is None else (closed.start, closed.end)
    )
    if closed is not None and row.state in LIVE_STATES:
        row.state, row.outcome = "closed", "recovered"
    elif closed is None and row.outcome in ("recovered", "resolved"):
        row.state = "open" if row.acknowledged_at is None else "acknowledged"
        row.outcome = None
    newest = repository.newest_alert(session, row.version_id, row.cause, row.closed_start)
    if newest is not None:
        for name in ("kind", "metric", "subject", "slice", "severity", "action", "reason"):
            setattr(row, name, getattr(newest, name))
    session.add(row)
    session.flush()
