"""What was erased does not come back: a late retry of its client is refused."""

from collections.abc import Collection, Sequence
from datetime import datetime

import psycopg
from psycopg import sql
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from service.ingest.tables import ErasedPrediction
from service.ingest.verdicts import Code, RowError
from service.registry.privacy import Pseudonyms

PredictionKey = tuple[int, str]
"""A model's id and a prediction's."""

ErasedKey = tuple[PredictionKey, datetime | None]

REFUSAL = RowError(Code.ERASED, "prediction_id", "the prediction has been erased")


class ErasedRowsError(Exception):
    """Some of the rows that were to be stored have been erased before."""

    def __init__(self, keys: Collection[PredictionKey]) -> None:
        super().__init__(len(keys))
        self.keys = keys


def digest_of(pseudonyms: Pseudonyms, key: PredictionKey) -> bytes:
    """Return how an erased prediction is remembered."""
    model_id, prediction_id = key
    return pseudonyms.digest(f"prediction {model_id}", prediction_id)


def remember(session: Session, pseudonyms: Pseudonyms, found: Sequence[ErasedKey]) -> None:
    """Remember what is erased, each with its time if it has one."""
    if found:
        session.execute(
            pg_insert(ErasedPrediction).on_conflict_do_nothing(),
            [
                {"model_id": key[0], "digest": digest_of(pseudonyms, key), "ts": ts}
                for key, ts in found
            ],
        )


def models_with_erased(cursor: psycopg.Cursor, models: Collection[int]) -> set[int]:
    """Return of which models anything was erased.

    An erasure remembers first, then waits for whoever holds the lock that is taken here, and
    deletes only then: either it sees what is stored now, or its memory is seen here.
    """
    if not models:
        return set()
    cursor.execute(
        sql.SQL(
            "LOCK TABLE prediction_identity, label IN ROW EXCLUSIVE MODE; "
            "SELECT m FROM unnest({}::bigint[]) AS models (m) "
            "WHERE EXISTS (SELECT FROM erased_prediction WHERE model_id = m)"
        ).format(sql.Literal(sorted(models)))
    )
    cursor.nextset()
    return {model_id for (model_id,) in cursor}


def require_none_erased(
    cursor: psycopg.Cursor,
    pseudonyms: Pseudonyms,
    touched: Collection[int],
    keys: Collection[PredictionKey],
) -> None:
    """Raise if any of the predictions was erased."""
    erased = find_erased(cursor, pseudonyms, touched, keys)
    if erased:
        raise ErasedRowsError(erased)


def find_erased(
    cursor: psycopg.Cursor,
    pseudonyms: Pseudonyms,
    touched: Collection[int],
    keys: Collection[PredictionKey],
) -> set[PredictionKey]:
    """Return which of the predictions were erased."""
    digests = {(key[0], digest_of(pseudonyms, key)): key for key in keys if key[0] in touched}
    cursor.execute(
        "SELECT model_id, digest FROM erased_prediction "
        "WHERE model_id = ANY(%s) AND digest = ANY(%s)",
        (list(touched), [digest for _, digest in digests]),
    )
    found = {(model_id, bytes(digest)) for model_id, digest in cursor}
    return {key for digest, key in digests.items() if digest in found}
