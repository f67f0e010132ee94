"""Windows without rows become due as time passes, where a version's traffic was live."""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session, aliased

from service.ingest.tables import prediction
from service.ledger.calendar import Interval
from service.ledger.marks import Item, mark
from service.ledger.tables import DueWork
from service.registry.repository import find_monitor
from service.registry.tables import Version
from service.runs.incidents import calendar_of
from service.runs.tables import Window

# Silence is told of as many windows; who has not listened by then will not.
MOST_SILENT = 7
WEEK = timedelta(weeks=1)


def mark_silence(session: Session, quiet: timedelta) -> int:
    """Make windows after the last rows of live versions due once they end; return how many.

    Rows that came long after their own time, now or a week before, are of a replay: that it has
    ended is no silence.  Nor is it when another version of the model has newer rows.
    """
    versions = session.execute(
        select(Version.id, Version.model_id).where(Version.stage == "live").order_by(Version.id)
    )
    return sum(
        _mark_version(session, model_id, version_id, quiet)
        for version_id, model_id in versions.all()
    )


def _mark_version(session: Session, model_id: int, version_id: int, quiet: timedelta) -> int:
    last = _last_window(session, version_id)
    if last is None or _succeeded(session, model_id, version_id, last.start):
        return 0
    document = find_monitor(session, model_id).document
    calendar = calendar_of(document)
    now = session.scalar(select(func.clock_timestamp()))
    assert now is not None
    ended = [
        Item(model_id, version_id, window.start, window.end)
        for window in calendar.walk(last, MOST_SILENT)
        if window.end + document.grace <= now
    ]
    new = [item for item in ended if not _known(session, item)]
    if not new or not _live(session, model_id, version_id, last):
        return 0
    mark(session, "window", new, after_end=document.grace, quiet=quiet)
    return len(new)


def _last_window(session: Session, version_id: int) -> Interval | None:
    row = session.execute(
        select(Window.start, Window.end)
        .where(Window.version_id == version_id, Window.latest, Window.rows > 0)
        .order_by(Window.start.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else Interval(*row)


def _succeeded(session: Session, model_id: int, version_id: int, start: datetime) -> bool:
    other = aliased(Version)
    newer = exists().where(
        other.model_id == model_id,
        other.id != version_id,
        Window.version_id == other.id,
        Window.latest,
        Window.rows > 0,
        Window.start > start,
    )
    return bool(session.scalar(select(newer)))


def _known(session: Session, item: Item) -> bool:
    """Say whether a window has been judged or is due: a new mark would only put it off."""
    judged = exists().where(
        Window.version_id == item.version_id,
        Window.start == item.start,
        Window.end == item.end,
        Window.latest,
    )
    due = exists().where(
        DueWork.kind == "window",
        DueWork.version_id == item.version_id,
        DueWork.start == item.start,
        DueWork.end == item.end,
    )
    return bool(session.scalar(select(judged | due)))


def _live(session: Session, model_id: int, version_id: int, last: Interval) -> bool:
    """Say whether the last rows, and those of a week before, came within a window of their time."""
    length = last.end - last.start
    columns = prediction.c

    def delay(until: datetime) -> timedelta | None:
        span: ColumnElement[bool] = columns.ts < until
        return session.scalar(
            select(columns.received_at - columns.ts)
            .where(columns.model_id == model_id, columns.version_id == version_id, span)
            .order_by(columns.ts.desc())
            .limit(1)
        )

    delays = [delay(last.end), delay(last.end - max(WEEK, 2 * length))]
    return all(found is not None and found <= length for found in delays)
