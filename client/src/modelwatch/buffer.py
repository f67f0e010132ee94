"""Records that wait for being sent: bounded, and without I/O."""

from __future__ import annotations

from collections import deque
from typing import Any

Record = dict[str, Any]


class Buffer:
    """A queue of at most ``limit`` records; what does not fit is dropped and counted.

    Any thread may ``add``; one thread asks what is ``due`` and acknowledges it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Record] = deque()
        self._taken: list[Record] = []
        self.dropped = 0

    def __len__(self) -> int:
        """Return how many records are not acknowledged."""
        return len(self._waiting) + len(self._taken)

    def add(self, record: Record) -> bool:
        """Queue a record; return False when it was dropped for want of room."""
        if len(self) >= self._limit:
            self.dropped += 1
            return False
        self._waiting.append(record)
        return True

    def due(self, most: int) -> list[Record]:
        """Return the oldest records, the same ones until they are acknowledged."""
        if not self._taken:
            # One by one into the list that counts: no record is ever in neither place.
            for _ in range(min(most, len(self._waiting))):
                self._taken.append(self._waiting.popleft())
        return self._taken

    def acknowledge(self) -> None:
        """Forget the records that were due."""
        self._taken = []
