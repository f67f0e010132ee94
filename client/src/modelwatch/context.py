"""Which predictions belong to the request, task or message that is being served."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import repeat
from typing import TYPE_CHECKING

from modelwatch.ids import new_prediction_id

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

_current: ContextVar[Correlation | None] = ContextVar("modelwatch_correlation", default=None)
_inside: ContextVar[tuple[int, ...]] = ContextVar("modelwatch_inside", default=())


class Correlation:
    """The id of a request, and the ids of what was last logged for it.

    A request that makes one prediction gives it its own id.  Of several predictions of one model
    the first has the id itself and the next ``~1``, ``~2`` behind it; rows that are logged
    together are ``~0``, ``~1`` and so on.  Another model, or a shadow version, begins anew.
    """

    def __init__(self, prediction_id: str) -> None:
        self.prediction_id = prediction_id
        self.prediction_ids: list[str] = []
        self._given: dict[Hashable, int] = {}
        # A signal handler may log as well, in the middle of it.
        self._lock = threading.RLock()

    def take(self, owner: Hashable, rows: int) -> list[str]:
        """Return the next ids for rows that are logged together."""
        with self._lock:
            first = self._given.get(owner, 0)
            self._given[owner] = first + rows
            if (first, rows) == (0, 1):
                ids = [self.prediction_id]
            else:
                # A mark that needs no quoting in an address: `#1` would be cut off there.
                ids = [f"{self.prediction_id}~{at}" for at in range(first, first + rows)]
            self.prediction_ids = ids
        return ids


@contextmanager
def correlate(prediction_id: str | None = None) -> Iterator[Correlation]:
    """Give what is logged inside, in this thread or task, one id: the given one or a new one.

    >>> from modelwatch import Monitor, correlate
    >>> monitor = Monitor("loans", version="7", mode="off")
    >>> with correlate("order-17") as order:
    ...     first = monitor.log({"income": 41_000}, 1)
    >>> first, order.prediction_id
    ('order-17', 'order-17')
    """
    correlation = Correlation(prediction_id or new_prediction_id())
    token = _current.set(correlation)
    try:
        yield correlation
    finally:
        _current.reset(token)


def current_prediction_id() -> str | None:
    """Return the id of the request that is being served, or None outside of ``correlate``."""
    correlation = _current.get()
    return None if correlation is None else correlation.prediction_id


def take_id(owner: Hashable) -> str:
    """Return the id for one prediction: the request's, or a new one."""
    correlation = _current.get()
    return new_prediction_id() if correlation is None else correlation.take(owner, 1)[0]


def take_ids(owner: Hashable, rows: int) -> Iterator[str | None]:
    """Return the ids for rows that are logged together; None is a new one."""
    correlation = _current.get()
    return repeat(None, rows) if correlation is None else iter(correlation.take(owner, rows))


class Outermost:
    """Says whether no call around this one logs for the same owner: what is nested logs once."""

    def __init__(self, owner: object) -> None:
        self._owner = id(owner)

    def __enter__(self) -> bool:
        around = _inside.get()
        self._token = _inside.set((*around, self._owner))
        return self._owner not in around

    def __exit__(self, *_: object) -> None:
        _inside.reset(self._token)
