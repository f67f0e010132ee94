"""A table in pieces, its times in UTC, and a name for what it holds."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from service.processes.files import LINES, File, readable

_KINDS: Final = "Parquet, CSV or JSON lines"
_FINGERPRINT_BYTES: Final = 1 << 16


def count_rows(file: File) -> int | None:
    """Return how many rows the file has, where its format tells without reading it all."""
    if not _is_parquet(file):
        return None
    with readable(file, _KINDS), file.open() as opened:
        return int(pyarrow.parquet.read_metadata(opened).num_rows)


def column_names(file: File) -> list[str]:
    """Return the names of the file's columns."""
    with readable(file, _KINDS):
        if _is_parquet(file):
            with file.open() as opened:
                return list(pyarrow.parquet.read_schema(opened).names)
        with _stream(file) as opened, _reader(file, opened) as reader:
            return list(reader.schema.names)


def pieces(file: File, rows: int) -> Iterator[pa.Table]:
    """Yield the file in its own order, at most ``rows`` rows a piece."""
    with readable(file, _KINDS):
        left: pa.Table | None = None
        for read in _batches(file, rows):
            table = pa.Table.from_batches([read])
            if left is not None:
                table = pa.concat_tables([left, table])
            whole = table.num_rows - table.num_rows % rows
            for start in range(0, whole, rows):
                yield table.slice(start, rows)
            left = table.slice(whole)
        if left is not None and left.num_rows:
            yield left


def as_utc(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return times as microseconds in UTC; those without a zone are taken to be UTC."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        try:
            return column.cast(pa.timestamp("us", "UTC"))
        except pa.ArrowInvalid:
            column = column.cast(pa.timestamp("us"))
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        message = f"{column.type} is no time"
        raise pa.ArrowTypeError(message)
    zone = getattr(column.type, "tz", None)
    if zone is None:
        return pc.assume_timezone(column.cast(pa.timestamp("us"), safe=False), "UTC")
    return column.cast(pa.timestamp("us", "UTC"), safe=False)


def as_values(column: pa.ChunkedArray) -> list[Any]:
    """Return values that JSON can hold."""
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    values: list[Any] = column.to_pylist()
    if pa.types.is_temporal(column.type) or pa.types.is_binary(column.type):
        return [None if value is None else str(value) for value in values]
    return values


def fingerprint(file: File, identity: Sequence[str]) -> str:
    """Return a short name of the file's content, the same wherever the file lies."""
    digest = hashlib.blake2s("\0".join([*identity, str(file.size)]).encode(), digest_size=8)
    with readable(file, _KINDS), file.opener() as opened:
        digest.update(opened.read(_FINGERPRINT_BYTES))
        opened.seek(max(0, file.size - _FINGERPRINT_BYTES))
        digest.update(opened.read())
    return digest.hexdigest()


def _is_parquet(file: File) -> bool:
    return file.suffix in {".parquet", ".pq"}


def _stream(file: File) -> BinaryIO | pa.NativeFile:
    """Open a file for a reader that reads ahead, in threads of its own.

    One that comes back to Python while the interpreter ends aborts the process.  So what is on
    this machine is read without Python.
    """
    if file.path is None:
        return file.open()
    raw = pa.OSFile(str(file.path))
    return pa.CompressedInputStream(raw, "gzip") if file.compressed else raw


def _reader(file: File, opened: Any) -> Any:
    """Read CSV or JSON lines as they come."""
    if file.suffix in LINES:
        return pyarrow.json.open_json(opened)
    return pyarrow.csv.open_csv(opened)


def _batches(file: File, rows: int) -> Iterator[pa.RecordBatch]:
    if _is_parquet(file):
        with file.open() as opened, pyarrow.parquet.ParquetFile(opened) as table:
            yield from table.iter_batches(rows)
    else:
        with _stream(file) as opened, _reader(file, opened) as reader:
            yield from reader
