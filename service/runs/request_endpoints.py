"""Reading retraining requests; they stand here because their evidence are windows."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from service.errors import UnknownRequestError
from service.registry.repository import find_model, find_version_by_id
from service.retraining import repository
from service.retraining.schemas import DeliveryDocument, RequestState
from service.retraining.tables import RetrainingRequest
from service.runs.evidence import labelled_rows, windows_of
from service.runs.request_schemas import Evidence, EvidenceWindow, RequestDocument, RequestList
from service.web import ReadSession

router = APIRouter(prefix="/v1/retraining-requests", tags=["retraining"])

_LARGEST_ID = 2**63 - 1


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
    request = (
        repository.find_request(session, request_id) if 0 < request_id <= _LARGEST_ID else None
    )
    if request is None:
        raise UnknownRequestError
    return _documents(session, [request])[0]


def _documents(session: Session, requests: Sequence[RetrainingRequest]) -> list[RequestDocument]:
    ids = [request.id for request in requests]
    versions = {v: find_version_by_id(session, v) for v in {r.version_id for r in requests}}
    windows = windows_of(session, ids)
    deliveries = repository.deliveries(session, ids)
    return [
        RequestDocument.model_validate(
            {
                "id": request.id,
                "model": versions[request.version_id].model,
                "version": versions[request.version_id].version,
                "state": request.state,
                "action": request.action,
                "reason": request.reason,
                "opened_at": request.opened_at,
                "evidence": Evidence(
                    windows=[EvidenceWindow.of(found) for found in windows[request.id]],
                    labelled_rows_per_class=labelled_rows(
                        session, request, versions[request.version_id]
                    ),
                ),
                "deliveries": [DeliveryDocument.of(row) for row in deliveries[request.id]],
            }
        )
        for request in requests
    ]
