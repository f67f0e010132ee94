"""Dead letters: rows that only the database refused, kept as bytes until they are replayed."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

from service.ingest.decode import Record, load_record
from service.ingest.limits import LETTER_AGE, MAX_LETTERS
from service.ingest.verdicts import RowError
from service.telemetry import DEAD_LETTERS

_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Letter:
    """A refused row on its way into the table."""

    model_id: int
    version_id: int | None
    model: str
    kind: str
    state: str
    record: bytes
    digest: bytes
    prediction_id: str | None
    subject: str | None


def write_letter(
    raw: Record, *, model_id: int, version_id: int | None, model: str, kind: str, state: str
) -> Letter:
    """Return a record as a letter."""
    record = bytes(raw)
    content = b"\0".join((kind.encode(), str(version_id).encode(), record))
    known = _load(record)
    return Letter(
        model_id,
        version_id,
        model,
        kind,
        state,
        record,
        hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest(),
        _storable(known.get("prediction_id")),
        _storable(known.get("subject")),
    )


def _load(record: bytes) -> dict[str, Any]:
    try:
        found = load_record(record, 0)
    except RowError:
        return {}
    return found if isinstance(found, dict) else {}


def _storable(value: object) -> str | None:
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else None


def keep(cursor: psycopg.Cursor, letters: Iterable[Letter]) -> None:
    """Store letters, and let go of a model's oldest beyond what is kept."""
    # Every process inserts in this one order, so that no two wait for each other in a circle.
    ordered = sorted(letters, key=lambda letter: (letter.model_id, letter.digest))
    if not ordered:
        return
    cursor.executemany(
        "INSERT INTO dead_letter "
        "(model_id, version_id, kind, state, record, digest, prediction_id, subject) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [
            (
                *(own.model_id, own.version_id, own.kind, own.state),
                *(own.record, own.digest, own.prediction_id, own.subject),
            )
            for own in ordered
        ],
    )
    prune(cursor, {letter.model_id for letter in ordered})


def prune(cursor: psycopg.Cursor, models: Iterable[int]) -> None:
    """Let go of letters that are too old or too many."""
    cursor.execute(
        "DELETE FROM dead_letter WHERE id IN ("
        "SELECT id FROM dead_letter d WHERE model_id = ANY(%s) AND (received_at < now() - %s "
        "OR id <= (SELECT id FROM dead_letter WHERE model_id = d.model_id "
        "ORDER BY id DESC OFFSET %s LIMIT 1)) FOR UPDATE SKIP LOCKED)",
        (list(models), LETTER_AGE, MAX_LETTERS),
    )


def remove(cursor: psycopg.Cursor, letters: Iterable[int]) -> None:
    """Let go of letters whose rows are stored."""
    if ids := sorted(letters):
        cursor.execute("DELETE FROM dead_letter WHERE id = ANY(%s)", (ids,))


def count(letters: Iterable[Letter]) -> None:
    """Count letters that have been committed."""
    for letter in letters:
        DEAD_LETTERS.labels(letter.model, letter.kind).inc()
