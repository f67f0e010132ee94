"""Reading an uploaded reference into Arrow: Parquet, an Arrow stream, CSV or NDJSON."""

import gzip
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from service.errors import InvalidDocumentError, TooLargeError
from service.runs.reference_reading import (
    CSV,
    MEDIA,
    NDJSON,
    PARQUET,
    BadGzipError,
    Limits,
    MalformedReferenceError,
    Upload,
)

LINE_BYTES = 16 << 20

# An index that pandas has written is no feature.
_UNNAMED = re.compile(r"|__index_level_\d+__|Unnamed: \d+")


# Numbers are written with up to four times the bytes that they take in memory.
_WRITTEN = 4


class _Inflated(gzip.GzipFile):
    """What gzip holds, up to a limit: however small its file is."""

    def __init__(self, upload: Upload) -> None:
        super().__init__(upload.path, "rb")
        self._limit = _WRITTEN * upload.limits.size
        self._taken = 0

    def read(self, size: int | None = -1) -> bytes:
        most = self._limit - self._taken + 1
        piece = super().read(most if size is None or size < 0 else min(size, most))
        self._taken += len(piece)
        if self._taken > self._limit:
            message = "the reference is too large once it is decompressed"
            raise TooLargeError(message, limit=self._limit)
        return piece


class _Counted:
    """Lines, up to a limit: what reads them says how many they were after minutes."""

    def __init__(self, file: IO[bytes] | _Inflated, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._lines = 0

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self._lines += piece.count(b"\n")
        Limits(self._limit).check(self._lines, 0, 0)
        return piece

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return self._file.closed


def read_file(upload: Upload, texts: Collection[str]) -> tuple[pa.Table, list[str]]:
    """Read a file; return its table, and the names of columns that were left out as unnamed.

    ``texts`` are columns that hold text whatever they look like (``007``).  Only a process that
    may die of it reads a file.
    """
    media, limits, ignore = upload.media, upload.limits, upload.ignore
    try:
        with _opened(upload) as source:
            table = READERS[media](source, texts, limits)
        limits.check(table.num_rows, table.num_columns, table.nbytes)
        table.validate(full=True)
        table = table.unify_dictionaries()
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise BadGzipError from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MalformedReferenceError(media, _row_of(error)) from None
    names = table.column_names
    unnamed = [name for name in names if _UNNAMED.fullmatch(name) and name not in ignore]
    table = table.drop_columns([name for name in names if name in ignore or name in unnamed])
    if len(set(table.column_names)) != table.num_columns:
        message = "two columns have the same name"
        raise InvalidDocumentError(message, code="duplicate-column")
    return table, unnamed


def _opened(upload: Upload) -> pa.NativeFile:
    if upload.media == NDJSON:
        file = _Inflated(upload) if upload.gzip else upload.path.open("rb")
        return pa.PythonFile(_Counted(file, upload.limits.rows), mode="r")
    if not upload.gzip:
        return pa.OSFile(str(upload.path))
    inflated = _Inflated(upload)
    if upload.media == PARQUET:
        # Its end is read first.
        return pa.BufferReader(inflated.read())
    return pa.PythonFile(inflated, mode="r")


def _read_parquet(source: pa.NativeFile, _texts: Collection[str], limits: Limits) -> pa.Table:
    with pq.ParquetFile(source) as file:
        # A small file may inflate to anything.  What it says beforehand is the size of its pages,
        # and a page of one value and a count may be millions of rows.
        limits.check(file.metadata.num_rows, len(file.schema_arrow), 0)
        return _gather(file.iter_batches(), file.schema_arrow, limits)


def _read_arrow(source: pa.NativeFile, _texts: Collection[str], limits: Limits) -> pa.Table:
    with pa.ipc.open_stream(source) as reader:
        return _gather(reader, reader.schema, limits)


def _gather(read: Iterable[pa.RecordBatch], schema: pa.Schema, limits: Limits) -> pa.Table:
    batches = []
    rows = size = 0
    for batch in read:
        # Offsets that point elsewhere crash the process where they are used.
        batch.validate(full=True)
        rows += batch.num_rows
        size += batch.nbytes
        limits.check(rows, batch.num_columns, size)
        batches.append(batch)
    return pa.Table.from_batches(batches, schema)


def _read_csv(source: pa.NativeFile, texts: Collection[str], _limits: Limits) -> pa.Table:
    bad: list[int | None] = []

    def note(row: Any) -> str:
        bad.append(row.number)
        return "error"

    try:
        return pyarrow.csv.read_csv(
            source,
            # Only one thread knows the number of a bad row.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=LINE_BYTES),
            parse_options=pyarrow.csv.ParseOptions(
                newlines_in_values=True, invalid_row_handler=note
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(texts, pa.string()), strings_can_be_null=True
            ),
        )
    except pa.ArrowInvalid:
        if bad and bad[0] is not None:
            # The parser counts the heading as row 1.
            raise MalformedReferenceError(CSV, bad[0] - 2) from None
        raise


def _read_ndjson(source: pa.NativeFile, texts: Collection[str], _limits: Limits) -> pa.Table:
    return pyarrow.json.read_json(
        source,
        read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=LINE_BYTES),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=pa.schema([(name, pa.string()) for name in sorted(texts)])
        ),
    )


def _row_of(error: Exception) -> int | None:
    found = re.search(r"in row (\d+)", str(error))
    return int(found[1]) if found else None


READERS: Mapping[str, Callable[[pa.NativeFile, Collection[str], Limits], pa.Table]] = dict(
    zip(MEDIA, (_read_parquet, _read_arrow, _read_csv, _read_ndjson), strict=True)
)
