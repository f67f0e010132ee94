"""Which windows are due: derived from buckets and the calendar, never from a timer."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from service.buckets.repository import bucket_starts
from service.ledger.calendar import Interval, windows_over
from service.ledger.marks import BUCKET_KINDS, Item, mark
from service.ledger.tables import Arrival, DueWork
from service.registry.repository import find_monitor
from service.registry.tables import Version
from service.registry.values import MonitorSpec
from service.runs.comparisons import reach_of, windows_compared_with
from service.runs.tables import Evaluation, EvaluationWindow

log = logging.getLogger(__name__)

# A bucket that failed this often does not hold evaluations up.
PATIENCE = 3


def windows_of(monitor: MonitorSpec, starts: Iterable[datetime]) -> list[Interval]:
    """Return the windows over the buckets, in order."""
    document = monitor.document
    zone = ZoneInfo(document.timezone)
    return sorted(
        {
            window
            for start in starts
            for window in windows_over(start, document.window, document.every, zone)
        }
    )


def mark_windows(
    session: Session,
    monitor: MonitorSpec,
    model_id: int,
    version_id: int,
    starts: Iterable[datetime],
    quiet: timedelta,
) -> None:
    """Make the windows that say something of the buckets due, after their grace and once quiet.

    Those are the windows over them, and the windows that are compared with them.
    """
    changed = list(starts)
    items = [
        Item(model_id, version_id, window.start, window.end)
        for window in windows_of(monitor, changed)
    ]
    items += _looking_back(session, monitor, model_id, version_id, changed)
    mark(session, "window", items, after_end=monitor.document.grace, quiet=quiet)


def _looking_back(
    session: Session, monitor: MonitorSpec, model_id: int, version_id: int, starts: list[datetime]
) -> list[Item]:
    """Return the windows with rows that are compared with the buckets."""
    document = monitor.document
    comparison = document.reference
    if comparison.kind == "training" or not starts:
        return []
    versions, latest = [version_id], max(starts) + reach_of(document)
    if comparison.version is not None:
        named = Version.name == comparison.version
        own = exists().where(Version.id == version_id, named).select()
        others = select(Version.id).where(Version.model_id == model_id, ~named)
        versions = list(session.scalars(others)) if session.scalar(own) else []
    found = []
    for version in versions:
        present = bucket_starts(session, version, min(starts) - reach_of(document), latest)
        windows = windows_compared_with(document, windows_of(monitor, present), starts)
        found += [Item(model_id, version, window.start, window.end) for window in windows]
    return found


def mark_version(session: Session, model_id: int, version_id: int) -> None:
    """Make every window of a version due: what it is compared with has come or has changed."""
    monitor = find_monitor(session, model_id)
    starts = bucket_starts(session, version_id, None, None)
    mark_windows(session, monitor, model_id, version_id, starts, timedelta(0))


def plan_evaluation(session: Session) -> bool:
    """List the windows of one requested evaluation and make them due now.

    An evaluation waits until the buckets it is about have been profiled, so that it knows its
    windows; returns whether one was planned.  One that cannot be planned fails alone.
    """
    evaluation_id = session.scalar(
        select(Evaluation.id)
        .where(~Evaluation.planned, ~_unsettled())
        .order_by(Evaluation.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if evaluation_id is None:
        return False
    error = None
    try:
        with session.begin_nested():
            _plan(session, evaluation_id)
    except (DataError, ArithmeticError, ValueError) as failure:
        log.exception("evaluation %s cannot be planned", evaluation_id)
        error = type(failure).__name__
    session.execute(
        update(Evaluation).where(Evaluation.id == evaluation_id).values(planned=True, error=error)
    )
    return True


def _plan(session: Session, evaluation_id: int) -> None:
    evaluation = session.get_one(Evaluation, evaluation_id)
    monitor = find_monitor(session, evaluation.model_id)
    versions = session.scalars(select(Version.id).where(Version.model_id == evaluation.model_id))
    for version_id in list(versions):
        items = (
            _range_items(session, monitor, evaluation, version_id)
            if evaluation.from_ is not None
            else _due_items(session, evaluation, version_id)
        )
        _expedite(session, evaluation, items)


def _range_items(
    session: Session, monitor: MonitorSpec, evaluation: Evaluation, version_id: int
) -> list[Item]:
    starts = bucket_starts(session, version_id, evaluation.from_, evaluation.until)
    now = session.scalar(select(func.now()))
    assert now is not None
    assert evaluation.from_ is not None
    return [
        Item(evaluation.model_id, version_id, window.start, window.end)
        for window in windows_of(monitor, starts)
        if evaluation.from_ <= window.start and window.end <= min(evaluation.until, now)
    ]


def _due_items(session: Session, evaluation: Evaluation, version_id: int) -> list[Item]:
    found = session.execute(
        select(DueWork.start, DueWork.end).where(
            DueWork.kind == "window",
            DueWork.version_id == version_id,
            DueWork.end <= evaluation.until,
            DueWork.end <= func.now(),
        )
    )
    return [Item(evaluation.model_id, version_id, start, end) for start, end in found]


def _expedite(session: Session, evaluation: Evaluation, items: list[Item]) -> None:
    if not items:
        return
    details = {"silent": not evaluation.alert, "evaluation": evaluation.id}
    if evaluation.from_ is not None:
        details["current_reference"] = True
    mark(session, "window", items, details=details)
    session.execute(
        pg_insert(EvaluationWindow).on_conflict_do_nothing(),
        [
            {
                "evaluation_id": evaluation.id,
                "version_id": item.version_id,
                "start": item.start,
                "end": item.end,
            }
            for item in items
        ],
    )


def _unsettled() -> ColumnElement[bool]:
    dirty = exists().where(
        DueWork.kind.in_(BUCKET_KINDS),
        DueWork.model_id == Evaluation.model_id,
        DueWork.attempts < PATIENCE,
        DueWork.start < Evaluation.until,
        or_(Evaluation.from_.is_(None), DueWork.end > Evaluation.from_),
    )
    arriving = exists().where(
        Arrival.model_id == Evaluation.model_id,
        or_(Arrival.bucket.is_(None), Arrival.bucket < Evaluation.until),
    )
    return or_(dirty, arriving)
