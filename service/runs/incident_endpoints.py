"""Reading incidents and acting on them; they stand here because windows open and close them."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from service import clock
from service.access.audit import audit, change
from service.access.scopes import Actor
from service.alerts import repository
from service.alerts.announcing import announce_changes
from service.alerts.schemas import (
    AlertingWindow,
    Deed,
    Handling,
    IncidentDocument,
    IncidentList,
    IncidentState,
    IncidentWithWindows,
)
from service.alerts.service import handle
from service.alerts.tables import Incident
from service.errors import InvalidDocumentError, UnknownIncidentError
from service.registry.documents import read
from service.registry.repository import find_model, find_version, find_version_by_id
from service.retraining.repository import lock_version
from service.runs.incidents import newest_window
from service.web import Body, ReadSession, WriteSession, documented_body

router = APIRouter(prefix="/v1/incidents", tags=["incidents"])

_LARGEST_ID = 2**63 - 1
_MOST_WINDOWS = 100
_HANDLING = {"by": "ana", "note": "the upstream fix is deployed"}


@router.get("")
def list_incidents(
    session: ReadSession,
    model: Annotated[str | None, Query(description="only of this model")] = None,
    version: Annotated[str | None, Query(description="only of this version of the model")] = None,
    state: Annotated[IncidentState | None, Query(description="only in this state")] = None,
    cursor: Annotated[
        int, Query(ge=0, le=_LARGEST_ID, description="`next` of the page before")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=200, description="incidents a page")] = 50,
) -> IncidentList:
    """List incidents, oldest first."""
    if version is not None and model is None:
        message = "version: needs the model beside it"
        raise InvalidDocumentError(message)
    found = repository.list_incidents(
        session,
        model_id=None if model is None else find_model(session, model).id,
        version_id=None
        if model is None or version is None
        else find_version(session, model, version).version_id,
        state=state,
        after=cursor,
        limit=limit + 1,
    )
    page = found[:limit]
    following = str(page[-1].id) if len(found) > limit else None
    return IncidentList(incidents=_documents(session, page), next=following)


@router.get("/{incident_id}")
def read_incident(session: ReadSession, incident_id: int) -> IncidentWithWindows:
    """Read one incident with the windows that alert about it."""
    incident = _find(session, incident_id)
    (document,) = _documents(session, [incident])
    windows = [
        AlertingWindow.model_validate(signal)
        for signal in repository.alerts_of(session, incident, _MOST_WINDOWS)
    ]
    return IncidentWithWindows(**document.model_dump(), windows=windows)


@router.post("/{incident_id}/{deed}", openapi_extra=documented_body(Handling, _HANDLING))
def handle_incident(
    session: WriteSession, incident_id: int, deed: Deed, body: Body, actor: Actor
) -> IncidentDocument:
    """Acknowledge, resolve or dismiss an incident; doing it again changes nothing.

    A resolved incident is closed by the newest window, and opens again if the trouble goes on; a
    dismissed one is closed until it has gone away by itself.
    """
    handling = read(Handling, body)
    incident = _find(session, incident_id)
    lock_version(session, incident.version_id)
    session.refresh(incident)
    state = incident.state
    handle(
        incident,
        deed,
        by=handling.by or actor,
        note=handling.note,
        at=clock.now(),
        newest=newest_window(session, incident),
    )
    announce_changes(session, incident.version_id)
    details = change({"state": state}, {"state": incident.state})
    details["by"] = handling.by or actor
    audit(session, actor, f"incident.{deed}", f"incident:{incident_id}", details)
    return _documents(session, [incident])[0]


def _find(session: Session, incident_id: int) -> Incident:
    found = session.get(Incident, incident_id) if 0 < incident_id <= _LARGEST_ID else None
    if found is None:
        raise UnknownIncidentError
    return found


def _documents(session: Session, incidents: Sequence[Incident]) -> list[IncidentDocument]:
    versions = {v: find_version_by_id(session, v) for v in {i.version_id for i in incidents}}
    return [
        IncidentDocument.of(
            incident, versions[incident.version_id].model, versions[incident.version_id].version
        )
        for incident in incidents
    ]
