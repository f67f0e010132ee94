"""Where records wait for the sender: the seam between memory and disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from modelwatch.buffer import Buffer, Record
    from modelwatch.encoding import Encoder
    from modelwatch.receipt import Receipt

# A host that wants the interpreter meanwhile waits for so many records at most.
BREATH = 32


class Batch(NamedTuple):
    """Encoded records of one request: ``head`` is what they share, up to the list of them."""

    path: str
    head: bytes
    records: list[bytes]


Routes = dict[int, tuple[str, bytes]]
"""The path and the head of each lane."""


class Queue(Protocol):
    """What ``Monitor`` fills and ``Sender`` empties.

    ``add`` and ``stats`` are called by any thread and never block; all else by the sender's, or by
    ``flush`` where no thread can be started.  After a fork the child makes a queue of its own and
    lets the parent's go without a call: it must not touch its files.
    """

    def add(self, lane: int, record: Record, size: int, receipt: Receipt | None = None) -> bool:
        """Queue a record; return False when it was dropped."""

    def start(self) -> None:
        """Start threads of its own; called before the sender's starts, and again if it failed."""

    def wait(self, seconds: float) -> None:
        """Wait until enough for a batch is due, or it rings, at most so long."""

    def look(self) -> None:
        """See what waits: after this, its length is that of all before what is added later."""

    def ring(self) -> None:
        """Let the thread that waits go on."""

    def settle(self, timeout: float) -> None:
        """Put what is only in memory where it outlives the process; called at its exit."""

    def due(self, rows: int, size: int) -> Batch | None:
        """Return the next batch, the same one until it is acknowledged."""

    def acknowledge(self, refused: int = 0) -> None:
        """Forget the batch that was due: the server has decided, and refused so many records."""

    def give_back(self, left: int, refused: int) -> bool:
        """Let others have the last ``left`` records of the batch; return whether that was done.

        The server has decided about those before, and refused so many of them.
        """

    def stats(self) -> dict[str, int]:
        """Return ``offered``, ``dropped``, ``queued_bytes`` and whatever else it counts."""

    def __len__(self) -> int:
        """Return how many records are not acknowledged."""


class MemoryQueue:
    """Records that are gone with the process."""

    def __init__(self, buffer: Buffer, encoder: Encoder, routes: Routes) -> None:
        self._buffer = buffer
        self._encoder = encoder
        self._routes = routes
        self._batch: Batch | None = None
        self.add = buffer.add
        self.wait = buffer.bell.wait
        self.ring = buffer.bell.ring

    def __len__(self) -> int:
        """Return how many records are not acknowledged."""
        return len(self._buffer)

    def start(self) -> None:
        """Start nothing: the sender encodes."""

    def look(self) -> None:
        """See nothing: nobody else adds to it."""

    def settle(self, timeout: float) -> None:
        """Do nothing: there is no place that outlives the process."""

    def due(self, rows: int, size: int) -> Batch | None:
        """Return the next batch, the same one until it is acknowledged."""
        while self._batch is None:
            lane, entries = self._buffer.due(rows, size)
            if not entries:
                return None
            encoded = encode_all(self._encoder, lane, [record for record, _, _ in entries])
            if encoded:
                self._batch = Batch(*self._routes[lane], encoded)
            else:
                self._buffer.acknowledge()
        return self._batch

    def acknowledge(self, refused: int = 0) -> None:  # noqa: ARG002 - the sender has counted them
        """Forget the batch that was due."""
        self._batch = None
        self._buffer.acknowledge()

    def give_back(self, left: int, refused: int) -> bool:  # noqa: ARG002 - there are no others
        """Keep the batch."""
        return False

    def stats(self) -> dict[str, int]:
        """Return what became of the records that were added."""
        buffer = self._buffer
        return {
            "offered": buffer.offered,
            "dropped": buffer.dropped,
            "queued_bytes": buffer.bytes,
        }


def encode_all(encoder: Encoder, lane: int, records: list[Record]) -> list[bytes]:
    """Return the records that can be sent, as bytes."""
    encoded: list[bytes] = []
    for index, record in enumerate(records):
        if index % BREATH == BREATH - 1:
            time.sleep(0)
        text = encoder.encode(lane, record)
        if text is not None:
            encoded.append(text)
    return encoded
