"""Queries on retraining requests and the outbox.  Every time is the database's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from service.registry.tables import Version
from service.retraining.tables import LIVE_STATES, Outbox, RequestWindow, RetrainingRequest

_PENDING = and_(Outbox.delivered_at.is_(None), ~Outbox.abandoned)


def lock_version(session: Session, version_id: int) -> str | None:
    """Queue behind other requests for the version until the transaction ends; return its stage.

    The partial unique index alone would hold too, but an insert that it refuses burns an id.
    """
    return session.scalar(
        select(Version.stage).where(Version.id == version_id).with_for_update(key_share=True)
    )


def live_request(session: Session, version_id: int) -> int | None:
    """Return the one request of the version that a team may still be working on, locked."""
    return session.scalar(
        select(RetrainingRequest.id)
        .where(
            RetrainingRequest.version_id == version_id,
            RetrainingRequest.state.in_(LIVE_STATES),
        )
        .with_for_update()
    )


def was_closed_within(session: Session, model_id: int, span: timedelta) -> bool:
    """Say whether a request of the model was closed less than ``span`` ago."""
    recent = exists().where(
        RetrainingRequest.model_id == model_id,
        RetrainingRequest.closed_at > func.clock_timestamp() - span,
    )
    return bool(session.scalar(select(recent)))


def request_of_window(
    session: Session, version_id: int, start: datetime, end: datetime
) -> int | None:
    """Return the newest request, live or closed, that has the window as evidence."""
    return session.scalar(
        select(RetrainingRequest.id)
        .join(RequestWindow, RequestWindow.request_id == RetrainingRequest.id)
        .where(
            RetrainingRequest.version_id == version_id,
            RequestWindow.start == start,
            RequestWindow.end == end,
        )
        .order_by(RetrainingRequest.id.desc())
        .limit(1)
    )


def link_window(session: Session, request_id: int, start: datetime, end: datetime) -> None:
    """Make the window evidence of the request; repeating it changes nothing."""
    session.execute(
        pg_insert(RequestWindow)
        .values(request_id=request_id, start=start, end=end)
        .on_conflict_do_nothing()
    )


def enqueue(session: Session, request_id: int, event: dict[str, Any]) -> None:
    """Record the event for delivery, with what caused it, under its own id."""
    session.add(Outbox(dedupe_key=event["id"], request_id=request_id, event=event))
    session.flush()


def list_requests(
    session: Session,
    *,
    model_id: int | None = None,
    state: str | None = None,
    after: int = 0,
    limit: int = 50,
) -> Sequence[RetrainingRequest]:
    """Return requests with an id above ``after``, in the order of their ids."""
    statement = select(RetrainingRequest).where(RetrainingRequest.id > after)
    if model_id is not None:
        statement = statement.where(RetrainingRequest.model_id == model_id)
    if state is not None:
        statement = statement.where(RetrainingRequest.state == state)
    return session.scalars(statement.order_by(RetrainingRequest.id).limit(limit)).all()


def find_request(session: Session, request_id: int) -> RetrainingRequest | None:
    """Return the request with this id."""
    return session.get(RetrainingRequest, request_id)


def deliveries(session: Session, request_ids: Sequence[int]) -> dict[int, list[Outbox]]:
    """Return the events of each request, oldest first."""
    found: dict[int, list[Outbox]] = {request_id: [] for request_id in request_ids}
    rows = session.scalars(
        select(Outbox).where(Outbox.request_id.in_(request_ids)).order_by(Outbox.id)
    )
    for row in rows:
        found[row.request_id or 0].append(row)
    return found


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that this process may send until its lease ends; ``attempt`` counts from one."""

    id: int
    key: str
    event: dict[str, Any]
    attempt: int


def has_due(session: Session) -> bool:
    """Say whether an event waits to be sent now."""
    due = exists().where(_PENDING, Outbox.next_attempt_at <= func.clock_timestamp())
    return bool(session.scalar(select(due)))


def abandon_expired(session: Session, horizon: timedelta) -> int:
    """Give up events whose last retry is past, and return how many.

    A pipeline that was away for longer than the retries last shall not be told of old problems as
    if they were new.
    """
    statement = (
        update(Outbox)
        .where(
            _PENDING,
            Outbox.created_at < func.clock_timestamp() - horizon,
            Outbox.next_attempt_at <= func.clock_timestamp(),
        )
        .values(abandoned=True, last_error="expired")
        .returning(Outbox.id)
    )
    return len(session.scalars(statement).all())


def claim_delivery(session: Session, lease: timedelta) -> Delivery | None:
    """Take the event that has waited longest, and put it off so that nobody else sends it."""
    row = session.scalar(
        select(Outbox)
        .where(_PENDING, Outbox.next_attempt_at <= func.clock_timestamp())
        .order_by(Outbox.next_attempt_at, Outbox.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if row is None:
        return None
    attempt = row.attempts + 1
    session.execute(
        update(Outbox)
        .where(Outbox.id == row.id)
        .values(attempts=attempt, next_attempt_at=func.clock_timestamp() + lease)
    )
    return Delivery(row.id, row.dedupe_key, row.event, attempt)


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
    statement = (
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
    return session.scalar(statement) is not None
