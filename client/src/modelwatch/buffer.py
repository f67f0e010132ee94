"""Records that wait in memory: bounded by rows and by bytes, and without I/O."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Optional

from modelwatch.bell import Bell

if TYPE_CHECKING:
    from modelwatch.receipt import Receipt

Record = dict[str, Any]
Entry = tuple[Record, int, Optional["Receipt"]]

PREDICTIONS, LABELS = LANES = (0, 1)
POLICIES = ("newest", "oldest")
"""What is dropped when the buffer is full."""


class Buffer:
    """At most ``rows`` records of ``size`` bytes together; what does not fit is counted.

    Any thread may ``add``, and so may a signal handler or a finaliser that interrupts it: the
    lock is one that its owner may take again.  One thread asks what is ``due`` and acknowledges it.
    """

    def __init__(self, rows: int, size: int, *, policy: str = "newest", ripe: int = 1) -> None:
        self._most_rows, self._most_bytes = rows, size
        self._evicts = policy == "oldest"
        self._ripe = ripe
        self._lock = threading.RLock()
        self._lanes: tuple[deque[Entry], deque[Entry]] = (deque(), deque())
        self._taken: list[Entry] = []
        self._lane = LABELS
        self.bell = Bell()
        self.rows = 0
        self.bytes = 0
        self.offered = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Return how many records are not acknowledged."""
        return self.rows

    def add(self, lane: int, record: Record, size: int, receipt: Receipt | None = None) -> bool:
        """Queue a record that is taken to have ``size`` bytes; return False when it was dropped."""
        with self._lock:
            self.offered += 1
            full = self.rows >= self._most_rows or self.bytes + size > self._most_bytes
            if full and not self._make_room(size):
                self.dropped += 1
                return False
            self._lanes[lane].append((record, size, receipt))
            self.rows += 1
            self.bytes += size
        if self.rows >= self._ripe:
            self.bell.ring_if_heard()
        return True

    def due(self, rows: int, size: int) -> tuple[int, list[Entry]]:
        """Return a lane and its oldest records, the same ones until they are acknowledged.

        They are at most ``rows``, and of ``size`` bytes together or one alone.
        """
        with self._lock:
            if not self._taken:
                other = 1 - self._lane
                # By turns: a host that logs without end does not keep its labels waiting.
                self._lane = other if self._lanes[other] else self._lane
                waiting = self._lanes[self._lane]
                while waiting and len(self._taken) < rows:
                    size -= waiting[0][1]
                    if size < 0 and self._taken:
                        break
                    self._taken.append(waiting.popleft())
            return self._lane, self._taken

    def acknowledge(self) -> None:
        """Forget the records that were due."""
        with self._lock:
            self._forget(self._taken)
            self._taken = []

    def _forget(self, entries: list[Entry]) -> None:
        self.rows -= len(entries)
        self.bytes -= sum(size for _, size, _ in entries)

    def _make_room(self, size: int) -> bool:
        rows, most = self._most_rows, self._most_bytes
        if size > most:
            return False
        while self.rows >= rows or self.bytes + size > most:
            longest = max(self._lanes, key=len)
            if not self._evicts or not longest:
                return False
            evicted = longest.popleft()
            self._forget([evicted])
            self.dropped += 1
            if evicted[2] is not None:
                evicted[2].refuse("it was dropped: the buffer is full")
        return True
