"""The log of what was changed and by whom: each entry is chained to the one before it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.access.tables import AuditEntry
from service.db.turns import turn

_FIRST = b"\0" * 32


@dataclass(frozen=True, slots=True)
class Verification:
    """How far the chain holds; ``broken_at`` is the first entry that does not fit, if any.

    An end that was cut off leaves a chain that holds: compare ``head`` with one that was noted
    earlier.
    """

    entries: int
    head: str
    broken_at: int | None = None


def audit(
    session: Session,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Log a change in the transaction that makes it; call it last.

    Entries are written one transaction at a time, until the commit: whoever took another lock
    after this one could wait for somebody who waits here.  Neither secrets nor what a row says of
    a person belongs in an entry, for nothing can be taken out again.

    Parameters
    ----------
    session
        In which the change was made.
    actor
        Who made it: ``key:<kid>``, ``local``, ``cli``, ``ingest``, ``worker`` or ``reconciler``.
    action
        What was done: ``model.put``, ``key.revoke`` …
    subject
        To what: ``model:loans``, ``key:<kid>`` …
    details
        What else there is to say, as JSON values.
    """
    # What the change needs to lock is locked now, before the log is.
    session.flush()
    session.execute(turn("audit"))
    last = session.execute(
        select(AuditEntry.id, AuditEntry.hash).order_by(AuditEntry.id.desc()).limit(1)
    ).first()
    entry = AuditEntry(
        id=1 if last is None else last.id + 1,
        # A transaction's now() is its start, and the chain would not be in the order of time.
        at=session.scalars(select(func.clock_timestamp())).one(),
        actor=actor,
        action=action,
        subject=subject,
        details=json.dumps(dict(details or {}), sort_keys=True),
    )
    entry.hash = _hash(entry, _FIRST if last is None else last.hash)
    session.add(entry)
    session.flush()


def change(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs, as details of an entry; of what is new there is no ``before``."""
    if before is None:
        return {"before": None, "after": dict(after)}
    names = sorted(name for name in after if before.get(name) != after[name])
    return {
        "before": {name: before.get(name) for name in names},
        "after": {name: after[name] for name in names},
    }


def verify(session: Session) -> Verification:
    """Follow the chain from its first entry."""
    previous, count = _FIRST, 0
    statement = select(AuditEntry).order_by(AuditEntry.id).execution_options(yield_per=1_000)
    with session.execute(statement) as rows:
        for (entry,) in rows:
            if entry.id != count + 1 or entry.hash != _hash(entry, previous):
                return Verification(count, previous.hex(), broken_at=count + 1)
            previous, count = entry.hash, entry.id
            session.expunge(entry)
    return Verification(count, previous.hex())


def _hash(entry: AuditEntry, previous: bytes) -> bytes:
    parts = (entry.id, _text(entry.at), entry.actor, entry.action, entry.subject, entry.details)
    return hashlib.sha256(previous + json.dumps(parts).encode()).digest()


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
