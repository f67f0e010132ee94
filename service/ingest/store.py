"""Batches to Postgres: one connection, one thread, one transaction for everything that waits."""

import logging
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

import psycopg
from psycopg import errors

from service.errors import DatabaseAwayError
from service.ingest.partitions import Partitions
from service.ingest.staging import IDENTITY, LABEL, create_stage
from service.ingest.transaction import Batch, refuse, write

_log = logging.getLogger(__name__)

CONNECT_SECONDS = 2
_OPTIONS = (
    "-c timezone=UTC -c synchronous_commit=on -c statement_timeout=3500 -c lock_timeout=3000 "
    "-c idle_in_transaction_session_timeout=5000"
)
_ATTEMPTS = 3
_RECONNECT_WITHIN = 2.0
_SEARCH_SECONDS = 2.5
"""So long refused rows are searched for; then what they are among is refused with them."""
_REFUSALS = (
    *(errors.DataError, errors.IntegrityError),
    *(errors.ProgramLimitExceeded, errors.RaiseException),
)
"""What the database says of a row, rather than of itself."""


class Store:
    """Stores batches; everything but ``interrupt`` is called from one thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection | None = None
        self._partitions = Partitions()
        # Clients that retry tend to retry again: their rows skip the attempt that would fail.
        self._expect_repeats = False
        self._started = 0.0

    def close(self) -> None:
        """Close the connection; the next commit opens another."""
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

    def commit(self, batches: Sequence[Batch]) -> None:
        """Store all batches and complete their verdicts, or raise ``DatabaseAwayError``.

        A row that only the database refuses is searched by halving; the others are stored.
        """
        self._started = time.monotonic()
        pieces = [list(batches)]
        while pieces:
            piece = pieces.pop()
            try:
                self._commit_piece(piece)
            except _REFUSALS as error:
                late = time.monotonic() - self._started > _SEARCH_SECONDS
                if len(piece) > 1:
                    middle = len(piece) // 2
                    pieces += [piece[:middle], piece[middle:]]
                elif len(piece[0]) > 1 and not late:
                    pieces += [[half] for half in piece[0].halves()]
                elif len(piece[0]):
                    state = error.sqlstate or "XX000"
                    _log.warning("rows refused by the database", extra={"state": state})
                    pieces.append([refuse(piece[0], state)])
                else:
                    raise DatabaseAwayError from error

    def _commit_piece(self, batches: list[Batch]) -> None:
        """Store batches in one transaction, again after a failure that may be a passing one."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._write(batches)
            except _REFUSALS as error:
                missing = isinstance(error, errors.CheckViolation) and _names_no_check(error)
                if not missing or attempt == _ATTEMPTS:
                    raise
                # A partition that was there has been dropped meanwhile.
                self._partitions.forget()
            except psycopg.Error as error:
                if attempt == _ATTEMPTS or not self._is_passing(error):
                    self.close()
                    _log.warning("ingest cannot store: %s %s", type(error).__name__, error.sqlstate)
                    raise DatabaseAwayError from None
            else:
                return

    def _is_passing(self, error: psycopg.Error) -> bool:
        if isinstance(error, errors.DeadlockDetected):
            return True
        connection = self._connection
        lost = connection is not None and connection.closed
        if lost:
            self.close()
        # A connection that was lost while nobody used it is no reason to refuse a request.
        return lost and time.monotonic() - self._started < _RECONNECT_WITHIN

    def _write(self, batches: list[Batch]) -> None:
        connection = self._connect()
        try:
            self._expect_repeats = write(
                connection, self._partitions, batches, staged=self._expect_repeats
            )
        except errors.UniqueViolation:
            self._expect_repeats = write(connection, self._partitions, batches, staged=True)

    def _connect(self) -> psycopg.Connection:
        if self._connection is None:
            connection = psycopg.connect(
                self._url,
                connect_timeout=CONNECT_SECONDS,
                options=_OPTIONS,
                autocommit=True,
                prepare_threshold=None,
            )
            self._connection = connection
            for target in (IDENTITY, LABEL):
                create_stage(connection, target)
        return self._connection


def _names_no_check(error: psycopg.Error) -> bool:
    return error.diag.constraint_name is None
