"""Incidents follow from what the windows said: a change folds the history of its cause again."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy.orm import Session

from service.alerts import repository
from service.alerts.repository import LIVE_STATES, RESOLVED, WITHDRAWN
from service.alerts.tables import Incident
from service.evaluation.causes import Cause, Signal
from service.evaluation.hysteresis import Rule, Span, State, fold
from service.ledger.calendar import Calendar, Interval

# The judged windows from a time on, each with those of the causes that it could not judge.
JudgedSince = Callable[[datetime, Collection[Cause]], Mapping[Interval, Collection[Cause]]]


@dataclass(frozen=True, slots=True)
class Timeline:
    """One version's windows: how they lie, when incidents open and close, which were judged."""

    model_id: int
    version_id: int
    calendar: Calendar
    rule: Rule
    judged_since: JudgedSince


# How far back one that is open is looked for its newest window that was not calm; else its history
# is read from where it opened.
UNREST_STEPS = 100

Position = Callable[[datetime], int]


@dataclass(frozen=True, slots=True)
class _Story:
    """What is stored of one cause, and from where on it has to be folded again.

    Windows at positions after ``lower`` count; they start at or after ``reach``.  ``last`` stands
    for all that was before, and ``rows`` are its incident and the later ones.
    """

    cause: Cause
    rows: Sequence[Incident]
    last: Span | None
    reach: datetime
    lower: int
    position: Position

    @property
    def ends(self) -> set[int]:
        """Return where somebody closed an incident."""
        return {
            self.position(row.closed_start)
            for row in self.rows
            if row.outcome == RESOLVED and row.closed_start is not None
        }


def settle(
    session: Session,
    timeline: Timeline,
    at: datetime,
    causes: Collection[Cause],
    news: Mapping[Cause, Signal | None],
) -> None:
    """Fold causes from the window at ``at`` on; what was before cannot have changed.

    ``news`` are the alerts of the window by cause, ``None`` where it alerted before and does no
    more.  A window that does not speak of a cause is calm if it could judge it, else unknown.
    """
    stories = _stories(session, timeline, at, causes)
    since = min(story.reach for story in stories)
    judged = timeline.judged_since(since, causes)
    keys = [cause.key for cause in causes]
    signals = repository.signals_since(session, timeline.version_id, keys, since)
    known = set(judged).union(*signals.values())
    position = partial(timeline.calendar.position, at)
    places = {w: position(w.start) for w in known if timeline.calendar.has(w)}
    windows = {place: window for window, place in places.items()}
    for story in stories:
        own = signals[story.cause.key]
        silent = {
            window: State.UNKNOWN if story.cause in blind else State.CALM
            for window, blind in judged.items()
        }
        states = {
            places[window]: state
            for window, state in (silent | own).items()
            if places.get(window, story.lower) > story.lower
        }
        spans = fold(states, timeline.rule, story.last, story.ends)
        rows = _reconcile(session, timeline, story, spans, windows)
        if story.cause in news:
            alerts = [place for place, state in states.items() if state is State.ALERT]
            _reword(session, rows, alerts, news[story.cause])


def _stories(
    session: Session, timeline: Timeline, at: datetime, causes: Collection[Cause]
) -> list[_Story]:
    position = partial(timeline.calendar.position, at)
    keys = [cause.key for cause in causes]
    incidents = repository.incidents_of(session, timeline.version_id, keys)
    unrest = repository.newest_unrest(
        session, timeline.version_id, keys, timeline.calendar.before(at, UNREST_STEPS), at
    )
    found = []
    for cause in sorted(causes):
        rows = incidents[cause.key]
        row = next((one for one in reversed(rows) if one.opened_start < at), None)
        last = None if row is None else _before(row, position)
        reach, lower = timeline.calendar.before(at, timeline.rule.n), -timeline.rule.n
        if row is not None and last is not None and last.closed is None:
            reach = max(unrest.get(cause.key, row.opened_start), row.opened_start)
            lower = position(reach)
        elif last is not None and last.closed is not None:
            lower = max(lower, last.closed)
        rows = [one for one in rows if one is row or one.opened_start >= at]
        found.append(_Story(cause, rows, last, reach, lower, position))
    return found


def _before(row: Incident, position: Position) -> Span:
    """Return a stored incident as it stood before the window at position 0."""
    span = _stored_span(row, position)
    if span.closed is not None and span.closed >= 0:
        return Span(span.since, span.opened)
    return span


def _reconcile(
    session: Session,
    timeline: Timeline,
    story: _Story,
    spans: Sequence[Span],
    windows: Mapping[int, Interval],
) -> list[tuple[Span, Incident]]:
    """Make the stored incidents those of the fold: an incident keeps its row while it overlaps."""
    stored = [(row, _stored_span(row, story.position)) for row in story.rows]
    matched: list[tuple[Span, Incident | None]] = []
    for span in spans:
        found = next((pair for pair in stored if pair[1].overlaps(span)), None)
        if found is not None:
            stored.remove(found)
        matched.append((span, found[0] if found is not None else None))
    for row, _ in stored:
        row.state, row.outcome = "closed", WITHDRAWN
    if stored:
        session.flush()
    rows = []
    for span, known in matched:
        row = known or _new(timeline, story.cause.key)
        if known is None or _stored_span(known, story.position) != span:
            _write(session, row, span, windows)
        rows.append((span, row))
    return rows


def _reword(
    session: Session,
    rows: Sequence[tuple[Span, Incident]],
    alerts: Collection[int],
    news: Signal | None,
) -> None:
    """Let an incident that may have another newest alert speak its words."""
    for span, row in rows:
        if span.closed is not None and span.closed < 0:
            continue
        newest = max((at for at in alerts if span.closed is None or at <= span.closed), default=-1)
        if newest == 0 and news is not None:
            row.severity, row.action = news.severity.value, news.action.value
            row.reason = news.reason
        else:
            _speak(session, row)


def _stored_span(row: Incident, position: Position) -> Span:
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
    if span.closed is None:
        row.closed_start = row.closed_end = None
    elif span.closed in windows:
        row.closed_start, row.closed_end = windows[span.closed].start, windows[span.closed].end
    if span.closed is not None and row.state in LIVE_STATES:
        row.state, row.outcome = "closed", "recovered"
    elif span.closed is None and row.outcome in ("recovered", RESOLVED):
        row.state = "open" if row.acknowledged_at is None else "acknowledged"
        row.outcome = None
    _speak(session, row)
    session.add(row)
    session.flush()


def _speak(session: Session, row: Incident) -> None:
    """Let an incident say what its newest alert said."""
    newest = repository.newest_alert(session, row.version_id, row.cause, row.closed_start)
    if newest is not None:
        for name in ("kind", "metric", "subject", "slice", "severity", "action", "reason"):
            setattr(row, name, getattr(newest, name))
