"""Queries on retraining requests.  Every time is the database's."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import exists, func, select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from service.registry.tables import Version
from service.retraining.tables import LIVE_STATES, RequestWindow, RetrainingRequest


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
