"""Reading keys."""

from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from service.access.tables import ApiKey
from service.errors import NotFoundError

# Finer than anybody asks for, and it spares a write for each request.
USE_RESOLUTION = timedelta(minutes=1)


class UnknownKeyError(NotFoundError):
    """No key has that id."""

    code = "unknown-key"
    title = "Unknown key"

    def __init__(self) -> None:
        super().__init__("no key has that id; `modelwatch key list` and GET /v1/keys show all")


def _is_live() -> ColumnElement[bool]:
    unexpired = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now())
    return ApiKey.revoked_at.is_(None) & unexpired


def live_keys(session: Session) -> list[tuple[ApiKey, float | None]]:
    """Return the keys that open something now, with the seconds that are left of them."""
    left = func.extract("epoch", ApiKey.expires_at - func.clock_timestamp()).label("seconds_left")
    rows = session.execute(select(ApiKey, left).where(_is_live()))
    return [(key, None if seconds is None else float(seconds)) for key, seconds in rows]


def has_live_key(session: Session) -> bool:
    """Say whether any key opens anything."""
    return session.scalar(select(ApiKey.kid).where(_is_live()).limit(1)) is not None


def find_live_key(session: Session, kid: str) -> ApiKey | None:
    """Return a key if it opens anything now."""
    return session.scalar(select(ApiKey).where(ApiKey.kid == kid, _is_live()))


def list_keys(session: Session) -> Sequence[ApiKey]:
    """Return all keys that were ever made, oldest first."""
    return session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.kid)).all()


def lock_key(session: Session, kid: str) -> ApiKey:
    """Return a key that nobody else changes until the transaction ends."""
    # What can be no id need not reach the database, where a NUL would be an error.
    found = None
    if kid.isascii() and kid.isalnum():
        found = session.scalar(select(ApiKey).where(ApiKey.kid == kid).with_for_update())
    if found is None:
        raise UnknownKeyError
    return found


def note_use(session: Session, kids: Collection[str]) -> None:
    """Remember that the keys were used just now."""
    long_ago = ApiKey.last_used_at < func.now() - USE_RESOLUTION
    session.execute(
        update(ApiKey)
        .where(ApiKey.kid.in_(kids), or_(ApiKey.last_used_at.is_(None), long_ago))
        .values(last_used_at=func.now())
        .execution_options(synchronize_session=False)
    )
