"""Claims and leases.  Every time is the database's, so workers' clocks do not matter."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session, aliased

from service.ledger.marks import BUCKET_KINDS, Item, Kind
from service.ledger.tables import Arrival, DueWork, WorkerHeartbeat


@dataclass(frozen=True, slots=True)
class Claim:
    """A piece of work that this worker holds until its lease ends."""

    id: int
    kind: str
    item: Item
    mark: int
    token: str
    attempts: int
    details: dict[str, Any]


class ClaimLostError(Exception):
    """The lease ended and another worker took the work: nothing of ours may be recorded."""


def claim_one(session: Session, kind: Kind, *, worker: str, lease: timedelta) -> Claim | None:
    """Take the work of this kind that has been due longest and that nobody holds."""
    condition = and_(DueWork.kind == kind, _free())
    if kind == "window":
        condition = and_(condition, _settled())
    row = session.scalar(_longest_due(condition))
    return _take(session, [row.id], worker, lease)[0] if row else None


def claim_run(
    session: Session,
    kind: Kind,
    *,
    worker: str,
    lease: timedelta,
    span: timedelta,
) -> list[Claim]:
    """Take the longest due work of this kind, and what is due of the same version within ``span``.

    Neighbouring buckets are read together; what has failed before is tried alone, so that it does
    not hold its neighbours up.
    """
    first = session.scalar(_longest_due(and_(DueWork.kind == kind, _free())))
    if first is None:
        return []
    if first.attempts:
        return _take(session, [first.id], worker, lease)
    ids = session.scalars(
        select(DueWork.id)
        .where(
            DueWork.kind == kind,
            DueWork.version_id == first.version_id,
            DueWork.start >= first.start,
            DueWork.start < first.start + span,
            DueWork.attempts == 0,
            _free(),
        )
        .order_by(DueWork.id)
        .with_for_update(skip_locked=True)
    ).all()
    return _take(session, ids, worker, lease)


def _longest_due(condition: ColumnElement[bool]) -> Select[DueWork]:
    return (
        select(DueWork)
        .where(condition)
        .order_by(DueWork.due_at, DueWork.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def _free() -> ColumnElement[bool]:
    return and_(
        DueWork.due_at <= func.clock_timestamp(),
        or_(DueWork.lease_until.is_(None), DueWork.lease_until < func.clock_timestamp()),
    )


def _take(session: Session, ids: Sequence[int], worker: str, lease: timedelta) -> list[Claim]:
    token = f"{worker}/{uuid.uuid4().hex}"
    taken = session.scalars(
        update(DueWork)
        .where(DueWork.id.in_(ids))
        .values(
            claimed_by=token,
            lease_until=func.clock_timestamp() + lease,
            attempts=DueWork.attempts + 1,
        )
        .returning(DueWork)
        .execution_options(populate_existing=True)
    ).all()
    return [
        Claim(
            row.id,
            row.kind,
            Item(row.model_id, row.version_id, row.start, row.end),
            row.mark,
            token,
            row.attempts,
            row.details or {},
        )
        for row in sorted(taken, key=lambda row: (row.version_id, row.start))
    ]


def _settled() -> ColumnElement[bool]:
    # A window with a dirty bucket, or with arrivals that nobody has collected, would be judged
    # in fragments.
    bucket = aliased(DueWork)
    dirty = exists().where(
        bucket.kind.in_(BUCKET_KINDS),
        bucket.model_id == DueWork.model_id,
        bucket.version_id == DueWork.version_id,
        bucket.start >= DueWork.start,
        bucket.start < DueWork.end,
    )
    arriving = exists().where(
        Arrival.model_id == DueWork.model_id,
        or_(
            Arrival.bucket.is_(None),
            and_(
                Arrival.version_id == DueWork.version_id,
                Arrival.bucket >= DueWork.start,
                Arrival.bucket < DueWork.end,
            ),
        ),
    )
    return and_(~dirty, ~arriving)


def renew(session: Session, claims: Sequence[Claim], lease: timedelta) -> None:
    """Put the end of the leases off."""
    if claims:
        session.execute(
            update(DueWork)
            .where(
                DueWork.id.in_([c.id for c in claims]),
                DueWork.claimed_by == claims[0].token,
            )
            .values(lease_until=func.clock_timestamp() + lease)
        )


_FROZEN = text("SET LOCAL idle_in_transaction_session_timeout = '10s'")


def finish(session: Session, claims: Sequence[Claim]) -> bool:
    """Clear finished work in the transaction that records its results; say whether all is cleared.

    Work that was marked again meanwhile stays due, unclaimed, without the details that were
    obeyed: a window that was judged silently once may alert when something new comes.

    Raises
    ------
    ClaimLostError
        If one of the claims is no longer ours; the caller's transaction must not commit.
    """
    if not claims:
        return True
    # What is locked from here on keeps others waiting, also if this worker is frozen now.
    session.execute(_FROZEN)
    held = {
        row.id: row
        for row in session.execute(
            select(DueWork.id, DueWork.mark, DueWork.details)
            .where(DueWork.id.in_([c.id for c in claims]), DueWork.claimed_by == claims[0].token)
            # In the order in which marks lock.
            .order_by(DueWork.version_id, DueWork.start, DueWork.end)
            .with_for_update()
        )
    }
    if len(held) != len(claims):
        raise ClaimLostError
    clean = [c.id for c in claims if held[c.id].mark == c.mark]
    session.execute(delete(DueWork).where(DueWork.id.in_(clean)))
    for claim in claims:
        row = held[claim.id]
        if row.mark != claim.mark:
            session.execute(
                update(DueWork)
                .where(DueWork.id == claim.id)
                .values(
                    claimed_by=None,
                    lease_until=None,
                    attempts=0,
                    last_error=None,
                    details={} if row.details == claim.details else row.details,
                )
            )
    return len(clean) == len(claims)


def release(
    session: Session,
    claims: Sequence[Claim],
    *,
    retry_in: timedelta,
    error: str | None = None,
) -> None:
    """Give work back, due again after ``retry_in``; a claim that was lost is left alone."""
    if claims:
        session.execute(
            update(DueWork)
            .where(
                DueWork.id.in_([c.id for c in claims]),
                DueWork.claimed_by == claims[0].token,
            )
            .values(
                claimed_by=None,
                lease_until=None,
                due_at=func.clock_timestamp() + retry_in,
                last_error=error,
            )
        )


def beat(session: Session, worker: str) -> None:
    """Say that the worker is alive."""
    statement = pg_insert(WorkerHeartbeat).values(worker=worker)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["worker"], set_={"beat_at": func.clock_timestamp()}
        )
    )
