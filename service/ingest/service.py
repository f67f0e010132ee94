"""Ingest as a whole: what the API starts, asks and stops."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy.orm import Session, sessionmaker

from service.clock import now
from service.ingest.arrow import ArrowReader
from service.ingest.batch import Batch
from service.ingest.committer import Committer, Sink
from service.ingest.intake import Intake, Sent
from service.ingest.known import KnownBatches
from service.ingest.repository import StoredLetter
from service.ingest.room import Room
from service.ingest.specs import Specs
from service.ingest.store import Store
from service.ingest.times import Horizon
from service.ingest.verdicts import BatchKey, Verdicts
from service.isolation.memory import memory_limit
from service.registry.privacy import pseudonyms_of
from service.settings import Settings
from service.telemetry import INGEST_ROWS

_CONNECTIONS = 2
# A byte of JSON becomes up to five bytes of a row that waits: a number of one digit is a float.
_PART_OF_MEMORY = 16


def bytes_in_flight(settings: Settings) -> int:
    """Return how many bytes of bodies are held: no more than there is memory for their rows.

    One request of the largest is always taken, or its client would try for ever.
    """
    there = memory_limit()
    if there is None:
        return settings.max_bytes_in_flight
    largest = settings.max_body_bytes + settings.max_inflated_bytes
    return min(settings.max_bytes_in_flight, max(largest, there // _PART_OF_MEMORY))


class Ingest:
    """Takes records until they are committed."""

    def __init__(
        self,
        settings: Settings,
        sessions: sessionmaker[Session],
        sinks: Sequence[Sink[Batch]],
        clock: Callable[[], datetime] = now,
    ) -> None:
        self.settings = settings
        self.room = Room(bytes_in_flight(settings))
        self.arrow = ArrowReader(settings)
        self.clock = clock
        self.pseudonyms = pseudonyms_of(settings)
        self.specs = Specs(sessions, self.pseudonyms)
        self.known = KnownBatches(sessions)
        self._committer = Committer(*sinks, max_rows=settings.max_rows_in_flight)

    def start(self) -> None:
        """Start in the running event loop."""
        self._committer.start()

    async def stop(self) -> None:
        """Commit what waits, then let go of everything."""
        await self._committer.stop()
        self.specs.close()
        self.known.close()
        self.arrow.close()

    async def predictions(self, sent: Sent, key: BatchKey | None = None) -> Verdicts:
        """Store predictions; they are committed when this returns."""
        return await self._store(await self.read_predictions(sent), "predictions", key)

    async def read_predictions(self, sent: Sent) -> Batch:
        """Judge predictions without storing them."""
        return await self._intake(sent).predictions()

    def require_room(self) -> None:
        """Raise ``BusyError`` while too many rows wait, before more are read."""
        self._committer.require_room()

    async def labels(self, sent: Sent, key: BatchKey | None = None) -> Verdicts:
        """Store labels; they are committed when this returns."""
        return await self._store(await self._intake(sent).labels(), "labels", key)

    async def replay(self, letter: StoredLetter) -> Verdicts:
        """Store the row of a dead letter, which is deleted by the transaction that stores it."""
        record = letter.record
        sent = Sent([record], letter.model, letter.version, 0, b"\\" in record, lines=True)
        intake = self._intake(sent)
        labels = letter.kind == "labels"
        batch = await (intake.labels() if labels else intake.predictions())
        batch.replayed = letter.id
        # Its faults were counted when it was refused.
        batch.verdicts.faults.clear()
        return await self._store(batch, letter.kind)

    def _intake(self, sent: Sent) -> Intake:
        return Intake(self.specs, sent, Horizon.at(self.clock()))

    async def _store(self, batch: Batch, kind: str, key: BatchKey | None = None) -> Verdicts:
        batch.verdicts.key = key
        if len(batch) or batch.verdicts.faults:
            await self._decide(batch)
        for model, count in batch.verdicts.rejected.items():
            INGEST_ROWS.labels(model, kind, "rejected").inc(count)
        return batch.verdicts

    async def _decide(self, batch: Batch) -> None:
        """Store a batch, and go on with what took too long to be decided at once.

        Its parts go in turns with other requests, one after the other: they share the verdicts.
        """
        await self._committer.submit(batch)
        while batch.undecided:
            await self._committer.submit(batch.undecided.pop())


def create_ingest(settings: Settings, url: str, sessions: sessionmaker[Session]) -> Ingest:
    """Build ingest for a database; nothing is opened before it starts."""
    stores = [Store(url, pseudonyms_of(settings)) for _ in range(_CONNECTIONS)]
    return Ingest(settings, sessions, stores)
