"""Routes of keys and of the audit log."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from service.access import repository
from service.access.audit import verify
from service.access.scopes import Actor
from service.access.service import create_key, revoke_key, rotate_key
from service.access.tables import ApiKey, AuditEntry
from service.access.tokens import Token
from service.registry.documents import read
from service.registry.key_schemas import (
    AuditEntryAnswer,
    AuditList,
    KeyAnswer,
    KeyDocument,
    KeyList,
    NewKeyAnswer,
    RotationDocument,
    VerificationAnswer,
)
from service.web import Body, ReadSession, WriteSession, documented_body

router = APIRouter(prefix="/v1", tags=["access"])

_KEY = {
    "scopes": ["ingest"],
    "models": ["loans"],
    "name": "scoring service",
    "rows_per_minute": 60_000,
}
_LARGEST_ID = 2**63 - 1


@router.get("/keys")
def list_keys(session: ReadSession) -> KeyList:
    """List the keys, those that are revoked and expired as well; secrets are not kept."""
    return KeyList(keys=[KeyAnswer.model_validate(key) for key in repository.list_keys(session)])


@router.post("/keys", status_code=201, openapi_extra=documented_body(KeyDocument, _KEY))
def post_key(body: Body, session: WriteSession, actor: Actor) -> NewKeyAnswer:
    """Make a key; the answer is the only place where it is ever shown."""
    token = create_key(session, actor, read(KeyDocument, body).wish())
    return _new_key(session, token)


@router.post(
    "/keys/{kid}/rotate",
    status_code=201,
    openapi_extra=documented_body(RotationDocument, {"grace_hours": 24}),
)
def rotate(
    request: Request, kid: str, body: Body, session: WriteSession, actor: Actor
) -> NewKeyAnswer:
    """Make a key that grants the same; the old one expires after the grace."""
    grace = timedelta(hours=read(RotationDocument, body).grace_hours)
    token = rotate_key(session, actor, kid, grace)
    _forget_when_committed(request, session, kid)
    return _new_key(session, token)


@router.delete("/keys/{kid}")
def delete_key(request: Request, kid: str, session: WriteSession, actor: Actor) -> KeyAnswer:
    """Revoke a key: here at once, in other processes within 30 s; it stays listed."""
    key = revoke_key(session, actor, kid)
    _forget_when_committed(request, session, kid)
    return KeyAnswer.model_validate(key)


@router.get("/audit")
def list_audit(
    session: ReadSession,
    cursor: Annotated[
        int, Query(ge=0, le=_LARGEST_ID, description="`next` of the page before")
    ] = _LARGEST_ID,
    limit: Annotated[int, Query(ge=1, le=1_000, description="entries a page")] = 100,
) -> AuditList:
    """List what was changed and by whom, newest first."""
    found = session.scalars(
        select(AuditEntry)
        .where(AuditEntry.id < cursor)
        .order_by(AuditEntry.id.desc())
        .limit(limit + 1)
    ).all()
    page = found[:limit]
    following = str(page[-1].id) if len(found) > limit else None
    return AuditList(entries=_entries(page), next=following)


@router.get("/audit/verification")
def verify_audit(session: ReadSession) -> VerificationAnswer:
    """Verify the chain of the audit log, from its first entry to its last."""
    return VerificationAnswer.model_validate(verify(session))


def _new_key(session: Session, token: Token) -> NewKeyAnswer:
    key = session.get_one(ApiKey, token.kid, populate_existing=True)
    return NewKeyAnswer(**KeyAnswer.model_validate(key).model_dump(), key=token.text)


def _forget_when_committed(request: Request, session: Session, kid: str) -> None:
    keys = getattr(request.app.state, "keys", None)
    if keys is not None:
        event.listen(session, "after_commit", lambda _session: keys.forget(kid), once=True)


def _entries(found: Sequence[AuditEntry]) -> list[AuditEntryAnswer]:
    return [
        AuditEntryAnswer(
            id=entry.id,
            at=entry.at,
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            details=json.loads(entry.details),
            hash=entry.hash.hex(),
        )
        for entry in found
    ]
