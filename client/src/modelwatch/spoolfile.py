"""The statements of a spool: encoded records in one SQLite file that a host's processes share."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

APPLICATION = 0x6D775350
LAYOUT = 1
BUSY_SECONDS = 5.0
PAGE_BYTES = 4096
LEAST_PAGES = 16
EXPIRED_AT_ONCE = 5_000
WAL_PAGES = 256
SHRUNK_FROM_PAGES = 4_096

_SCHEMA = (
    """CREATE TABLE destination (
        id INTEGER PRIMARY KEY, url TEXT NOT NULL, path TEXT NOT NULL, model TEXT NOT NULL,
        head BLOB NOT NULL, rows INTEGER NOT NULL DEFAULT 0,
        refused INTEGER NOT NULL DEFAULT 0, expired INTEGER NOT NULL DEFAULT 0,
        UNIQUE (url, path, head))""",
    # AUTOINCREMENT: a sender that was frozen may acknowledge late, and must not meet another
    # record under a number that it knows.
    """CREATE TABLE record (
        id INTEGER PRIMARY KEY AUTOINCREMENT, destination INTEGER NOT NULL,
        stored_at REAL NOT NULL, body BLOB NOT NULL)""",
    "CREATE INDEX record_of_destination ON record (destination)",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {LAYOUT}",
)


class Destination(NamedTuple):
    """Where records go: a server, one of its routes, and what a request to it begins with.

    The key is none of it: what is on the disk opens no door.
    """

    url: str
    path: str
    model: str
    head: bytes


class Stored(NamedTuple):
    """One encoded record and its number."""

    id: int
    body: bytes


class Counts(NamedTuple):
    """What a spool holds for one destination, and what became of earlier records."""

    destination: Destination
    rows: int
    bytes: int
    oldest: float | None
    newest: float | None
    refused: int
    expired: int


class ForeignFileError(Exception):
    """The file is something else, and is left as it is."""


class SpoolFile:
    """One open connection; the caller sees to it that one thread at a time uses it."""

    def __init__(self, path: str, max_bytes: int) -> None:
        self._connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._set_up(max_bytes)
        except BaseException:
            self._connection.close()
            raise
        self._numbers: dict[Destination, int] = {}

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def add(self, group: Sequence[tuple[Destination, bytes]], now: float) -> int:
        """Commit records together; return the number of the last."""
        with self._transaction():
            numbers = {to: self._known(to) for to in {to for to, _ in group}}
            self._connection.executemany(
                "INSERT INTO record (destination, stored_at, body) VALUES (?, ?, ?)",
                ((numbers[to], now, body) for to, body in group),
            )
            for to, number in numbers.items():
                self._count(number, rows=sum(one == to for one, _ in group))
            last = self._value("SELECT seq FROM sqlite_sequence WHERE name = 'record'")
        # Only now: a transaction that is rolled back takes its destinations with it.
        self._numbers.update(numbers)
        return int(last)

    def destinations(self, url: str | None = None, model: str | None = None) -> list[Destination]:
        """Return where records go, those of one server and one model if they are named."""
        rows = self._connection.execute(
            "SELECT url, path, model, head FROM destination"
            " WHERE url = coalesce(?, url) AND model = coalesce(?, model) ORDER BY id",
            (url, model),
        )
        return [Destination(*row) for row in rows]

    def number(self, to: Destination) -> int | None:
        """Return the number of a destination, if there ever was a record for it."""
        found = self._numbers.get(to)
        if found is None:
            found = self._value(
                "SELECT id FROM destination WHERE url = ? AND path = ? AND head = ?",
                (to.url, to.path, to.head),
            )
        return found

    def waits(self, to: Destination, after: int) -> bool:
        """Say whether there is a record for a destination with a number above ``after``."""
        query = "SELECT 1 FROM record WHERE destination = ? AND id > ? LIMIT 1"
        return self._value(query, (self.number(to), after)) is not None

    def rows(self, to: Destination) -> int:
        """Return how many records there are for a destination."""
        return self._value("SELECT rows FROM destination WHERE id = ?", (self.number(to),)) or 0

    def oldest(self, to: Destination, rows: int, room: int, after: int = 0) -> list[Stored]:
        """Return the oldest records for a destination: at least one, at most ``room`` bytes."""
        found: list[Stored] = []
        cursor = self._connection.execute(
            "SELECT id, body FROM record WHERE destination = ? AND id > ? ORDER BY id LIMIT ?",
            (self.number(to), after, rows),
        )
        for number, body in cursor:
            room -= len(body)
            if found and room < 0:
                break
            found.append(Stored(number, body))
        cursor.close()
        return found

    def remove(self, to: Destination, first: int, last: int, refused: int = 0) -> int:
        """Forget the records of a range, count those that a server refused; return how many."""
        with self._transaction():
            number = self.number(to)
            gone: int = self._connection.execute(
                "DELETE FROM record WHERE destination = ? AND id BETWEEN ? AND ?",
                (number, first, last),
            ).rowcount
            self._count(number, rows=-gone, refused=refused)
        return gone

    def expire(self, before: float) -> int:
        """Drop and count records that were stored before an instant; return how many."""
        total = 0
        while True:
            with self._transaction():
                # What is stored later has a higher number: the oldest are first.
                old = self._connection.execute(
                    "SELECT destination, count(*), max(id) FROM (SELECT id, destination, stored_at"
                    " FROM record ORDER BY id LIMIT ?) WHERE stored_at < ? GROUP BY destination",
                    (EXPIRED_AT_ONCE, before),
                ).fetchall()
                for number, rows, last in old:
                    self._connection.execute(
                        "DELETE FROM record WHERE destination = ? AND id <= ? AND stored_at < ?",
                        (number, last, before),
                    )
                    self._count(number, rows=-rows, expired=rows)
            found: int = sum(rows for _, rows, _ in old)
            total += found
            if found < EXPIRED_AT_ONCE:
                return total

    def shrink(self) -> None:
        """Give the disk back what an empty spool once needed."""
        pages = self._value("PRAGMA page_count")
        if pages >= SHRUNK_FROM_PAGES and self._value("SELECT 1 FROM record LIMIT 1") is None:
            self._connection.execute("VACUUM")

    def checkpoint(self) -> None:
        """Move what the log holds into the file, so that the log begins anew."""
        self._connection.execute("PRAGMA wal_checkpoint").fetchall()

    def counts(self) -> list[Counts]:
        """Count what is stored, by destination."""
        rows = self._connection.execute(
            "SELECT url, path, model, head, rows, coalesce(sum(length(body)), 0),"
            " min(stored_at), max(stored_at), refused, expired FROM destination"
            " LEFT JOIN record ON record.destination = destination.id"
            " GROUP BY destination.id ORDER BY destination.id"
        )
        return [Counts(Destination(*row[:4]), *row[4:]) for row in rows]

    def _count(
        self, number: int | None, *, rows: int = 0, refused: int = 0, expired: int = 0
    ) -> None:
        self._connection.execute(
            "UPDATE destination SET rows = rows + ?, refused = refused + ?, expired = expired + ?"
            " WHERE id = ?",
            (rows, refused, expired, number),
        )

    def _known(self, to: Destination) -> int:
        number = self.number(to)
        if number is None:
            insert = "INSERT INTO destination (url, path, model, head) VALUES (?, ?, ?, ?)"
            number = self._connection.execute(insert, to).lastrowid
            assert number is not None
        return number

    def _value(self, query: str, given: tuple[Any, ...] = ()) -> Any:
        row = self._connection.execute(query, given).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            yield
            execute("COMMIT")
        except BaseException:
            # SQLite has done so by itself after some faults.
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    def _set_up(self, max_bytes: int) -> None:
        execute = self._connection.execute
        if self._value("PRAGMA schema_version") == 0:
            execute(f"PRAGMA page_size = {PAGE_BYTES}")
        elif self._value("PRAGMA application_id") != APPLICATION:
            message = "it is a database of something else"
            raise ForeignFileError(message)
        elif self._value("PRAGMA user_version") > LAYOUT:
            message = "it is the spool of a newer release"
            raise ForeignFileError(message)
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        execute(f"PRAGMA journal_size_limit = {2 * WAL_PAGES * PAGE_BYTES}")
        # A full spool is a full disk to whoever writes: one case, not two.
        execute(f"PRAGMA max_page_count = {max(LEAST_PAGES, max_bytes // PAGE_BYTES)}")
        execute("PRAGMA temp_store = MEMORY")
        with self._transaction():
            if self._value("PRAGMA user_version") == 0:
                for statement in _SCHEMA:
                    execute(statement)
