"""Batches to Postgres: one connection, one thread, one transaction for everything that waits."""

import logging
from collections.abc import Sequence

import psycopg
from psycopg import errors

from service.db.outage import DATABASE
from service.errors import DatabaseAwayError
from service.ingest.batch import Batch, postpone, refuse, refuse_erased
from service.ingest.erased import ErasedRowsError
from service.ingest.link import ATTEMPTS, Link
from service.ingest.partitions import MissingMonthsError, Partitions
from service.ingest.staging import IDENTITY, LABEL, create_stage
from service.ingest.transaction import write
from service.registry.privacy import Pseudonyms

_log = logging.getLogger(__name__)

_SEARCH_SECONDS = 2.5
"""So long refused rows are searched for before others have their turn."""
_REFUSALS = (
    *(errors.DataError, errors.IntegrityError),
    *(errors.ProgramLimitExceeded, errors.RaiseException),
)
"""What the database says of a row, rather than of itself."""


class Store(Link):
    """Stores batches."""

    def __init__(self, url: str, pseudonyms: Pseudonyms | None = None) -> None:
        super().__init__(url)
        self._pseudonyms = pseudonyms
        self._partitions = Partitions()
        # Clients that retry tend to retry again: their rows skip the attempt that would fail.
        self._expect_repeats = False

    def prepare(self, connection: psycopg.Connection) -> None:
        """Create the temporary tables."""
        for target in (IDENTITY, LABEL):
            create_stage(connection, target)

    def commit(self, batches: Sequence[Batch]) -> None:
        """Store all batches and complete their verdicts, or raise ``DatabaseAwayError``.

        A row that only the database refuses is searched by halving; the others are stored.  Where
        that takes long, others have their turn before it goes on: what is not decided is left to
        whoever has sent it.  A batch that came is halved in any case, so that it ends.  So is what
        falls into months that are not there yet, once some have been made.
        """
        self.begin()
        came = {id(batch) for batch in batches}
        pieces = [list(batches)]
        refused: list[Batch] = []
        while pieces or refused:
            if not pieces:
                pieces, refused = [refused], []
            piece = pieces.pop()
            try:
                self._commit_piece(piece)
            except _REFUSALS as error:
                late = self.elapsed() > _SEARCH_SECONDS
                if len(piece) > 1:
                    middle = len(piece) // 2
                    pieces += [piece[:middle], piece[middle:]]
                elif len(piece[0]) > 1 and late and id(piece[0]) not in came:
                    piece[0].undecided.append(piece[0])
                elif len(piece[0]) > 1:
                    pieces += [[half] for half in piece[0].halves()]
                elif len(piece[0]):
                    state = error.sqlstate or "XX000"
                    _log.warning("rows refused by the database", extra={"state": state})
                    refused.append(refuse(piece[0], state))
                else:
                    raise DatabaseAwayError from error

    def _commit_piece(self, batches: list[Batch]) -> None:
        """Store batches in one transaction, again after a failure that may be a passing one."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._write(batches)
            except _REFUSALS as error:
                missing = isinstance(error, errors.CheckViolation) and _names_no_check(error)
                if not missing or attempt == ATTEMPTS:
                    raise
                # A partition that was there has been dropped meanwhile.
                self._partitions.forget()
            except psycopg.Error as error:
                if attempt == ATTEMPTS or not self.is_passing(error):
                    self.close()
                    DATABASE.fails("ingest", error)
                    raise DatabaseAwayError from None
            else:
                DATABASE.works("ingest")
                return

    def _write(self, batches: list[Batch]) -> None:
        try:
            self._store(batches, staged=self._expect_repeats)
        except errors.UniqueViolation:
            self._store(batches, staged=True)

    def _store(self, batches: list[Batch], *, staged: bool) -> None:
        connection = self.connect()
        while True:
            try:
                self._expect_repeats = write(
                    connection,
                    self._partitions,
                    batches,
                    staged=staged,
                    pseudonyms=self._pseudonyms,
                )
            except ErasedRowsError as error:
                refuse_erased(batches, error.keys)
            except MissingMonthsError as error:
                postpone(batches, set(error.months))
            else:
                return


def _names_no_check(error: psycopg.Error) -> bool:
    return error.diag.constraint_name is None
