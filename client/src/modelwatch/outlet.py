"""What is on the disk, as a sender takes it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from modelwatch.queues import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelwatch.spool import Spool
    from modelwatch.spoolfile import Destination

LOOK_SECONDS = 5.0


class Range(NamedTuple):
    """Records of one destination that a server has decided about."""

    first: int
    last: int
    refused: int = 0


class Outlet:
    """Batches of some destinations, of whichever process stored them; one thread uses it."""

    def __init__(
        self,
        spool: Spool,
        own: list[Destination],
        others: Callable[[], list[Destination]],
    ) -> None:
        self._spool = spool
        self._own = own
        self._others = others
        self._destinations = list(own)
        self._looked = float("-inf")
        self._turn = 0
        self._taken: tuple[Destination, list[int]] | None = None
        self._decided: dict[Destination, Range] = {}
        self._counting = threading.Lock()
        self.rows = 0

    def count(self) -> None:
        """Count what is on the disk now: who counts last has seen all that was done before."""
        with self._counting:
            self.rows = self._spool.rows(self._destinations)

    def look(self) -> None:
        """Find what other processes have stored or sent."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            # Of another version or of a process that is gone: nobody else may be here to send it.
            found = [to for to in self._others() if to not in self._own]
            self._destinations = [*self._own, *found]
            self._looked = time.monotonic()
        self.count()

    def due(self, rows: int, size: int) -> Batch | None:
        """Return the next batch; destinations have their turns."""
        self._remove()
        for _ in self._destinations:
            self._turn = (self._turn + 1) % len(self._destinations)
            to = self._destinations[self._turn]
            decided = self._decided.get(to)
            found = self._spool.take(to, rows, size, decided.last if decided else 0)
            if found:
                self._taken = to, [number for number, _ in found]
                return Batch(to.path, to.head, [body for _, body in found])
        return None

    def settle(self, refused: int = 0, left: int = 0) -> None:
        """Remove a batch from the disk, but for its last records, which others may have now.

        Where that fails, it is remembered not to send it again.
        """
        if self._taken is None:
            return
        (to, numbers), self._taken = self._taken, None
        gone = numbers[: len(numbers) - left]
        if gone:
            before = self._decided.get(to, Range(gone[0], gone[0]))
            self._decided[to] = Range(before.first, gone[-1], before.refused + refused)
        try:
            self._remove()
        finally:
            self._spool.release(to)

    def _remove(self) -> None:
        for to, batch in list(self._decided.items()):
            self._spool.remove(to, batch.first, batch.last, batch.refused)
            del self._decided[to]
            self.count()
