"""Batches that are known by their key: a retry is answered as the first time, and stores nothing.

Without it a retry is harmless too, for every row has an id; but its rows count as duplicates, and
looking for all of them costs more than looking for one batch.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import monotonic
from typing import NamedTuple

import psycopg
from sqlalchemy import delete, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from service.errors import DatabaseAwayError, InvalidDocumentError
from service.ingest.limits import LETTER_AGE
from service.ingest.tables import DeadLetter, KnownBatch
from service.ingest.verdicts import BatchKey

KEPT = timedelta(hours=1)
LOOK_SECONDS = 60.0
LOOKUP_SECONDS = 4.0
_AT_ONCE = 10_000
_THREADS = 2


class Entry(NamedTuple):
    """A batch that is being stored, and its answer."""

    key: BatchKey
    answer: bytes


class KeyReusedError(InvalidDocumentError):
    """Another batch was sent with the same ``Idempotency-Key``."""

    code = "key-reused"
    title = "Key reused"

    def __init__(self) -> None:
        super().__init__("another batch was sent with that Idempotency-Key; each has its own")


class KnownBatches:
    """Answers that were given."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ingest-known")

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def answer(self, key: BatchKey) -> bytes | None:
        """Return the answer to a batch that is stored; raise if its key is another batch's."""
        loop = asyncio.get_running_loop()
        try:
            found = await asyncio.wait_for(
                loop.run_in_executor(self._threads, self._find, key.name), LOOKUP_SECONDS
            )
        except (DBAPIError, PoolTimeoutError, TimeoutError):
            raise DatabaseAwayError from None
        if found is None:
            return None
        content, answer = found
        if content != key.content:
            raise KeyReusedError
        return answer

    def _find(self, name: bytes) -> tuple[bytes, bytes] | None:
        with self._sessions() as session:
            statement = select(KnownBatch.content, KnownBatch.answer)
            row = session.execute(statement.where(KnownBatch.name == name)).one_or_none()
        return None if row is None else (row.content, row.answer)


def keep(cursor: psycopg.Cursor, entries: Sequence[Entry]) -> None:
    """Store answers in the transaction of their rows."""
    # Every process inserts in this one order, so that no two wait for each other in a circle.
    ordered = sorted(entries)
    if not ordered:
        return
    cursor.executemany(
        "INSERT INTO known_batch (name, content, answer) VALUES (%s, %s, %s) "
        "ON CONFLICT DO NOTHING",
        [(*entry.key, entry.answer) for entry in ordered],
    )


class Forgetting:
    """One worker's part in letting go of old answers, and of dead letters that grew too old."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions
        self._look_at = 0.0

    def forget(self) -> bool:
        """Delete some of what is too old; return whether there may be more."""
        if monotonic() < self._look_at:
            return False
        old = select(KnownBatch.name).where(KnownBatch.received_at < func.now() - KEPT)
        old = old.limit(_AT_ONCE).with_for_update(skip_locked=True)
        with self._sessions.begin() as session:
            names = session.scalars(old).all()
            session.execute(delete(KnownBatch).where(KnownBatch.name.in_(names)))
            age = func.now() - LETTER_AGE
            session.execute(delete(DeadLetter).where(DeadLetter.received_at < age))
        if len(names) < _AT_ONCE:
            self._look_at = monotonic() + LOOK_SECONDS
        return bool(names)
