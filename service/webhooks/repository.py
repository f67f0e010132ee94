"""Queries on webhooks and the outbox.  Every time is the database's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from service.errors import NotFoundError
from service.registry.repository import is_name
from service.registry.tables import Webhook
from service.webhooks.tables import Outbox

_PENDING = and_(Outbox.delivered_at.is_(None), ~Outbox.abandoned)


class UnknownWebhookError(NotFoundError):
    """No webhook has that name."""

    code = "unknown-webhook"
    title = "Unknown webhook"

    def __init__(self) -> None:
        super().__init__("no webhook has that name")


class UnknownDeliveryError(NotFoundError):
    """The webhook has no delivery of that id."""

    code = "unknown-delivery"
    title = "Unknown delivery"

    def __init__(self) -> None:
        super().__init__("the webhook has no delivery of that id")


def list_webhooks(session: Session) -> Sequence[Webhook]:
    """Return all webhooks by name."""
    return session.scalars(select(Webhook).order_by(Webhook.name)).all()


def find_webhook(session: Session, name: str, *, lock: bool = False) -> Webhook:
    """Return the webhook of that name."""
    statement = select(Webhook).where(Webhook.name == name)
    if lock:
        statement = statement.with_for_update(key_share=True)
    # What can be no name need not reach the database, where a NUL would be an error.
    row = session.scalar(statement) if is_name(name) else None
    if row is None:
        raise UnknownWebhookError
    return row


def enqueue(
    session: Session,
    webhook: Webhook,
    event: Mapping[str, Any],
    *,
    request_id: int | None = None,
) -> int | None:
    """Record the event for a webhook, under its own id.

    A webhook that is disabled is not told, which its deliveries show.  Returns None if the webhook
    has been told before, or has gone since it was read.
    """
    # It cannot go now until the event is recorded.
    found = session.execute(
        select(Webhook.disabled_at)
        .where(Webhook.id == webhook.id)
        .with_for_update(read=True, key_share=True)
    ).first()
    if found is None:
        return None
    disabled = found.disabled_at is not None
    return session.scalar(
        pg_insert(Outbox)
        .values(
            dedupe_key=event["id"],
            webhook_id=webhook.id,
            request_id=request_id,
            event=dict(event),
            abandoned=disabled,
            last_error="disabled" if disabled else None,
        )
        .on_conflict_do_nothing(index_elements=[Outbox.dedupe_key, Outbox.webhook_id])
        .returning(Outbox.id)
    )


def deliveries_of_requests(
    session: Session, request_ids: Sequence[int]
) -> dict[int, list[tuple[Outbox, str]]]:
    """Return the deliveries of each request with their webhooks' names, oldest first."""
    found: dict[int, list[tuple[Outbox, str]]] = {request_id: [] for request_id in request_ids}
    rows = session.execute(
        select(Outbox, Webhook.name)
        .join(Webhook, Webhook.id == Outbox.webhook_id)
        .where(Outbox.request_id.in_(request_ids))
        .order_by(Outbox.id)
    )
    for row, name in rows:
        found[row.request_id or 0].append((row, name))
    return found


def list_deliveries(
    session: Session, webhook_id: int, *, before: int | None, limit: int
) -> Sequence[Outbox]:
    """Return a webhook's deliveries with an id below ``before``, newest first."""
    statement = select(Outbox).where(Outbox.webhook_id == webhook_id)
    if before is not None:
        statement = statement.where(Outbox.id < before)
    return session.scalars(statement.order_by(Outbox.id.desc()).limit(limit)).all()


def find_delivery(session: Session, webhook_id: int, delivery_id: int) -> Outbox:
    """Return one of a webhook's deliveries, locked."""
    row = session.scalar(
        select(Outbox)
        .where(Outbox.id == delivery_id, Outbox.webhook_id == webhook_id)
        .with_for_update()
    )
    if row is None:
        raise UnknownDeliveryError
    return row


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that this process may send until its lease ends; ``attempt`` counts from one."""

    id: int
    key: str
    event: dict[str, Any]
    attempt: int
    webhook_id: int
    webhook: str
    document: dict[str, Any]
    sealed: bytes


def abandon_expired(session: Session, horizon: timedelta) -> dict[str, int]:
    """Give up events whose last retry is past, and return how many by webhook.

    A pipeline that was away for longer than the retries last shall not be told of old problems as
    if they were new.
    """
    since = func.coalesce(Outbox.replayed_at, Outbox.created_at)
    statement = (
        update(Outbox)
        .where(
            _PENDING,
            Outbox.webhook_id == Webhook.id,
            since < func.clock_timestamp() - horizon,
            Outbox.next_attempt_at <= func.clock_timestamp(),
        )
        .values(abandoned=True, last_error="expired")
        .returning(Webhook.name)
    )
    names = session.scalars(statement).all()
    return {name: names.count(name) for name in set(names)}


def _longest_waiting() -> Select[Outbox, Webhook]:
    now = func.clock_timestamp()
    return (
        select(Outbox, Webhook)
        .join(Webhook, Webhook.id == Outbox.webhook_id)
        .where(
            _PENDING,
            Outbox.next_attempt_at <= now,
            Webhook.disabled_at.is_(None),
            or_(Webhook.busy_until.is_(None), Webhook.busy_until <= now),
        )
        .order_by(Outbox.next_attempt_at, Outbox.id)
        .limit(1)
        # Not against events that are being recorded for the webhook.
        .with_for_update(skip_locked=True, key_share=True)
    )


def claim_delivery(session: Session, lease: timedelta) -> Delivery | None:
    """Take the event that has waited longest, and put it off so that nobody else sends it.

    One event at a time goes to a webhook: a slow one keeps nobody but itself waiting.
    """
    found = session.execute(_longest_waiting()).first()
    if found is None:
        return None
    row, webhook = found
    attempt = row.attempts + 1
    until = func.clock_timestamp() + lease
    session.execute(
        update(Outbox)
        .where(Outbox.id == row.id)
        .values(attempts=attempt, next_attempt_at=until)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(Webhook)
        .where(Webhook.id == webhook.id)
        .values(busy_until=until)
        .execution_options(synchronize_session=False)
    )
    return Delivery(
        id=row.id,
        key=row.dedupe_key,
        event=row.event,
        attempt=attempt,
        webhook_id=webhook.id,
        webhook=webhook.name,
        document=webhook.document,
        sealed=webhook.sealed,
    )


def settle_delivery(
    session: Session,
    delivery: Delivery,
    *,
    status: int | None,
    error: str | None,
    retry_in: timedelta | None,
    delivered: bool,
) -> bool:
    """Record how an attempt ended; return false if its lease was lost to a later attempt.

    ``retry_in`` of None means that no attempt follows.
    """
    now = func.clock_timestamp()
    # In the order in which a webhook that is deleted takes its deliveries with it.
    session.execute(
        select(Webhook.id).where(Webhook.id == delivery.webhook_id).with_for_update(key_share=True)
    )
    ours = session.scalar(
        update(Outbox)
        .where(Outbox.id == delivery.id, Outbox.attempts == delivery.attempt, _PENDING)
        .values(
            last_status=status,
            last_error=error,
            delivered_at=now if delivered else None,
            abandoned=not delivered and retry_in is None,
            next_attempt_at=now + (retry_in or timedelta(0)),
        )
        .returning(Outbox.id)
    )
    if ours is not None:
        session.execute(
            update(Webhook).where(Webhook.id == delivery.webhook_id).values(busy_until=None)
        )
    return ours is not None


def disable(session: Session, webhook_id: int) -> None:
    """Send a webhook nothing more, until it is put again; what waited for it is given up."""
    session.execute(
        update(Webhook).where(Webhook.id == webhook_id).values(disabled_at=func.clock_timestamp())
    )
    session.execute(
        update(Outbox)
        .where(Outbox.webhook_id == webhook_id, _PENDING)
        .values(abandoned=True, last_error="disabled")
    )
