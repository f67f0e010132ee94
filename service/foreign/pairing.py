"""Halves to Postgres: stored, or found to complete a pair, many requests in one transaction."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg

from service.db.outage import DATABASE
from service.errors import DatabaseAwayError
from service.foreign.halves import Half, Key
from service.formats.sagemaker import row_ids
from service.ingest.erased import find_erased, models_with_erased
from service.ingest.link import ATTEMPTS, Link
from service.registry.privacy import Pseudonyms

FRESH_SECONDS = 1.0
WAITING, DUPLICATE, CONFLICT = "waiting", "duplicate", "conflict"
ERASED = "erased"


class Pair(NamedTuple):
    """Two halves that belong together, with nobody having stored their rows yet."""

    key: Key
    version: str
    correlation: str
    subject: str | None
    request: bytes
    response: bytes


@dataclass(slots=True)
class Delivery:
    """The halves of one request, or keys of pairs whose rows are stored."""

    halves: list[Half] = field(default_factory=list)
    finished: list[Key] = field(default_factory=list)
    pairs: dict[Key, Pair] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how much there is to commit: rows, as everywhere."""
        return sum(half.rows for half in self.halves) + len(self.finished)


class Waiting(NamedTuple):
    """How much of a model waits for its other half."""

    halves: int
    size: int


_UPSERT = """
INSERT INTO pending_pair AS p (model_id, pair, version, correlation, subject,
    request, request_hash, request_token, response, response_hash, response_token)
SELECT * FROM unnest(%s::bigint[], %s::bytea[], %s::text[], %s::text[], %s::text[],
    %s::bytea[], %s::bigint[], %s::bigint[], %s::bytea[], %s::bigint[], %s::bigint[])
ON CONFLICT (model_id, pair) DO UPDATE SET
    subject = coalesce(p.subject, excluded.subject),
    request = CASE WHEN p.request_hash IS NULL THEN excluded.request ELSE p.request END,
    request_hash = coalesce(p.request_hash, excluded.request_hash),
    request_token = coalesce(p.request_token, excluded.request_token),
    response = CASE WHEN p.response_hash IS NULL THEN excluded.response ELSE p.response END,
    response_hash = coalesce(p.response_hash, excluded.response_hash),
    response_token = coalesce(p.response_token, excluded.response_token)
RETURNING model_id, pair, version, correlation, subject, request, request_hash, request_token,
    response, response_hash, response_token
"""
# Locked in one order, so that no two processes wait for each other in a circle.
_FINISH = """
UPDATE pending_pair p SET request = NULL, response = NULL, stored_at = now()
FROM (SELECT model_id, pair FROM pending_pair
      WHERE (model_id, pair) IN (SELECT * FROM unnest(%s::bigint[], %s::bytea[]))
      ORDER BY model_id, pair FOR UPDATE) AS done
WHERE p.model_id = done.model_id AND p.pair = done.pair
"""
_COUNT = """
SELECT model_id, count(*),
    sum(coalesce(octet_length(request), 0) + coalesce(octet_length(response), 0))
FROM pending_pair WHERE stored_at IS NULL GROUP BY model_id
"""


class PairStore(Link):
    """Stores halves, and says which of them complete a pair."""

    def __init__(self, url: str, pseudonyms: Pseudonyms | None = None) -> None:
        super().__init__(url)
        self._pseudonyms = pseudonyms
        self._counted = 0.0
        self.waiting: dict[int, Waiting] = {}
        """As of the last commit, or about a second before; read from another thread."""

    def commit(self, batches: Sequence[Delivery], /) -> None:
        """Store all halves and complete what is said of them, or raise ``DatabaseAwayError``."""
        self.begin()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._write(batches)
            except psycopg.Error as error:
                if attempt == ATTEMPTS or not self.is_passing(error):
                    self.close()
                    DATABASE.fails("pairs", error)
                    raise DatabaseAwayError from None
            else:
                DATABASE.works("pairs")
                return

    def _write(self, batches: Sequence[Delivery]) -> None:
        connection = self.connect()
        finished = sorted({key for batch in batches for key in batch.finished})
        if finished:
            models, pairs = zip(*finished, strict=True)
            connection.execute(_FINISH, (list(models), list(pairs)))
        with connection.transaction(), connection.cursor() as cursor:
            sent = [half for batch in batches for half in batch.halves]
            self._note_erased(cursor, sent)
            halves = [half for half in sent if half.result != ERASED]
            stored = cursor.execute(_UPSERT, _columns(halves)).fetchall() if halves else []
        found = {(row[0], bytes(row[1])): row for row in stored}
        told: set[Key] = set()
        # Of several requests that came together the last one stores the rows of a pair.
        for batch in reversed(batches):
            _tell(batch, found, told)
        if time.monotonic() - self._counted > FRESH_SECONDS:
            self._count(connection)

    def _note_erased(self, cursor: psycopg.Cursor, halves: Iterable[Half]) -> None:
        """Find the halves of what was erased, as their rows would be: none of them may wait."""
        if self._pseudonyms is None:
            return
        touched = models_with_erased(cursor, {half.key[0] for half in halves})
        if not touched:
            return
        names = {
            half.token: [
                (half.key[0], name)
                for name in {half.correlation, *row_ids(half.correlation, half.rows)}
            ]
            for half in halves
            if half.key[0] in touched
        }
        keys = {key for own in names.values() for key in own}
        erased = find_erased(cursor, self._pseudonyms, touched, keys)
        for half in halves:
            if not erased.isdisjoint(names.get(half.token, ())):
                half.result = ERASED

    def _count(self, connection: psycopg.Connection) -> None:
        rows = connection.execute(_COUNT).fetchall()
        self.waiting = {model: Waiting(halves, int(size)) for model, halves, size in rows}
        self._counted = time.monotonic()


def _columns(halves: Iterable[Half]) -> list[list[Any]]:
    """Return the columns of the halves, a pair a row, in the one order of all processes.

    Of two deliveries of one half the first is taken, as it would be had they come one by one.
    """
    rows: dict[Key, dict[str, Half]] = {}
    for half in halves:
        rows.setdefault(half.key, {}).setdefault(half.side, half)
    table = []
    for key in sorted(rows):
        sides = rows[key]
        first = next(iter(sides.values()))
        subject = next((half.subject for half in sides.values() if half.subject is not None), None)
        cells: list[Any] = [*key, first.version, first.correlation, subject]
        for side in ("request", "response"):
            own = sides.get(side)
            cells += [None] * 3 if own is None else [own.content, own.digest, own.token]
        table.append(cells)
    return [list(column) for column in zip(*table, strict=True)]


def _tell(batch: Delivery, found: dict[Key, tuple[Any, ...]], told: set[Key]) -> None:
    batch.pairs.clear()
    for half in batch.halves:
        if half.result == ERASED:
            continue
        row = found[half.key]
        _, _, version, correlation, subject, request, *_ = row
        response = row[8]
        at = 6 if half.side == "request" else 9
        digest, token = row[at], row[at + 1]
        if token == half.token:
            half.result = WAITING
        else:
            half.result = DUPLICATE if digest == half.digest else CONFLICT
        whole = request is not None and response is not None
        # One that is sent again may be so because nobody came to store the rows.
        if whole and half.result != CONFLICT and half.key not in told:
            pair = Pair(half.key, version, correlation, subject, bytes(request), bytes(response))
            batch.pairs[half.key] = pair
    told.update(batch.pairs)
