"""A judged window tells its version's incidents what it found."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from service.alerts.service import record_signals
from service.alerts.settling import Timeline
from service.alerts.tables import Incident
from service.evaluation.causes import Cause, Reached, Signal, silence_about
from service.evaluation.discovery import SUMMARY as DISCOVERED
from service.evaluation.hysteresis import Rule, State
from service.evaluation.measurement import Verdict
from service.ledger.calendar import Calendar, Interval
from service.ledger.marks import Item
from service.registry.monitor import MonitorDocument
from service.registry.repository import find_monitor
from service.registry.slicing import declaration_of
from service.runs.tables import Measurement, Window


def follow_incidents(
    session: Session,
    item: Item,
    document: MonitorDocument,
    signals: Collection[Signal],
    *,
    pending: bool = False,
) -> None:
    """Open, continue and close incidents by what a window says; the caller holds the lock.

    While more about the window is ``pending``, a cause that it does not speak of is unknown, and so
    is one that it could not judge.
    """
    calendar = calendar_of(document)
    k, n = document.alert.k_of_n
    rule = Rule(k, n, document.alert.close_after, cooldown=calendar.steps(document.alert.cooldown))
    timeline = Timeline(
        item.model_id,
        item.version_id,
        calendar,
        rule,
        partial(_blind, session, item.version_id, document),
    )
    record_signals(session, timeline, Interval(item.start, item.end), signals, pending=pending)


def calendar_of(document: MonitorDocument) -> Calendar:
    """Return how the windows of a monitor lie."""
    return Calendar(document.window, document.every, ZoneInfo(document.timezone))


def newest_window(session: Session, incident: Incident) -> Interval:
    """Return the newest judged window of an incident's version, at least the one that opened it."""
    calendar = calendar_of(find_monitor(session, incident.model_id).document)
    found = session.execute(
        select(Window.start, Window.end).where(_aloud(incident.version_id, incident.opened_start))
    )
    windows = [Interval(start, end) for start, end in found]
    opened = Interval(incident.opened_start, incident.opened_end)
    return max((window for window in windows if calendar.has(window)), default=opened)


def _aloud(version_id: int, since: datetime) -> ColumnElement[bool]:
    """Say which windows count from a time on: not those that were to alert nobody."""
    return and_(
        Window.version_id == version_id, Window.latest, ~Window.silent, Window.start >= since
    )


def _blind(
    session: Session,
    version_id: int,
    document: MonitorDocument,
    since: datetime,
    causes: Collection[Cause],
) -> dict[Interval, set[Cause]]:
    """Return the windows from a time on, each with the causes that it could not judge."""
    found = session.execute(
        select(Window.id, Window.start, Window.end, Window.verdicts, Window.labelled).where(
            _aloud(version_id, since)
        )
    ).all()
    # Of what nobody watches any more, silence is calm.
    watched = [cause for cause in causes if _is_watched(cause, document)]
    judged = _judged_slices(session, version_id, since, {c.slice for c in watched} - {""})
    blind = {}
    for row in found:
        named = judged[row.id]
        reached = Reached(row.verdicts, row.labelled, named, DISCOVERED in named)
        blind[Interval(row.start, row.end)] = {
            cause for cause in watched if silence_about(cause, reached) is State.UNKNOWN
        }
    return blind


def _judged_slices(
    session: Session, version_id: int, since: datetime, names: Collection[str]
) -> defaultdict[int, set[str]]:
    """Return by window which of these slices it judged, and the search if it searched."""
    judged: defaultdict[int, set[str]] = defaultdict(set)
    if not names:
        return judged
    found = session.execute(
        select(Measurement.window_id, func.coalesce(Measurement.slice, Measurement.metric))
        .join(Window, Window.id == Measurement.window_id)
        .where(
            _aloud(version_id, since),
            Measurement.verdict != Verdict.INSUFFICIENT_DATA.value,
            or_(Measurement.metric == DISCOVERED, Measurement.slice.in_(names)),
        )
    )
    for window_id, name in found:
        judged[window_id].add(name)
    return judged


def _is_watched(cause: Cause, document: MonitorDocument) -> bool:
    """Say whether a document asks for a cause; slices that it does not name may be found."""
    if cause.kind == "slice":
        declared = declaration_of(cause.slice, document.slices)
        return document.discover_slices or declared is not None
    return cause.kind != "fairness" or any(
        cause.subject == protected.column for protected in document.fairness
    )
