"""While the database is away everybody is told so at once, and one request finds out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from service.errors import DatabaseAwayError

# A commit is given up before that, but the body of whoever tries may come slowly, or never.
TRY_SECONDS = 6.0


class Gate:
    """Open until a request finds the database away; then one at a time is let in to try.

    To find out takes seconds where a database hangs.  Those who would only wait as well are
    answered before their body is read, so that neither their number nor their size matters.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._away = False
        self._tried_until = 0.0
        self._clock = clock

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let a request in, or raise ``DatabaseAwayError``."""
        tries = self._away
        if tries:
            if self._clock() < self._tried_until:
                raise DatabaseAwayError
            self._tried_until = self._clock() + TRY_SECONDS
        try:
            yield
        except DatabaseAwayError:
            self._away = True
            raise
        else:
            self._away = False
        finally:
            if tries:
                self._tried_until = 0.0
