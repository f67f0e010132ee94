"""Everything that a database holds, as bytes, whatever it is packed into."""

import contextlib
import io
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pyarrow.parquet as pq
from psycopg import sql

from service.profiles.frames import HEADER_BYTES, MAGIC

_COLUMNS = """
    SELECT table_schema, table_name, column_name FROM information_schema.columns
    JOIN information_schema.tables USING (table_schema, table_name)
    WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')
    ORDER BY 1, 2, 3
"""


def traces(url: str, *needles: str | bytes | float) -> list[tuple[str, Any]]:
    """Return every place ``table.column`` in which a needle is, with the needle."""
    wanted = {needle: _spellings(needle) for needle in needles}
    return sorted(
        {
            (place, needle)
            for place, cell in cells(url)
            for needle, spellings in wanted.items()
            if any(spelling in cell for spelling in spellings)
        },
        key=repr,
    )


def cells(url: str) -> Iterator[tuple[str, bytes]]:
    """Yield every value of every table, opened as far as it can be."""
    with psycopg.connect(url) as connection:
        for schema, table, column in connection.execute(_COLUMNS).fetchall():
            query = sql.SQL("SELECT {} FROM ONLY {}").format(
                sql.Identifier(column), sql.Identifier(schema, table)
            )
            for (value,) in connection.execute(query):
                for piece in _opened(value):
                    yield f"{table}.{column}", piece


def _opened(value: Any) -> Iterator[bytes]:
    if value is None:
        return
    if not isinstance(value, bytes):
        yield value.encode() if isinstance(value, str) else str(value).encode()
        if isinstance(value, float):
            yield from _spellings(value)
        elif isinstance(value, dict | list):
            yield json.dumps(value, ensure_ascii=False, default=str).encode()
        return
    yield value
    if value.startswith(b"PAR1"):
        yield str(pq.read_table(io.BytesIO(value)).to_pylist()).encode()
        return
    if value[:1] == b"\x78":
        # A digest may begin like a stream.
        with contextlib.suppress(zlib.error):
            yield from _opened(zlib.decompressobj().decompress(value))
        return
    start = value.find(MAGIC)
    while start >= 0:
        frame = value[start + HEADER_BYTES :]
        if frame[:1] == b"\x78":
            yield from _opened(b"frame:" + zlib.decompressobj().decompress(frame))
        start = value.find(MAGIC, start + 1)


def _spellings(needle: str | bytes | float) -> tuple[bytes, ...]:
    if isinstance(needle, bytes):
        return (needle,)
    if isinstance(needle, str):
        return (needle.encode(), json.dumps(needle)[1:-1].encode())

    return (repr(needle).encode(), struct.pack("<d", needle), struct.pack(">d", needle))
