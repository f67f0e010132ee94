"""A judged window tells its version's incidents what it found."""

from collections.abc import Collection
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.alerts.service import record_signals
from service.alerts.settling import Timeline
from service.alerts.tables import Incident
from service.evaluation.causes import Signal
from service.evaluation.hysteresis import Rule
from service.ledger.calendar import Calendar, Interval
from service.ledger.marks import Item
from service.registry.monitor import MonitorDocument
from service.registry.repository import find_monitor
from service.runs.tables import Window


def follow_incidents(
    session: Session,
    item: Item,
    document: MonitorDocument,
    signals: Collection[Signal],
    *,
    pending: bool = False,
) -> None:
    """Open, continue and close incidents by what a window says; the caller holds the lock.

    While more about the window is ``pending``, a cause that it does not speak of is unknown;
    afterwards nobody watches it any more.
    """
    calendar = calendar_of(document)
    k, n = document.alert.k_of_n
    rule = Rule(k, n, document.alert.close_after, cooldown=calendar.steps(document.alert.cooldown))
    timeline = Timeline(
        item.model_id, item.version_id, calendar, rule, partial(_judged, session, item.version_id)
    )
    record_signals(session, timeline, Interval(item.start, item.end), signals, pending=pending)


def calendar_of(document: MonitorDocument) -> Calendar:
    """Return how the windows of a monitor lie."""
    return Calendar(document.window, document.every, ZoneInfo(document.timezone))


def newest_window(session: Session, incident: Incident) -> Interval:
    """Return the newest judged window of an incident's version, at least the one that opened it."""
    calendar = calendar_of(find_monitor(session, incident.model_id).document)
    found = _judged(session, incident.version_id, incident.opened_start)
    opened = Interval(incident.opened_start, incident.opened_end)
    return max((window for window in found if calendar.has(window)), default=opened)


def _judged(session: Session, version_id: int, since: datetime) -> list[Interval]:
    """Return the windows from a time on, but for those that were to alert nobody."""
    found = session.execute(
        select(Window.start, Window.end).where(
            Window.version_id == version_id,
            Window.latest,
            ~Window.silent,
            Window.start >= since,
        )
    )
    return [Interval(start, end) for start, end in found]
