"""While the database is away everybody is told so at once, and one request finds out."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import DatabaseAwayError


class Gate:
    """Open until a request finds the database away; then one at a time is let in to try.

    To find out takes seconds where a database hangs.  Those who would only wait as well are
    answered before their body is read, so that neither their number nor their size matters.
    """

    def __init__(self) -> None:
        self._away = False
        self._tried = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let a request in, or raise ``DatabaseAwayError``."""
        if self._away and self._tried:
            raise DatabaseAwayError
        tries, self._tried = self._away, self._tried or self._away
        try:
            yield
        except DatabaseAwayError:
            self._away = True
            raise
        else:
            self._away = False
        finally:
            if tries:
                self._tried = False
