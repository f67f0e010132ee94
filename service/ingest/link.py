"""The one connection of a committer, that is opened again when it is lost."""

import socket
import time
from contextlib import suppress

import psycopg
from psycopg import errors

from service.db.durability import LOSSY
from service.errors import NotDurableError

CONNECT_SECONDS = 2
ATTEMPTS = 3
_OPTIONS = (
    "-c timezone=UTC -c synchronous_commit=on -c statement_timeout=3500 -c lock_timeout=3000 "
    "-c idle_in_transaction_session_timeout=5000"
)
_RECONNECT_WITHIN = 2.0
_DURABLE_SECONDS = 1.0


class Link:
    """A connection; everything but ``interrupt`` is called from one thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection | None = None
        self._started = 0.0
        self._durable_until = 0.0

    def prepare(self, connection: psycopg.Connection) -> None:
        """Make a new connection ready."""

    def begin(self) -> None:
        """Count time from here: who waits is given up after a while."""
        self._started = time.monotonic()

    def elapsed(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() - self._started

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                connection.close()

    def interrupt(self) -> None:
        """Make a commit that hangs fail; called from another thread."""
        connection = self._connection
        if connection is None:
            return
        with suppress(psycopg.Error, OSError, ValueError):
            wire = socket.fromfd(connection.fileno(), socket.AF_UNSPEC, socket.SOCK_STREAM)
            with wire:
                wire.shutdown(socket.SHUT_RDWR)

    def connect(self) -> psycopg.Connection:
        """Return the connection, opened if need be."""
        if self._connection is None:
            connection = psycopg.connect(
                self._url,
                connect_timeout=CONNECT_SECONDS,
                options=_OPTIONS,
                autocommit=True,
                prepare_threshold=None,
            )
            self._connection = connection
            self._durable_until = 0.0
            self.prepare(connection)
        self._require_durable(self._connection)
        return self._connection

    def _require_durable(self, connection: psycopg.Connection) -> None:
        """Raise if a crash could take back what would be acknowledged now; asked once a second."""
        now = time.monotonic()
        if now < self._durable_until:
            return
        lossy = sorted(name for (name,) in connection.execute(LOSSY))
        if lossy:
            raise NotDurableError(lossy)
        self._durable_until = now + _DURABLE_SECONDS

    def is_passing(self, error: psycopg.Error) -> bool:
        """Say whether the next attempt may succeed; a lost connection is closed."""
        if isinstance(error, errors.DeadlockDetected):
            return True
        connection = self._connection
        lost = connection is not None and connection.closed
        if lost:
            self.close()
        # A connection that was lost while nobody used it is no reason to refuse a request.
        return lost and self.elapsed() < _RECONNECT_WITHIN
