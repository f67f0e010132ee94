"""PostgreSQL's binary COPY format, as far as ingest writes it.

A field is its length as int32 and its bytes, null is length -1; a tuple is the number of its
fields as int16 and the fields.  https://www.postgresql.org/docs/current/sql-copy.html
"""

import struct
from collections.abc import Iterator, Sequence

HEADER = b"PGCOPY\n\xff\r\n\0" + b"\0" * 8
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"

POSTGRES_EPOCH = 946_684_800_000_000
"""Microseconds from 1970 to 2000, where PostgreSQL counts from."""

pack_count = struct.Struct(">h").pack
pack_length = struct.Struct(">i").pack
_pack_int4 = struct.Struct(">ii").pack
_pack_int8 = struct.Struct(">iq").pack
# Dimensions, whether there are nulls, the elements' type, and how many there are from which index.
_pack_array = struct.Struct(">iiiii").pack
_FLOAT4, _FLOAT8 = 700, 701
_pack_float8 = struct.Struct(">id").pack
_PIECE = 500


def int4_field(value: int) -> bytes:
    """Encode an ``integer``."""
    return _pack_int4(4, value)


def int8_field(value: int) -> bytes:
    """Encode a ``bigint``."""
    return _pack_int8(8, value)


def float8_field(value: float | None) -> bytes:
    """Encode a ``double precision``."""
    return NULL if value is None else _pack_float8(8, value)


def float8s_field(values: Sequence[float] | None) -> bytes:
    """Encode a ``double precision[]`` of one dimension without nulls."""
    if values is None:
        return NULL
    elements = b"".join(map(float8_field, values))
    head = _pack_array(1, 0, _FLOAT8, len(values), 1)
    return pack_length(len(head) + len(elements)) + head + elements


def float4s_field(values: Sequence[float] | None) -> bytes:
    """Encode a ``real[]`` of one dimension without nulls."""
    if values is None:
        return NULL
    arguments: list[float] = [4] * (2 * len(values))
    arguments[1::2] = values
    elements = struct.pack(">" + "if" * len(values), *arguments)
    head = _pack_array(1, 0, _FLOAT4, len(values), 1)
    return pack_length(len(head) + len(elements)) + head + elements


def time_field(microseconds: int) -> bytes:
    """Encode a ``timestamptz`` given as microseconds since 1970."""
    return _pack_int8(8, microseconds - POSTGRES_EPOCH)


def text_field(value: str | None) -> bytes:
    """Encode a ``text``."""
    if value is None:
        return NULL
    content = value.encode()
    return pack_length(len(content)) + content


def jsonb_field(document: bytes | None) -> bytes:
    """Encode a ``jsonb`` given as JSON; its binary form begins with a version byte."""
    if document is None:
        return NULL
    return pack_length(len(document) + 1) + b"\x01" + document


def copy_stream(tuples: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the stream of encoded tuples in pieces, so that the first is read while more come."""
    parts = [HEADER, *tuples, TRAILER]
    for at in range(0, len(parts), _PIECE):
        yield b"".join(parts[at : at + _PIECE])
