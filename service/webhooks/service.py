"""Keeping webhooks, and telling them."""

import logging
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.db.turns import turn
from service.errors import ConflictError, InvalidDocumentError
from service.registry.documents import hint, printable
from service.registry.repository import is_name
from service.registry.service import BadNameError
from service.registry.tables import Model, Monitor, Webhook
from service.webhooks import repository
from service.webhooks.addresses import read_url
from service.webhooks.events import ping_event
from service.webhooks.presets import kind_of
from service.webhooks.repository import UnknownWebhookError
from service.webhooks.schemas import GENERATE, WebhookDocument
from service.webhooks.sealing import UnreadableSealError, seal, unseal
from service.webhooks.signature import generated_secret
from service.webhooks.tables import Outbox

logger = logging.getLogger(__name__)

MOST_WEBHOOKS = 100
ROTATION = timedelta(hours=24)
# Whoever makes a new secret again and again does not make requests grow without bound.
MOST_SECRETS = 3
_SHOWN_OF_SECRET = 4


def put_webhook(
    session: Session, name: str, document: WebhookDocument, key: bytes, now: datetime
) -> tuple[Webhook, str | None]:
    """Store a webhook, enabled; return it with its secret if that was made just now."""
    if not is_name(name):
        raise BadNameError
    _require_models(session, document.models or ())
    # One at a time: two that are put at once are counted, and neither meets the other's row.
    session.execute(turn("webhook"))
    try:
        row = repository.find_webhook(session, name, lock=True)
        secrets = _secrets_of(row, key)
    except UnknownWebhookError:
        _require_room(session)
        row, secrets = Webhook(name=name), []
    made = None
    if document.secret == GENERATE or (document.secret is None and not secrets):
        made = generated_secret()
    secrets = _rotated(secrets, made or document.secret, now)
    row.document = _shown(document, secrets)
    row.sealed = seal(
        key, name, {"url": document.url, "headers": document.headers, "secrets": secrets}
    )
    row.disabled_at = None
    row.updated_at = now
    session.add(row)
    session.flush()
    session.refresh(row)
    return row, made


def _require_models(session: Session, models: Collection[str]) -> None:
    # As elsewhere: before there is any model all may be configured.
    known = list(session.scalars(select(Model.name)))
    for name in models:
        if known and name not in known:
            message = f"models: there is no {printable(name)}{hint(name, known)}"
            raise InvalidDocumentError(message)


def _require_room(session: Session) -> None:
    if (session.scalar(select(func.count()).select_from(Webhook)) or 0) >= MOST_WEBHOOKS:
        message = f"there are {MOST_WEBHOOKS} webhooks already"
        raise ConflictError(message)


def _secrets_of(row: Webhook, key: bytes) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = unseal(key, row.name, row.sealed)["secrets"]
    except UnreadableSealError:
        # Under another key: nobody can sign with them any more, and it is put anew.
        return []
    return found


def _rotated(
    secrets: list[dict[str, Any]], given: str | None, now: datetime
) -> list[dict[str, Any]]:
    """Return the secret that is in force, and those that it has replaced for the time being."""
    alive = [s for s in secrets if s["until"] is None or datetime.fromisoformat(s["until"]) > now]
    if given is None or (alive and alive[0]["secret"] == given):
        return alive
    until = (now + ROTATION).isoformat()
    replaced = [{**s, "until": s["until"] or until} for s in alive if s["secret"] != given]
    return [{"secret": given, "until": None}, *replaced][:MOST_SECRETS]


def _shown(document: WebhookDocument, secrets: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **document.model_dump(mode="json", include={"events", "models", "preset", "options"}),
        "url": read_url(document.url).shown,
        "headers": sorted(document.headers),
        "secret_ends": secrets[0]["secret"][-_SHOWN_OF_SECRET:],
        "rotating_until": max((s["until"] for s in secrets[1:]), default=None),
    }


def delete_webhook(session: Session, name: str) -> None:
    """Delete a webhook with its deliveries.

    Raises
    ------
    ConflictError
        If the monitor of a model names it.
    """
    session.execute(turn("webhook"))
    row = repository.find_webhook(session, name, lock=True)
    newest = select(func.max(Monitor.id)).group_by(Monitor.model_id)
    named = session.scalar(
        select(Model.name)
        .join(Monitor, Monitor.model_id == Model.id)
        .where(
            Monitor.id.in_(newest),
            Monitor.document["retraining"]["webhooks"].has_key(name),
        )
        .order_by(Model.name)
    )
    if named is not None:
        message = f"the monitor of {named} names it in retraining.webhooks"
        raise ConflictError(message)
    session.delete(row)
    session.flush()


def announce(
    session: Session,
    event: Mapping[str, Any],
    *,
    model: str,
    named: Collection[str] | None = None,
    request_id: int | None = None,
) -> int:
    """Record an event for whoever wants to hear of it, and return for how many.

    Those are the webhooks that list its kind and its model, and of these only those ``named``.
    """
    webhooks = repository.list_webhooks(session)
    for missing in sorted(set(named or ()) - {webhook.name for webhook in webhooks}):
        logger.warning("the monitor of %s names a webhook that is not there: %s", model, missing)
    count = 0
    for webhook in webhooks:
        document = webhook.document
        if (
            kind_of(event) in document["events"]
            and (document["models"] is None or model in document["models"])
            and (named is None or webhook.name in named)
        ):
            told = repository.enqueue(session, webhook, event, request_id=request_id)
            count += told is not None
    return count


def ping(session: Session, name: str, now: datetime) -> Outbox:
    """Record an event that tries a webhook, and return its delivery.

    Raises
    ------
    ConflictError
        If the webhook is disabled.
    """
    webhook = repository.find_webhook(session, name)
    _require_enabled(webhook)
    delivery_id = repository.enqueue(session, webhook, ping_event(name, now))
    if delivery_id is None:
        raise UnknownWebhookError
    return session.get_one(Outbox, delivery_id)


def replay(session: Session, name: str, delivery_id: int) -> Outbox:
    """Make a delivery due again, from the first of its attempts.

    Raises
    ------
    ConflictError
        If the webhook is disabled.
    """
    webhook = repository.find_webhook(session, name)
    _require_enabled(webhook)
    row = repository.find_delivery(session, webhook.id, delivery_id)
    row.delivered_at, row.abandoned, row.attempts = None, False, 0
    row.replayed_at = row.next_attempt_at = func.clock_timestamp()
    session.flush()
    session.refresh(row)
    return row


def _require_enabled(webhook: Webhook) -> None:
    if webhook.disabled_at is not None:
        message = "the webhook is disabled, for its target has said that it is gone; put it again"
        raise ConflictError(message)
