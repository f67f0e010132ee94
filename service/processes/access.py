"""What the commands of keys and of the audit log do."""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from service.access import service
from service.access.audit import Verification, verify
from service.access.repository import list_keys
from service.access.tables import ApiKey
from service.clock import now
from service.db.engine import make_engine
from service.errors import ModelwatchSetupError, ServiceError
from service.processes.database import reached, unreachable
from service.registry.documents import hint, printable, read
from service.registry.key_schemas import KeyDocument, RotationDocument
from service.registry.tables import Model
from service.settings import Settings

_ACTOR = "cli"
_HOUR = timedelta(hours=1)


def create(settings: Settings, wish: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Make a key; return its text, and what is odd about it."""
    with _transaction(settings, make=True) as session:
        asked = read(KeyDocument, dict(wish)).wish()
        known = list(session.scalars(select(Model.name)))
        # A key may be made before its model is.
        odd = [
            f"There is no model {printable(name)} yet{hint(name, known)}"
            for name in sorted(set(asked.models or ()) - set(known))
        ]
        return service.create_key(session, _ACTOR, asked).text, odd


def rotate(settings: Settings, kid: str, grace: timedelta) -> str:
    """Make a key that grants the same, and return its text."""
    with _transaction(settings) as session:
        asked = read(RotationDocument, {"grace_hours": grace / _HOUR})
        old_for = timedelta(hours=asked.grace_hours)
        return service.rotate_key(session, _ACTOR, kid, old_for).text


def revoke(settings: Settings, kid: str) -> None:
    """End a key."""
    with _transaction(settings) as session:
        service.revoke_key(session, _ACTOR, kid)


def listed(settings: Settings) -> list[str]:
    """Return a line for each key, in columns."""
    head = ("kid", "state", "scopes", "models", "expires", "last used", "name")
    with _transaction(settings) as session:
        rows = [head, *(_row(key) for key in list_keys(session))]
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    lines = ("  ".join(map(str.ljust, row, widths)) for row in rows)
    return [line.rstrip() for line in lines]


def verified(settings: Settings) -> Verification:
    """Follow the chain of the audit log."""
    with _transaction(settings) as session:
        return verify(session)


def _row(key: ApiKey) -> tuple[str, ...]:
    return (
        key.kid,
        _state(key),
        ",".join(key.scopes),
        "all" if key.models is None else ",".join(key.models),
        _minute(key.expires_at),
        _minute(key.last_used_at),
        key.name,
    )


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= now():
        return "expired"
    return "live" if key.replaced_by is None else f"until {_minute(key.expires_at)}"


def _minute(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%dT%H:%MZ}"


@contextlib.contextmanager
def _transaction(settings: Settings, *, make: bool = False) -> Iterator[Session]:
    """Yield a session that is committed; what goes wrong is one line for whoever typed it."""
    with reached(settings, make=make) as url:
        engine = make_engine(url, pool=1)
        try:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        except ServiceError as fault:
            raise ModelwatchSetupError(fault.detail) from fault
        except ProgrammingError as fault:
            message = "the database has no tables of this release: run `modelwatch migrate`"
            raise ModelwatchSetupError(message) from fault
        except OperationalError as fault:
            raise unreachable(url, fault) from fault
        finally:
            engine.dispose()
