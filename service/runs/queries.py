"""What the read routes ask of the recorded windows."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.orm import Session

from service.errors import BadRequestError, NotFoundError
from service.registry.tables import Version
from service.runs.tables import Evaluation, EvaluationWindow, Measurement, Report, Window

PAGE = 500
LARGEST_ID = 2**63 - 1


class UnknownWindowError(NotFoundError):
    """The version has no judged window that starts then."""

    code = "unknown-window"
    title = "Unknown window"

    def __init__(self) -> None:
        super().__init__("no window that starts then has been judged")


class UnknownEvaluationError(NotFoundError):
    """No evaluation has that number."""

    code = "unknown-evaluation"
    title = "Unknown evaluation"

    def __init__(self) -> None:
        super().__init__("no evaluation has that number")


def page_of_windows(
    session: Session,
    model_id: int,
    *,
    version: str | None,
    start: datetime | None,
    end: datetime | None,
    cursor: str | None,
    limit: int = PAGE,
) -> tuple[list[tuple[Window, str]], str | None]:
    """Return judged windows in [start, end) with their version, by start; and the next cursor."""
    query = _latest(model_id, version, start, end)
    if cursor is not None:
        query = query.where(tuple_(Window.start, Window.id) > tuple_(*_decode(cursor)))
    found = [(row[0], row[1]) for row in session.execute(query.limit(limit + 1))]
    if len(found) <= limit:
        return found, None
    last = found[limit - 1][0]
    return found[:limit], _encode(last.start, last.id)


def find_window(
    session: Session, model_id: int, start: datetime, version: str | None
) -> tuple[Window, str]:
    """Return the window that starts then: of the named version, else of the newest that has one.

    Raises
    ------
    UnknownWindowError
        If there is none.
    """
    row = session.execute(
        select(Window, Version.name)
        .join(Version, Version.id == Window.version_id)
        .where(
            Window.model_id == model_id,
            Window.start == start,
            Window.latest,
            *([Version.name == version] if version is not None else []),
        )
        .order_by(Version.id.desc(), Window.end)
        .limit(1)
    ).first()
    if row is None:
        raise UnknownWindowError
    return row[0], row[1]


def measurements_of(session: Session, window_id: int) -> Sequence[Measurement]:
    """Return a window's measurements in the order in which they were recorded."""
    return session.scalars(
        select(Measurement).where(Measurement.window_id == window_id).order_by(Measurement.position)
    ).all()


def series(
    session: Session,
    model_id: int,
    *,
    metric: str,
    subject: str | None,
    slice_: str | None,
    version: str | None,
    start: datetime | None,
    end: datetime | None,
    cursor: str | None,
    limit: int = PAGE,
) -> tuple[list[tuple[Window, str, Measurement]], str | None]:
    """Return one metric over the windows in [start, end), and the next cursor."""
    query = _latest(model_id, version, start, end)
    if cursor is not None:
        query = query.where(tuple_(Window.start, Window.id) > tuple_(*_decode(cursor)))
    windows = query.limit(limit + 1).subquery()
    ids = session.execute(select(windows.c.id, windows.c.start).order_by(windows.c.start)).all()
    page = ids[:limit]
    found = session.execute(
        select(Window, Version.name, Measurement)
        .join(Version, Version.id == Window.version_id)
        .join(Measurement, Measurement.window_id == Window.id)
        .where(
            Window.id.in_([row.id for row in page]),
            Measurement.metric == metric,
            *([Measurement.subject == subject] if subject is not None else []),
            *([Measurement.slice == slice_] if slice_ is not None else []),
        )
        .order_by(Window.start, Window.id, Measurement.position)
    )
    rows = [(row[0], row[1], row[2]) for row in found]
    return rows, _encode(page[-1].start, page[-1].id) if len(ids) > limit else None


def report_of(session: Session, window_id: int) -> Report | None:
    """Return the report of a window revision, if it has been rendered or given up."""
    return session.scalar(select(Report).where(Report.window_id == window_id))


def evaluation_progress(session: Session, evaluation_id: int) -> dict[str, Any]:
    """Return how far an evaluation has come.

    Raises
    ------
    UnknownEvaluationError
        If there is none of that number.
    """
    known = 0 < evaluation_id <= LARGEST_ID
    evaluation = session.get(Evaluation, evaluation_id) if known else None
    if evaluation is None:
        raise UnknownEvaluationError
    counts = session.execute(
        select(
            func.count().label("of"),
            func.count(EvaluationWindow.outcome).label("done"),
            *(
                func.count().filter(EvaluationWindow.outcome == outcome).label(outcome)
                for outcome in ("evaluated", "revised", "failed")
            ),
            func.count().filter(EvaluationWindow.insufficient).label("insufficient"),
        ).where(EvaluationWindow.evaluation_id == evaluation_id)
    )
    progress = counts.mappings().one()
    if evaluation.error is not None:
        state = "failed"
    elif not evaluation.planned:
        state = "queued"
    elif progress["done"] < progress["of"]:
        state = "running"
    else:
        state = "failed" if progress["failed"] else "done"
    return {"evaluation": evaluation_id, "state": state, **progress}


def _latest(
    model_id: int, version: str | None, start: datetime | None, end: datetime | None
) -> Select[Window, str]:
    query = (
        select(Window, Version.name)
        .join(Version, Version.id == Window.version_id)
        .where(Window.model_id == model_id, Window.latest)
        .order_by(Window.start, Window.id)
    )
    if version is not None:
        query = query.where(Version.name == version)
    if start is not None:
        query = query.where(Window.start >= start)
    if end is not None:
        query = query.where(Window.start < end)
    return query


def _encode(start: datetime, window_id: int) -> str:
    text = json.dumps([start.isoformat(), window_id])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _decode(cursor: str) -> tuple[datetime, int]:
    try:
        start, window_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if type(window_id) is int and 0 < window_id <= LARGEST_ID:
            return datetime.fromisoformat(start), window_id
    except (ValueError, TypeError, RecursionError, binascii.Error):
        pass
    detail = "the cursor is not one that this service gave"
    raise BadRequestError(detail, code="bad-cursor")
