"""Keys into a table that may hold some of them already."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Protocol, TypeVar

import psycopg
from psycopg import sql

from service.ingest import copy
from service.ingest.rows import IDENTITY_COLUMNS

LABEL_COLUMNS = ("model_id", "prediction_id", "label_ts", "label", "label_value")


class Keyed(Protocol):
    """Something that is stored once: equal keys are the same thing, equal tails say the same."""

    key: bytes
    tail: bytes


Item = TypeVar("Item", bound=Keyed)


@dataclass(frozen=True)
class Target:
    """A table that is filled by key; the other columns are what a key says."""

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def stage(self) -> str:
        """Return the name of the temporary table beside it."""
        return f"stage_{self.table}"


IDENTITY = Target(
    "prediction_identity", IDENTITY_COLUMNS, ("model_id", "version_id", "prediction_id")
)
LABEL = Target("label", LABEL_COLUMNS, ("model_id", "prediction_id", "label_ts"))


def create_stage(connection: psycopg.Connection, target: Target) -> None:
    """Create the temporary table of a target, which every commit empties."""
    connection.execute(
        sql.SQL(
            "CREATE TEMP TABLE {stage} ON COMMIT DELETE ROWS AS "
            "SELECT 0::int AS n, {columns} FROM {table} WITH NO DATA"
        ).format(
            stage=sql.Identifier(target.stage),
            columns=_names(target.columns),
            table=sql.Identifier(target.table),
        )
    )


def copy_into(
    cursor: psycopg.Cursor, table: str, columns: tuple[str, ...], tuples: Sequence[bytes]
) -> None:
    """Send encoded tuples by one binary COPY."""
    with cursor.copy(_copy_statement(table, columns)) as stream:
        for piece in copy.copy_stream(tuples):
            stream.write(piece)


@lru_cache(maxsize=1_024)
def _copy_statement(table: str, columns: tuple[str, ...]) -> bytes:
    statement = sql.SQL("COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)")
    return statement.format(table=sql.Identifier(table), columns=_names(columns)).as_bytes()


def copy_keys(cursor: psycopg.Cursor, target: Target, items: Sequence[Keyed]) -> None:
    """Store new keys; one that is there already is a ``UniqueViolation``."""
    count = copy.pack_count(len(target.columns))
    copy_into(
        cursor, target.table, target.columns, [count + item.key + item.tail for item in items]
    )


def stage_keys(
    cursor: psycopg.Cursor, target: Target, items: Sequence[Keyed]
) -> tuple[set[int], set[int]]:
    """Store what is new; return the positions of the new, and of those that say the same.

    Of equal keys among the items the first is the new one.
    """
    count = copy.pack_count(len(target.columns) + 1)
    tuples = [count + copy.int4_field(n) + item.key + item.tail for n, item in enumerate(items)]
    copy_into(cursor, target.stage, ("n", *target.columns), tuples)
    names = {
        "stage": sql.Identifier(target.stage),
        "table": sql.Identifier(target.table),
        "columns": _names(target.columns),
        "key": _names(target.key),
        "same": sql.SQL(" AND ").join(
            sql.SQL("s.{c} IS NOT DISTINCT FROM t.{c}").format(c=sql.Identifier(c))
            for c in target.columns
            if c not in target.key
        ),
    }
    cursor.execute(
        sql.SQL(
            "WITH new AS (INSERT INTO {table} ({columns}) SELECT {columns} FROM {stage} "
            "ORDER BY n ON CONFLICT DO NOTHING RETURNING {key}) "
            "SELECT min(n) FROM {stage} JOIN new USING ({key}) GROUP BY {key}"
        ).format(**names)
    )
    new = {row[0] for row in cursor}
    if len(new) == len(items):
        return new, set()
    # A statement of its own: it sees what other transactions committed meanwhile.
    cursor.execute(
        sql.SQL("SELECT s.n FROM {stage} s JOIN {table} t USING ({key}) WHERE {same}").format(
            **names
        )
    )
    return new, {row[0] for row in cursor} - new


def in_order(items: Iterable[Item]) -> tuple[list[Item], bool]:
    """Sort by key, and say whether a key comes twice; of equal keys the first comes first.

    Every process inserts in this one order, so that no two wait for each other in a circle.
    """
    by_key = attrgetter("key")
    ordered = sorted(items, key=by_key)
    return ordered, len(set(map(by_key, ordered))) < len(ordered)


def _names(columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
