"""Making, rotating and revoking keys.  Each function is a step of the caller's transaction."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.access.audit import audit
from service.access.grants import Scope
from service.access.repository import lock_key
from service.access.tables import ApiKey
from service.access.tokens import Token, new_token
from service.errors import ConflictError

_LIMITS = ("requests_per_minute", "rows_per_minute", "bytes_per_minute")
_GRANTED = ("env", "name", "scopes", "models", *_LIMITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a new key is to grant; no models are all of them, no limit is none."""

    scopes: Collection[Scope]
    models: Collection[str] | None = None
    name: str = ""
    env: str = "live"
    expires_in: timedelta | None = None
    requests_per_minute: int | None = None
    rows_per_minute: int | None = None
    bytes_per_minute: int | None = None


def create_key(session: Session, actor: str, wish: Wish) -> Token:
    """Make a key; its text is not kept, and cannot be had again."""
    token = new_token(wish.env)
    key = ApiKey(
        kid=token.kid,
        digest=token.digest,
        env=wish.env,
        name=wish.name,
        scopes=sorted(set(wish.scopes)),
        models=None if wish.models is None else sorted(set(wish.models)),
        **{name: getattr(wish, name) for name in _LIMITS},
        expires_at=None if wish.expires_in is None else func.now() + wish.expires_in,
    )
    session.add(key)
    audit(session, actor, "key.create", f"key:{key.kid}", _grants(key))
    return token


def rotate_key(session: Session, actor: str, kid: str, grace: timedelta) -> Token:
    """Make a key that grants the same; the old one goes on for the grace, and no longer.

    Raises
    ------
    ConflictError
        If the key opens nothing any more, or has been rotated already.
    """
    old = lock_key(session, kid)
    if _is_over(session, old) or old.replaced_by is not None:
        message = "the key is revoked, expired or already rotated"
        raise ConflictError(message)
    token = new_token(old.env)
    session.add(
        ApiKey(
            kid=token.kid,
            digest=token.digest,
            expires_at=_renewed(old),
            **{name: getattr(old, name) for name in _GRANTED},
        )
    )
    old.replaced_by = token.kid
    old.expires_at = func.least(old.expires_at, func.now() + grace)
    details = {"replaced_by": token.kid, "grace_seconds": grace.total_seconds()}
    audit(session, actor, "key.rotate", f"key:{kid}", details)
    return token


def revoke_key(session: Session, actor: str, kid: str) -> ApiKey:
    """End a key now; doing it again changes nothing."""
    key = lock_key(session, kid)
    if key.revoked_at is None:
        key.revoked_at = func.now()
        audit(session, actor, "key.revoke", f"key:{kid}", {"name": key.name})
        session.refresh(key)
    return key


def _is_over(session: Session, key: ApiKey) -> bool:
    now = session.scalars(select(func.now())).one()
    return key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now)


def _renewed(old: ApiKey) -> object:
    """Give the new key the span of the old one, from now on."""
    return None if old.expires_at is None else func.now() + (old.expires_at - old.created_at)


def _grants(key: ApiKey) -> dict[str, object]:
    limits = {name: getattr(key, name) for name in _LIMITS}
    return {
        "scopes": key.scopes,
        "models": key.models,
        **{name: value for name, value in limits.items() if value is not None},
    }
