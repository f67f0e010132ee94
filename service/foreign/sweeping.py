"""What pairs leave behind: rows that nobody stored, halves that stay alone, and old hashes.

It is the worker's, and finds out what is due from the table alone: any number may sweep at once.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, delete, func, select, tuple_, update
from sqlalchemy.orm import Session, sessionmaker

from service.errors import DatabaseAwayError, ServiceError
from service.foreign.halves import pair_records
from service.foreign.tables import PendingPair
from service.formats.trouble import PayloadError
from service.ingest.intake import Sent
from service.ingest.service import create_ingest
from service.registry.tables import Model
from service.settings import Settings
from service.telemetry import FOREIGN_EVENTS, FOREIGN_ORPHANS

log = logging.getLogger(__name__)

# The process that took the second half stores the rows itself, if it lives.
ABANDONED = timedelta(seconds=30)
# Each may be as large as a request.
PAIRS = 100
HASHES = 5_000
IDLE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Due:
    pair: PendingPair
    model: str

    @property
    def key(self) -> tuple[int, bytes]:
        return self.pair.model_id, self.pair.pair


class Sweeper:
    """Sweeps now and then."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session], url: str) -> None:
        self._settings = settings
        self._sessions = sessions
        self._url = url
        self._idle_until = 0.0

    def sweep_at_times(self) -> bool:
        """Sweep, unless nothing was to do a moment ago."""
        if time.monotonic() < self._idle_until:
            return False
        try:
            if self.sweep():
                return True
        except DatabaseAwayError:
            # Whoever could not store them has told of it.
            pass
        except ServiceError as error:
            log.warning("rows of events are not stored: %s", error.code)
        self._idle_until = time.monotonic() + IDLE_SECONDS
        return False

    def sweep(self) -> bool:
        """Sweep once, and say whether there was anything to do."""
        ttl = self._settings.pending_ttl
        with self._sessions.begin() as session:
            lost = _drop_requests(session, ttl)
            pruned = _prune(session, ttl)
        for model, count in lost.items():
            FOREIGN_ORPHANS.labels(model, "request").inc(count)
        with self._sessions.begin() as session:
            due = _due(session, ttl)
            records = [record for each in due for record in _records(each)]
            if records:
                # Rows have a connection of their own; the lock keeps other sweepers away.
                asyncio.run(self._store(records))
            _let_go(session, due)
        for each in due:
            if each.pair.request is None:
                FOREIGN_ORPHANS.labels(each.model, "response").inc()
        return bool(due) or bool(lost) or pruned

    async def _store(self, records: Sequence[bytes]) -> None:
        ingest = create_ingest(self._settings, self._url, self._sessions)
        ingest.start()
        try:
            for start in range(0, len(records), self._settings.max_batch_rows):
                part = records[start : start + self._settings.max_batch_rows]
                verdicts = await ingest.predictions(
                    Sent(part, model=None, version=None, depth=0, escapes=True, lines=True)
                )
                if verdicts.refusals:
                    codes = Counter(str(refusal.code) for refusal in verdicts.refusals)
                    log.warning("rows of events were refused: %s", dict(codes))
        finally:
            await ingest.stop()


def _due(session: Session, ttl: timedelta) -> list[_Due]:
    """Return pairs that nobody finished, and responses that have waited long enough; locked."""
    rows = session.execute(
        select(PendingPair, Model.name)
        .join(Model, Model.id == PendingPair.model_id)
        .where(
            PendingPair.stored_at.is_(None),
            PendingPair.response.is_not(None),
            (PendingPair.request.is_not(None) & (PendingPair.received_at < func.now() - ABANDONED))
            | (PendingPair.received_at < func.now() - ttl),
        )
        .order_by(PendingPair.received_at)
        .limit(PAIRS)
        .with_for_update(of=PendingPair, skip_locked=True)
    ).all()
    return [_Due(pair, name) for pair, name in rows]


def _records(due: _Due) -> list[bytes]:
    """Return the rows of a pair, or of a response alone."""
    pair = due.pair
    assert pair.response is not None
    try:
        return pair_records(
            model=due.model,
            version=pair.version,
            correlation=pair.correlation,
            subject=pair.subject,
            request=pair.request,
            response=pair.response,
        )
    except PayloadError as fault:
        FOREIGN_EVENTS.labels(due.model, fault.code).inc()
        return []


def _let_go(session: Session, due: Sequence[_Due]) -> None:
    """Keep the hashes of pairs, and nothing of responses that were alone."""
    key = tuple_(PendingPair.model_id, PendingPair.pair)
    whole = [each.key for each in due if each.pair.request is not None]
    alone = [each.key for each in due if each.pair.request is None]
    if whole:
        session.execute(
            update(PendingPair)
            .where(key.in_(whole))
            .values(request=None, response=None, stored_at=func.now())
            .execution_options(synchronize_session=False)
        )
    if alone:
        session.execute(
            delete(PendingPair).where(key.in_(alone)).execution_options(synchronize_session=False)
        )


def _drop_requests(session: Session, ttl: timedelta) -> Counter[str]:
    """Let go of requests without a response, which predict nothing; return how many, by model."""
    gone = _delete(
        session,
        (PendingPair.stored_at.is_(None) & PendingPair.response.is_(None))
        & (PendingPair.received_at < func.now() - ttl),
    )
    if not gone:
        return Counter()
    names = session.execute(select(Model.id, Model.name).where(Model.id.in_(gone))).all()
    return Counter({name: gone[model] for model, name in names})


def _prune(session: Session, ttl: timedelta) -> bool:
    """Forget the hashes of pairs that are stored since long."""
    old = PendingPair.stored_at.is_not(None) & (PendingPair.received_at < func.now() - ttl)
    return bool(_delete(session, old))


def _delete(session: Session, which: ColumnElement[bool]) -> Counter[int]:
    """Delete some of the rows, and return how many of each model."""
    some = (
        select(PendingPair.model_id, PendingPair.pair)
        .where(which)
        .limit(HASHES)
        .with_for_update(skip_locked=True)
    )
    gone = session.execute(
        delete(PendingPair)
        .where(tuple_(PendingPair.model_id, PendingPair.pair).in_(some))
        .returning(PendingPair.model_id)
        .execution_options(synchronize_session=False)
    )
    return Counter(gone.scalars())
