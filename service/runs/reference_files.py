"""Reading an uploaded reference into Arrow: Parquet, an Arrow stream, CSV or NDJSON."""

import json
import re
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from service.errors import BusyError, InvalidDocumentError, TooLargeError, UnsupportedTypeError
from service.parsing.parser import Job, Parser, ParserDiedError, ParserLateError

MOST_ROWS = 20_000_000
MOST_COLUMNS = 600
MOST_BYTES = 8 << 30
LINE_BYTES = 16 << 20
_JOB = Job(
    "service.runs.reference_files:answer", memory=3 * MOST_BYTES, processor=1_200, seconds=600.0
)

# An index that pandas has written is no feature.
_UNNAMED = re.compile(r"|__index_level_\d+__|Unnamed: \d+")


class MalformedReferenceError(InvalidDocumentError):
    """The file cannot be read as what it is said to be."""

    code = "malformed-reference"
    title = "Malformed reference"

    def __init__(self, kind: str, row: int | None = None) -> None:
        self.row = row
        where = "" if row is None else f"; row {row} is the first bad one"
        rejected = [] if row is None else [{"index": row, "code": self.code}]
        super().__init__(f"the body is not {kind} that can be read{where}", rejected=rejected)


def read_file(
    path: Path, media: str, ignore: Collection[str], texts: Collection[str]
) -> tuple[pa.Table, list[str]]:
    """Read a file; return its table, and the names of columns that were left out as unnamed.

    ``texts`` are columns that hold text whatever they look like (``007``).
    """
    if media not in READERS:
        message = f"a reference is one of {', '.join(READERS)}"
        raise UnsupportedTypeError(message)
    table = _read_apart(path, media, texts)
    names = table.column_names
    unnamed = [name for name in names if _UNNAMED.fullmatch(name) and name not in ignore]
    table = table.drop_columns([name for name in names if name in ignore or name in unnamed])
    if len(set(table.column_names)) != table.num_columns:
        message = "two columns have the same name"
        raise InvalidDocumentError(message, code="duplicate-column")
    return table, unnamed


def _read_apart(path: Path, media: str, texts: Collection[str]) -> pa.Table:
    """Read a file in a process of its own: what crashes a parser does not take the API down."""
    kind, _ = READERS[media]
    with tempfile.TemporaryDirectory(prefix="modelwatch-reference-") as directory:
        parsed = Path(directory) / "parsed.arrow"
        asked = json.dumps([str(path), media, sorted(texts), str(parsed)]).encode()
        try:
            with Parser(_JOB) as parser:
                fault = json.loads(parser.ask(asked))
        except ParserDiedError:
            raise MalformedReferenceError(kind) from None
        except ParserLateError:
            message = "the reference could not be read in time; send it again later"
            raise BusyError(message) from None
        if fault is None:
            with pa.memory_map(str(parsed)) as source:
                return pa.ipc.open_file(source).read_all()
    if "limit" in fault:
        raise TooLargeError(fault["detail"], limit=fault["limit"])
    raise MalformedReferenceError(kind, fault["row"])


def answer(request: bytes) -> bytes:
    """Parse a file, in the process of a parser."""
    path, media, texts, parsed = json.loads(request)
    return json.dumps(_parse(Path(path), media, texts, Path(parsed))).encode()


def _parse(path: Path, media: str, texts: Collection[str], parsed: Path) -> dict[str, Any] | None:
    """Write a file's table as an Arrow file; return what is wrong with it instead, if anything."""
    _, reader = READERS[media]
    try:
        table = reader(path, texts)
        _limit(table.num_rows, table.num_columns, table.nbytes)
        table.validate(full=True)
        # An Arrow file has one dictionary a column, where a stream may have many.
        table = table.unify_dictionaries()
        with pa.ipc.new_file(parsed, table.schema) as writer:
            writer.write_table(table)
    except TooLargeError as error:
        return {"detail": error.detail, "limit": error.limit}
    except MalformedReferenceError as error:
        return {"row": error.row}
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        return {"row": _row_of(error)}
    return None


def _limit(rows: int, columns: int, size: int) -> None:
    for value, limit, what in (
        (rows, MOST_ROWS, "rows"),
        (columns, MOST_COLUMNS, "columns"),
        (size, MOST_BYTES, "bytes in memory"),
    ):
        if value > limit:
            message = f"the reference has too many {what}"
            raise TooLargeError(message, limit=limit)


def _read_parquet(path: Path, _texts: Collection[str]) -> pa.Table:
    with pq.ParquetFile(path) as file:
        # A small file may inflate to anything; it says beforehand to how much.
        about = file.metadata
        groups = (about.row_group(number) for number in range(about.num_row_groups))
        size = sum(group.total_byte_size for group in groups)
        _limit(about.num_rows, len(file.schema_arrow), size)
        return file.read()


def _read_arrow(path: Path, _texts: Collection[str]) -> pa.Table:
    batches = []
    rows = size = 0
    with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as reader:
        for batch in reader:
            # Offsets that point elsewhere crash the process where they are used.
            batch.validate(full=True)
            rows += batch.num_rows
            size += batch.nbytes
            _limit(rows, batch.num_columns, size)
            batches.append(batch)
        return pa.Table.from_batches(batches, reader.schema)


def _read_csv(path: Path, texts: Collection[str]) -> pa.Table:
    bad: list[int | None] = []

    def note(row: Any) -> str:
        bad.append(row.number)
        return "error"

    try:
        return pyarrow.csv.read_csv(
            path,
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
            kind, row = "CSV", bad[0] - 2
            raise MalformedReferenceError(kind, row) from None
        raise


def _read_ndjson(path: Path, texts: Collection[str]) -> pa.Table:
    return pyarrow.json.read_json(
        path,
        read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=LINE_BYTES),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=pa.schema([(name, pa.string()) for name in sorted(texts)])
        ),
    )


def _row_of(error: Exception) -> int | None:
    found = re.search(r"in row (\d+)", str(error))
    return int(found[1]) if found else None


READERS: Mapping[str, tuple[str, Callable[[Path, Collection[str]], pa.Table]]] = {
    "application/vnd.apache.parquet": ("Parquet", _read_parquet),
    "application/vnd.apache.arrow.stream": ("an Arrow stream", _read_arrow),
    "text/csv": ("CSV", _read_csv),
    "application/x-ndjson": ("NDJSON", _read_ndjson),
}
