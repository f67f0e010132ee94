"""Arrow streams to records, in a parser's process.

The records are written out as the JSON that a client could have sent, one a line: whatever is wrong
with them gets the verdict that it gets in JSON.  What JSON has no word for (an infinity, a list of
lists, bytes) becomes an empty object, which is of the wrong type everywhere.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow as pa

from service.ingest.arrow_messages import Asked, Told
from service.ingest.arrow_sizes import MalformedStreamError, read_sizes

# Features and what each contributed, tags, scores of many classes, and the rest of a record.
MOST_COLUMNS = 768
_TOP = {
    "predictions": frozenset(
        {"prediction_id", "ts", "prediction", "score", "weight", "subject", "model", "version"}
    ),
    "labels": None,
}
_GROUPS = ("tags", "scores", "attributions")
_WRONG: dict[str, Any] = {}
_types = pa.types


class _TooLargeError(Exception):
    def __init__(self, code: str, limit: int) -> None:
        super().__init__(code)
        self.code = code
        self.limit = limit


_asked = msgspec.msgpack.Decoder(Asked)
_encode = msgspec.msgpack.Encoder().encode


def parse(request: bytes) -> bytes:
    """Answer an ``Asked`` with a ``Told``."""
    asked = _asked.decode(request)
    try:
        return _encode(_parse(asked))
    except _TooLargeError as error:
        return _encode(Told(code=error.code, limit=error.limit))
    except MemoryError:
        return _encode(Told(code="body-too-large", limit=asked.inflated))
    except (MalformedStreamError, pa.ArrowException, OSError, ValueError, RecursionError):
        return _encode(Told(code="malformed-arrow"))


def _parse(asked: Asked) -> Told:
    sizes = read_sizes(asked.body)
    _limit(sizes.rows, asked.rows, "too-many-rows")
    _limit(sizes.inflated, asked.inflated, "body-too-large")
    options = pa.ipc.IpcReadOptions(use_threads=False)
    with pa.ipc.open_stream(pa.py_buffer(asked.body), options=options) as reader:
        schema = reader.schema
        _limit(len(schema), MOST_COLUMNS, "too-many-columns")
        if len(set(schema.names)) < len(schema):
            raise MalformedStreamError
        about = schema.metadata or {}
        model, version = (_text(about.get(name)) for name in (b"model", b"version"))
        top = _TOP[asked.kind]
        lines: list[bytes] = []
        written = 0
        for batch in reader:
            batch.validate(full=True)
            for record in _records(batch, top):
                line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
                written += len(line)
                _limit(written, asked.written, "body-too-large")
                lines.append(line)
    return Told(b"".join(lines), model, version, named="model" in schema.names)


def _limit(value: int, limit: int, code: str) -> None:
    if value > limit:
        raise _TooLargeError(code, limit)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _records(batch: pa.RecordBatch, top: frozenset[str] | None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a batch as the records of the JSON interface."""
    columns = dict(zip(batch.schema.names, map(_cells, batch.columns), strict=True))
    if top is None:
        yield from _rows(columns, batch.num_rows)
        return
    groups: dict[str, dict[str, list[Any]]] = {name: {} for name in ("", "features", *_GROUPS)}
    for name, cells in columns.items():
        group, dot, rest = name.partition(".")
        if name in top:
            groups[""][name] = cells
        elif dot and group in _GROUPS:
            groups[group][rest] = cells
        else:
            groups["features"][name] = cells
    said, features = (_rows(groups[name], batch.num_rows) for name in ("", "features"))
    optional = {name: _rows(groups[name], batch.num_rows) for name in _GROUPS if groups[name]}
    for record, own in zip(said, features, strict=True):
        record["features"] = own
        for name, rows in optional.items():
            if known := {key: cell for key, cell in next(rows).items() if cell is not None}:
                record[name] = known
        yield record


def _rows(columns: dict[str, list[Any]], count: int) -> Iterator[dict[str, Any]]:
    if not columns:
        return ({} for _ in range(count))
    names = tuple(columns)
    return (dict(zip(names, cells, strict=True)) for cells in zip(*columns.values(), strict=True))


def _cells(column: pa.Array) -> list[Any]:
    """Return a column's values as JSON has them."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _cells(column.storage)
    read = next((read for is_of, read in _READERS if is_of(kind)), _unreadable)
    return read(column)


def _unreadable(column: pa.Array) -> list[Any]:
    return [_WRONG if valid else None for valid in column.is_valid().to_pylist()]


def _plain(column: pa.Array) -> list[Any]:
    cells: list[Any] = column.to_pylist()
    return cells


def _chosen(column: pa.DictionaryArray) -> list[Any]:
    # Each value is read once, however many rows repeat it.
    values = _cells(column.dictionary)
    return [None if i is None else values[i] for i in column.indices.to_pylist()]


def _decimals(column: pa.Array) -> list[Any]:
    return _numbers(column.cast(pa.float64()))


def _times(column: pa.Array) -> list[Any]:
    """Return times as text; one without a zone keeps being one, and gets that verdict."""
    kind = column.type
    zoned = column if kind.tz is None else column.cast(pa.timestamp(kind.unit, "UTC"))
    return _plain(zoned.cast(pa.string()))


def _dates(column: pa.Array) -> list[Any]:
    return _plain(column.cast(pa.string()))


def _is_vector(kind: pa.DataType) -> bool:
    listed = _types.is_list(kind) or _types.is_large_list(kind) or _types.is_fixed_size_list(kind)
    return bool(
        listed and (_types.is_floating(kind.value_type) or _types.is_integer(kind.value_type))
    )


def _numbers(column: pa.Array) -> list[Any]:
    """Return numbers; one that is missing or not a number is NaN, which is written as null."""
    array = column.to_numpy(zero_copy_only=False)
    cells: list[Any] = array.tolist()
    for place in np.flatnonzero(np.isinf(array)):
        cells[place] = _WRONG
    return cells


def _vectors(column: pa.Array) -> list[Any]:
    cells: list[Any] = column.to_pylist()
    elements = column.flatten()
    if pa.types.is_floating(elements.type) and not _all_finite(elements):
        return [own if own is None or _finite(own) else _WRONG for own in cells]
    return cells


def _all_finite(elements: pa.Array) -> bool:
    return bool(np.isfinite(elements.to_numpy(zero_copy_only=False)).all())


def _finite(vector: Iterable[float | None]) -> bool:
    return all(value is not None and abs(value) < float("inf") for value in vector)


_READERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], list[Any]]], ...] = (
    (_types.is_floating, _numbers),
    (_types.is_integer, _plain),
    (_types.is_boolean, _plain),
    (_types.is_null, _plain),
    (_types.is_string, _plain),
    (_types.is_large_string, _plain),
    (_types.is_string_view, _plain),
    (_types.is_dictionary, _chosen),
    (_types.is_timestamp, _times),
    (_types.is_date, _dates),
    (_types.is_decimal, _decimals),
    (_is_vector, _vectors),
)
