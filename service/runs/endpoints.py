"""Read routes over judged windows, and the request to evaluate."""

import zlib
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import AwareDatetime, StringConstraints
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.access.audit import audit
from service.access.scopes import Actor
from service.errors import ConflictError, InvalidDocumentError
from service.ledger.marks import Item, mark
from service.ledger.tables import DueWork
from service.registry.documents import read
from service.registry.repository import find_model
from service.runs import queries
from service.runs.overfit import Gaps
from service.runs.schemas import (
    AcceptedOut,
    EvaluateIn,
    EvaluationOut,
    MeasurementOut,
    SeriesOut,
    WindowsOut,
    WindowWithMeasurementsOut,
    explanation_out,
    point_out,
    window_out,
)
from service.runs.tables import Evaluation, Window
from service.web import Body, ReadSession, WriteSession, documented_body

router = APIRouter(prefix="/v1", tags=["windows"])

# The database has no NUL, and fails where it is asked for one.
Name = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
From = Annotated[AwareDatetime | None, Query(alias="from")]

# Evidently's page runs its own scripts: it gets an origin of its own and nothing else.
REPORT_HEADERS = {
    "Content-Security-Policy": (
        "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; connect-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@router.get("/models/{model}/windows")
def list_windows(
    model: str,
    session: ReadSession,
    version: Name | None = None,
    from_: From = None,
    to: AwareDatetime | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=queries.PAGE)] = queries.PAGE,
) -> WindowsOut:
    """List judged windows, their verdicts and counts, ordered by start."""
    model_id = find_model(session, model).id
    found, cursor_next = queries.page_of_windows(
        session,
        model_id,
        version=version,
        start=from_,
        end=to,
        cursor=cursor,
        limit=limit,
    )
    gaps = Gaps(session, model_id)
    return WindowsOut.model_validate(
        {"windows": [window_out(*row, gaps) for row in found], "next": cursor_next}
    )


@router.get("/models/{model}/windows/{start}")
def read_window(
    model: str, start: AwareDatetime, session: ReadSession, version: Name | None = None
) -> WindowWithMeasurementsOut:
    """Return one window with all its measurements; the newest version's if none is named."""
    model_id = find_model(session, model).id
    window, name = queries.find_window(session, model_id, start, version)
    measured = queries.measurements_of(session, window.id)
    return WindowWithMeasurementsOut.model_validate(
        {
            **window_out(window, name, Gaps(session, model_id)),
            "measurements": [MeasurementOut.model_validate(row) for row in measured],
            "explanation": explanation_out(measured),
        }
    )


@router.get(
    "/models/{model}/windows/{start}/report",
    response_class=HTMLResponse,
    responses={202: {"description": "the worker is rendering it: ask again"}},
)
def read_report(
    model: str, start: AwareDatetime, session: WriteSession, version: Name | None = None
) -> Response:
    """Return Evidently's report of a window; 202 with Retry-After while it is being rendered."""
    window, _ = queries.find_window(session, find_model(session, model).id, start, version)
    if window.reference_revision is None:
        detail = "the window was judged without a reference: Evidently has nothing to compare"
        raise InvalidDocumentError(detail, code="no-reference")
    report = queries.report_of(session, window.id)
    if report is not None and report.error is not None:
        detail = "Evidently cannot render this window, and was asked three times"
        raise ConflictError(detail, code="report-failed")
    if report is not None:
        return HTMLResponse(zlib.decompress(report.content), headers=REPORT_HEADERS)
    if not _report_is_due(session, window):
        mark(
            session,
            "report",
            [Item(window.model_id, window.version_id, window.start, window.end)],
        )
    return JSONResponse({"state": "queued"}, status_code=202, headers={"Retry-After": "2"})


@router.get("/models/{model}/measurements")
def list_measurements(
    model: str,
    metric: Name,
    session: ReadSession,
    subject: Name | None = None,
    slice_: Annotated[Name | None, Query(alias="slice")] = None,
    version: Name | None = None,
    from_: From = None,
    to: AwareDatetime | None = None,
    cursor: str | None = None,
) -> SeriesOut:
    """Return one metric over time."""
    found, cursor_next = queries.series(
        session,
        find_model(session, model).id,
        metric=metric,
        subject=subject,
        slice_=slice_,
        version=version,
        start=from_,
        end=to,
        cursor=cursor,
    )
    return SeriesOut(measurements=[point_out(*row) for row in found], next=cursor_next)


@router.post(
    "/models/{model}/evaluate",
    status_code=202,
    openapi_extra=documented_body(EvaluateIn, {"until": "2026-12-01T00:00:00Z"}),
)
def evaluate(model: str, body: Body, session: WriteSession, actor: Actor) -> AcceptedOut:
    """Evaluate every due window now; with ``from``, judge the windows of a span again."""
    asked = read(EvaluateIn, body)
    if asked.from_ is not None and asked.until - asked.from_ <= timedelta(0):
        detail = "until must be later than from"
        raise InvalidDocumentError(detail)
    evaluation = Evaluation(
        model_id=find_model(session, model).id,
        from_=asked.from_,
        until=asked.until,
        alert=asked.alert,
    )
    session.add(evaluation)
    session.flush()
    told = asked.model_dump(mode="json", by_alias=True)
    audit(session, actor, "evaluation.ask", f"model:{model}", {"evaluation": evaluation.id, **told})
    return AcceptedOut(evaluation=evaluation.id)


@router.get("/evaluations/{evaluation}")
def read_evaluation(evaluation: int, session: ReadSession) -> EvaluationOut:
    """Return the progress of an evaluation."""
    return EvaluationOut.model_validate(queries.evaluation_progress(session, evaluation))


def _report_is_due(session: Session, window: Window) -> bool:
    found = session.scalar(
        select(DueWork.id).where(
            DueWork.kind == "report",
            DueWork.version_id == window.version_id,
            DueWork.start == window.start,
            DueWork.end == window.end,
        )
    )
    return found is not None
