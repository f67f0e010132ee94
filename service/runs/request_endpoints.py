"""Reading and handling retraining requests; here because their evidence are windows."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from service import clock
from service.access.audit import audit, change
from service.access.scopes import Actor
from service.alerts.schemas import Handling
from service.errors import UnknownRequestError
from service.registry.documents import read
from service.registry.repository import find_model, find_version_by_id
from service.retraining import repository
from service.retraining.events import with_where
from service.retraining.schemas import Deed, RequestState
from service.retraining.service import handle
from service.retraining.tables import RetrainingRequest
from service.runs.evidence import (
    incidents_of,
    labelled_rows,
    where_lost,
    windows_of,
)
from service.runs.request_schemas import (
    Evidence,
    EvidenceAlert,
    EvidenceWindow,
    RequestDocument,
    RequestList,
)
from service.web import Body, ReadSession, WriteSession, documented_body
from service.webhooks.repository import deliveries_of_requests
from service.webhooks.schemas import DeliveryDocument

router = APIRouter(prefix="/v1/retraining-requests", tags=["retraining"])

_LARGEST_ID = 2**63 - 1
_HANDLING = {"by": "ana", "note": "trained on the rows since Monday"}


@router.get("")
def list_requests(
    session: ReadSession,
    model: Annotated[str | None, Query(description="only of this model")] = None,
    state: Annotated[RequestState | None, Query(description="only in this state")] = None,
    cursor: Annotated[
        int, Query(ge=0, le=_LARGEST_ID, description="`next` of the page before")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=200, description="requests a page")] = 50,
) -> RequestList:
    """List retraining requests with their evidence, oldest first."""
    model_id = find_model(session, model).id if model is not None else None
    found = repository.list_requests(
        session, model_id=model_id, state=state, after=cursor, limit=limit + 1
    )
    page = found[:limit]
    following = str(page[-1].id) if len(found) > limit else None
    return RequestList(requests=_documents(session, page), next=following)


@router.get("/{request_id}")
def read_request(session: ReadSession, request_id: int) -> RequestDocument:
    """Read one retraining request with its evidence."""
    return _documents(session, [_find(session, request_id)])[0]


@router.post("/{request_id}/{deed}", openapi_extra=documented_body(Handling, _HANDLING))
def handle_request(
    session: WriteSession, request_id: int, deed: Deed, body: Body, actor: Actor
) -> RequestDocument:
    """Acknowledge, start or dismiss a retraining request; doing it again changes nothing."""
    handling = read(Handling, body)
    request = _find(session, request_id)
    repository.lock_version(session, request.version_id)
    session.refresh(request)
    state = request.state
    handle(request, deed, by=handling.by or actor, note=handling.note, at=clock.now())
    details = change({"state": state}, {"state": request.state}) | {"by": handling.by or actor}
    audit(session, actor, f"retraining-request.{deed}", f"retraining-request:{request_id}", details)
    return _documents(session, [request])[0]


def _find(session: Session, request_id: int) -> RetrainingRequest:
    found = repository.find_request(session, request_id) if 0 < request_id <= _LARGEST_ID else None
    if found is None:
        raise UnknownRequestError
    return found


def _documents(session: Session, requests: Sequence[RetrainingRequest]) -> list[RequestDocument]:
    ids = [request.id for request in requests]
    versions = {v: find_version_by_id(session, v) for v in {r.version_id for r in requests}}
    windows = windows_of(session, ids)
    deliveries = deliveries_of_requests(session, ids)
    alerts = repository.alerts_of(session, ids)
    return [
        RequestDocument.model_validate(
            {
                "id": request.id,
                "model": versions[request.version_id].model,
                "version": versions[request.version_id].version,
                "state": request.state,
                "action": request.action,
                "reason": with_where(request.reason, where_lost(windows[request.id])),
                "opened_at": request.opened_at,
                "closed_at": request.closed_at,
                "handled_by": request.handled_by,
                "note": request.note,
                "evidence": Evidence(
                    incidents=incidents_of(session, request, windows[request.id]),
                    windows=[EvidenceWindow.of(found) for found in windows[request.id]],
                    alerts=[EvidenceAlert.model_validate(row) for row in alerts[request.id]],
                    # An alert that opened a request has no windows, and so none to count in.
                    labelled_rows_per_class=labelled_rows(
                        session, request, versions[request.version_id]
                    )
                    if windows[request.id]
                    else None,
                ),
                "deliveries": [DeliveryDocument.of(*each) for each in deliveries[request.id]],
            }
        )
        for request in requests
    ]
