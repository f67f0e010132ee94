"""Partitions of the prediction table: one per model, below it one per month.

They are made before the transaction that fills them, and attached rather than created in place:
``CREATE TABLE … PARTITION OF`` locks the parent against every reader, ``ATTACH`` does not.  It
wants the checks that an operator may have put on the parent.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from time import monotonic

import psycopg
from psycopg import sql

from service.db.turns import table_turn
from service.ingest.times import HOUR, to_datetime

MAX_MONTHS = 600
MAKE_SECONDS = 0.25
"""So long months are made before others have their turn."""
_MONTHS = 12

ModelMonth = tuple[int, int]
"""A model's id and a month, counted from year 0."""


class MissingMonthsError(Exception):
    """Some months are still to be made, which took too long to go on at once."""

    def __init__(self, months: Collection[ModelMonth]) -> None:
        super().__init__(len(months))
        self.months = months


def month_of_hour(hour: int) -> int:
    """Return the month that holds an hour since 1970."""
    time = to_datetime(hour * HOUR)
    return time.year * _MONTHS + time.month - 1


def _start(month: int) -> datetime:
    return datetime(month // _MONTHS, month % _MONTHS + 1, 1, tzinfo=UTC)


def month_bounds(year: int, month: int) -> tuple[datetime, datetime]:
    """Return the beginning of a month, and of the next."""
    number = year * _MONTHS + month - 1
    return _start(number), _start(number + 1)


def partition_name(model_id: int, month: int | None = None) -> str:
    """Return the name of a model's partition, or of one of its months."""
    if month is None:
        return f"prediction_m{model_id}"
    return f"prediction_m{model_id}_{_start(month):%Y_%m}"


class Partitions:
    """The partitions that this process knows to exist."""

    def __init__(self) -> None:
        self._known: set[ModelMonth] = set()

    def forget(self) -> None:
        """Look again: someone may have dropped a partition."""
        self._known.clear()

    def ensure(self, connection: psycopg.Connection, wanted: Iterable[ModelMonth]) -> None:
        """Create the partitions that are missing, each in a transaction of its own.

        Raises
        ------
        MissingMonthsError
            If that takes long; at least one more is there now.
        """
        began = monotonic()
        missing = sorted(set(wanted) - self._known)
        for made, (model_id, month) in enumerate(missing):
            if made and monotonic() - began >= MAKE_SECONDS:
                raise MissingMonthsError(missing[made:])
            with connection.transaction(), connection.cursor() as cursor:
                _create(cursor, model_id, month)
            self._known.add((model_id, month))


def _create_model(cursor: psycopg.Cursor, model_id: int) -> None:
    model = partition_name(model_id)
    if _exists(cursor, model):
        return
    cursor.execute(
        sql.SQL(
            "CREATE TABLE {model} (LIKE prediction INCLUDING DEFAULTS INCLUDING CONSTRAINTS) "
            "PARTITION BY RANGE (ts)"
        ).format(model=sql.Identifier(model))
    )
    cursor.execute(
        sql.SQL("ALTER TABLE prediction ATTACH PARTITION {model} FOR VALUES IN ({id})").format(
            model=sql.Identifier(model), id=sql.Literal(model_id)
        )
    )


def _create(cursor: psycopg.Cursor, model_id: int, month: int) -> None:
    model = partition_name(model_id)
    leaf = partition_name(model_id, month)
    if _exists(cursor, leaf):
        return
    # Only creators wait for each other here, in every process; ATTACH takes the same locks.
    if not _exists(cursor, model):
        cursor.execute(table_turn("prediction").encode())
        _create_model(cursor, model_id)
    cursor.execute(table_turn(model).encode())
    if _exists(cursor, leaf):
        return
    cursor.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass(%s)", (model,))
    row = cursor.fetchone()
    if row is not None and row[0] >= MAX_MONTHS:
        message = f"a model has at most {MAX_MONTHS} months of predictions"
        raise psycopg.DataError(message)
    cursor.execute(
        sql.SQL(
            "CREATE TABLE {leaf} (LIKE prediction INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
        ).format(leaf=sql.Identifier(leaf))
    )
    cursor.execute(
        sql.SQL(
            "ALTER TABLE {model} ATTACH PARTITION {leaf} FOR VALUES FROM ({start}) TO ({end})"
        ).format(
            model=sql.Identifier(model),
            leaf=sql.Identifier(leaf),
            start=sql.Literal(_start(month).isoformat()),
            end=sql.Literal(_start(month + 1).isoformat()),
        )
    )


def _exists(cursor: psycopg.Cursor, name: str) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (name,))
    row = cursor.fetchone()
    return row is not None and bool(row[0])
