"""What one key may send a minute, in requests, rows and bytes; each process counts for itself."""

import math
import time
from collections.abc import Callable

from service.errors import RateLimitedError

_MINUTE = 60.0


class Bucket:
    """Fills up steadily, and may be overdrawn once: a large request is late, never impossible."""

    __slots__ = ("_at", "_clock", "_level", "_size")

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._level = float(size)
        self._clock = clock
        self._at = clock()

    def wait(self) -> float:
        """Return the seconds until something may be taken; 0 if it may now."""
        at = self._clock()
        self._level = min(self._size, self._level + (at - self._at) * self._size / _MINUTE)
        self._at = at
        return 0.0 if self._level >= 1 else (1 - self._level) * _MINUTE / self._size

    def take(self, amount: int) -> None:
        """Take an amount, whether or not it is there."""
        self._level -= amount


class Meter:
    """The three limits of a key; one that is not set does not limit."""

    __slots__ = ("_buckets", "limits")

    def __init__(
        self,
        requests: int | None,
        rows: int | None,
        size: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = (requests, rows, size)
        self._buckets = [None if each is None else Bucket(each, clock) for each in self.limits]

    def admit(self, size: int) -> None:
        """Let a request of that many bytes in, or raise when something may be sent again."""
        waits = [bucket.wait() for bucket in self._buckets if bucket is not None]
        if waits and max(waits) > 0:
            raise RateLimitedError(math.ceil(max(waits)))
        requests, _, _ = self._buckets
        if requests is not None:
            requests.take(1)
        self.take_bytes(size)

    def take_rows(self, count: int) -> None:
        """Count rows, which are known once they have been read."""
        _, rows, _ = self._buckets
        if rows is not None:
            rows.take(count)

    def take_bytes(self, count: int) -> None:
        """Count bytes of a body whose size was not declared."""
        _, _, size = self._buckets
        if size is not None:
            size.take(count)
