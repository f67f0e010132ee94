"""Routes of webhooks and their deliveries."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service import clock
from service.access.audit import audit
from service.access.scopes import Actor
from service.registry.documents import read
from service.settings import Settings
from service.web import Body, ReadSession, WriteSession, documented_body
from service.webhooks import repository, service
from service.webhooks.addresses import Allowed, read_url
from service.webhooks.resolving import require_permitted
from service.webhooks.schemas import (
    DeliveryDocument,
    DeliveryList,
    WebhookAnswer,
    WebhookDocument,
    WebhookList,
)
from service.webhooks.sealing import NoSecretKeyError, key_from

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

_LARGEST_ID = 2**63 - 1
DNS_SECONDS = 5.0
_WEBHOOK = {
    "url": "https://api.github.com/repos/acme/loans/dispatches",
    "events": ["retraining.requested"],
    "preset": "github",
    "headers": {"Authorization": "Bearer github_pat_11AA"},
}


@router.get("")
def list_webhooks(session: ReadSession) -> WebhookList:
    """List the webhooks by name."""
    return WebhookList(webhooks=[WebhookAnswer.of(r) for r in repository.list_webhooks(session)])


@router.put("/{webhook}", openapi_extra=documented_body(WebhookDocument, _WEBHOOK))
def put_webhook(
    webhook: str, body: Body, request: Request, session: WriteSession, actor: Actor
) -> WebhookAnswer:
    """Store a webhook, and enable it again if it was disabled.

    A secret that is made here is in this answer and in no other.
    """
    settings: Settings = request.app.state.settings
    document = read(WebhookDocument, body)
    require_permitted(read_url(document.url), Allowed.read(settings.webhook_allow), DNS_SECONDS)
    key = key_from(settings)
    if key is None:
        raise NoSecretKeyError
    row, secret = service.put_webhook(session, webhook, document, key, clock.now())
    audit(session, actor, "webhook.put", f"webhook:{webhook}", row.document)
    return WebhookAnswer.of(row, secret)


@router.get("/{webhook}")
def get_webhook(webhook: str, session: ReadSession) -> WebhookAnswer:
    """Return a webhook; of its secret only the last characters."""
    return WebhookAnswer.of(repository.find_webhook(session, webhook))


@router.delete("/{webhook}", status_code=204)
def delete_webhook(webhook: str, session: WriteSession, actor: Actor) -> Response:
    """Delete a webhook with its deliveries, unless a monitor names it."""
    service.delete_webhook(session, webhook)
    audit(session, actor, "webhook.delete", f"webhook:{webhook}")
    return Response(status_code=204)


@router.post("/{webhook}/test", status_code=202)
def try_webhook(webhook: str, session: WriteSession, actor: Actor) -> DeliveryDocument:
    """Send a webhook an event that tries it; its deliveries tell what came of it."""
    row = service.ping(session, webhook, clock.now())
    audit(session, actor, "webhook.test", f"webhook:{webhook}", {"event": row.dedupe_key})
    return DeliveryDocument.of(row, webhook)


@router.get("/{webhook}/deliveries")
def list_deliveries(
    webhook: str,
    session: ReadSession,
    cursor: Annotated[
        int | None, Query(ge=1, le=_LARGEST_ID, description="`next` of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="deliveries a page")] = 50,
) -> DeliveryList:
    """List a webhook's deliveries, newest first."""
    found = repository.find_webhook(session, webhook)
    rows = repository.list_deliveries(session, found.id, before=cursor, limit=limit + 1)
    return DeliveryList.page(rows, webhook, limit)


@router.post("/{webhook}/deliveries/{delivery}/replay", status_code=202)
def replay_delivery(
    webhook: str, delivery: int, session: WriteSession, actor: Actor
) -> DeliveryDocument:
    """Send an event again, with the same id and from the first of its attempts."""
    known = min(max(delivery, 0), _LARGEST_ID)
    row = service.replay(session, webhook, known)
    audit(session, actor, "webhook.replay", f"webhook:{webhook}", {"event": row.dedupe_key})
    return DeliveryDocument.of(row, webhook)
