"""Rows of the tables that people have, without importing what made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

Rows = list[Sequence[Any]]

# Past this an input is no table of features that the server would take: text as word counts, say.
MOST_COLUMNS = 1_000


def read_table(table: Any, chunk: int) -> tuple[list[str], Iterator[Rows]]:
    """Return the names of the columns, and the rows in parts of at most ``chunk``.

    Of pandas, polars and pyarrow, of records (mappings) and of a mapping of columns.  A time
    without a zone is in UTC, as in a reference that is uploaded.

    Raises
    ------
    TypeError
        If it is none of these.
    """
    names, parts = _reader(table, chunk)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        message = f"columns stand twice: {', '.join(twice)}"
        raise ValueError(message)
    return names, map(_with_zones, parts)


def _reader(table: Any, chunk: int) -> tuple[list[str], Iterator[Rows]]:
    if callable(getattr(table, "collect", None)):
        message = f"{type(table).__name__} is no table yet; collect() it first"
        raise TypeError(message)
    if hasattr(table, "iloc") and hasattr(table, "columns"):
        return [str(name) for name in table.columns], _pandas(table, chunk)
    if hasattr(table, "get_columns") and hasattr(table, "rows"):
        return list(table.columns), _polars(table, chunk)
    if hasattr(table, "schema") and hasattr(table, "to_pydict"):
        return list(table.schema.names), _pyarrow(table, chunk)
    if isinstance(table, Mapping):
        return [str(name) for name in table], _columns(table, chunk)
    if isinstance(table, Sequence) and all(isinstance(record, Mapping) for record in table):
        names = list(dict.fromkeys(name for record in table for name in record))
        return [str(name) for name in names], _records(table, names, chunk)
    message = f"{type(table).__name__} is no table that is known"
    raise TypeError(message)


def read_inputs(
    inputs: Any, names: Sequence[str] | None, chunk: int
) -> tuple[list[str], Iterator[Rows]]:
    """Return what a model is given as ``read_table`` does; ``names`` are for what has none.

    A matrix without names has ``x0``, ``x1``, as in scikit-learn.
    """
    if not hasattr(inputs, "tolist") and not hasattr(inputs, "tocsr") and not _is_nameless(inputs):
        return read_table(inputs, chunk)
    shape = getattr(inputs, "shape", None) or (len(inputs), *_width(inputs[:1]))
    width = shape[1] if len(shape) > 1 else 1
    if width > MOST_COLUMNS:
        message = f"{width} columns are more than anybody watches"
        raise ValueError(message)
    found = list(names or (f"x{at}" for at in range(width)))
    if len(found) != width:
        message = f"{width} columns have {len(found)} names"
        raise ValueError(message)
    rows = inputs.tocsr() if hasattr(inputs, "tocsr") else inputs
    return found, (_listed(rows[at : at + chunk]) for at in range(0, shape[0], chunk))


def _listed(part: Any) -> Rows:
    dense = part.toarray() if hasattr(part, "toarray") else part
    rows = dense.tolist() if hasattr(dense, "tolist") else list(dense)
    return [row if _is_row(row) else [row] for row in rows]


def _width(first: Sequence[Any]) -> tuple[int, ...]:
    return (len(first[0]),) if first and _is_row(first[0]) else ()


def _is_nameless(inputs: Any) -> bool:
    """Say whether it is a sequence of rows or texts, and not of records."""
    return isinstance(inputs, Sequence) and not (inputs and isinstance(inputs[0], Mapping))


def _is_row(row: Any) -> bool:
    return hasattr(row, "tolist") or (
        isinstance(row, Sequence) and not isinstance(row, (str, bytes))
    )


def _pandas(frame: Any, chunk: int) -> Iterator[Rows]:
    for start in range(0, len(frame), chunk):
        # As objects: a column of integers beside one of floats keeps them.
        yield frame.iloc[start : start + chunk].to_numpy(dtype=object).tolist()


def _polars(frame: Any, chunk: int) -> Iterator[Rows]:
    for start in range(0, len(frame), chunk):
        yield frame.slice(start, chunk).rows()


def _pyarrow(table: Any, chunk: int) -> Iterator[Rows]:
    for start in range(0, table.num_rows, chunk):
        part = table.slice(start, chunk)
        yield list(zip(*(column.to_pylist() for column in part.columns)))


def _columns(table: Mapping[Any, Any], chunk: int) -> Iterator[Rows]:
    columns = [
        column.tolist() if hasattr(column, "tolist") else list(column) for column in table.values()
    ]
    if len({len(column) for column in columns}) > 1:
        message = "columns differ in length"
        raise ValueError(message)
    for start in range(0, len(columns[0]) if columns else 0, chunk):
        yield list(zip(*(column[start : start + chunk] for column in columns)))


def _records(records: Sequence[Mapping[Any, Any]], names: list[Any], chunk: int) -> Iterator[Rows]:
    for start in range(0, len(records), chunk):
        yield [[record.get(name) for name in names] for record in records[start : start + chunk]]


def _with_zones(rows: Rows) -> Rows:
    naive = [at for at in range(len(rows[0]) if rows else 0) if _is_naive(rows, at)]
    if not naive:
        return rows
    changed: Rows = []
    for row in map(list, rows):
        changed.append(row)
        for at in naive:
            value = row[at]
            if isinstance(value, datetime) and value.tzinfo is None:
                row[at] = value.replace(tzinfo=timezone.utc)
    return changed


def _is_naive(rows: Rows, at: int) -> bool:
    """Say whether the first value of a column is a time without a zone."""
    first = next((row[at] for row in rows if row[at] is not None), None)
    return isinstance(first, datetime) and first.tzinfo is None
