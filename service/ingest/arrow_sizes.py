"""How much an Arrow stream says it holds, read before Arrow reads it.

Only lengths are looked at, with bounds that Python checks: a compressed buffer begins with its
size once inflated, so that a bomb is known by its label.  The layout is that of Message.fbs and
Schema.fbs: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

import struct
from dataclasses import dataclass

MOST_MESSAGES = 1_024
_MARK = 0xFFFFFFFF
_VERSION_5 = 4
_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3
_NOT_COMPRESSED = -1

_int16 = struct.Struct("<h")
_uint16 = struct.Struct("<H")
_int32 = struct.Struct("<i")
_uint32 = struct.Struct("<I")
_int64 = struct.Struct("<q")
_pair = struct.Struct("<qq")
_frame = struct.Struct("<Ii")


class MalformedStreamError(Exception):
    """The bytes are no Arrow stream of today's format."""


@dataclass(slots=True)
class Sizes:
    """What the messages of a stream add up to."""

    rows: int = 0
    inflated: int = 0
    messages: int = 0


def read_sizes(body: bytes) -> Sizes:
    """Add up a stream's messages."""
    sizes = Sizes()
    try:
        _walk(body, sizes)
    except (struct.error, IndexError):
        raise MalformedStreamError from None
    return sizes


def _walk(body: bytes, sizes: Sizes) -> None:
    at, size = 0, len(body)
    while at < size:
        mark, length = _frame.unpack_from(body, at)
        at += _frame.size
        _hold(mark == _MARK and length >= 0)
        if length == 0:
            _hold(at == size)
            return
        _hold(at + length <= size)
        message = _Table.root(body, at)
        at += length
        inside = message.int64(3)
        _hold(0 <= inside <= size - at)
        _add(sizes, message, body, at, at + inside)
        at += inside
        sizes.messages += 1
        _hold(sizes.messages <= MOST_MESSAGES)


def _add(sizes: Sizes, message: "_Table", body: bytes, start: int, end: int) -> None:
    # Older versions can say elsewhere that they are compressed.
    _hold(message.int16(0) == _VERSION_5)
    kind = message.uint8(1)
    first = sizes.messages == 0
    _hold(kind == _SCHEMA if first else kind in {_DICTIONARY, _RECORDS})
    if first:
        return
    header = message.needed_table(2)
    batch = header if kind == _RECORDS else header.needed_table(1)
    rows = batch.int64(0)
    _hold(rows >= 0)
    if kind == _RECORDS:
        sizes.rows += rows
    compressed = batch.table(3) is not None
    for offset, length in batch.pairs(2):
        _hold(offset >= 0 and length >= 0 and start + offset + length <= end)
        sizes.inflated += _inflated(body, start + offset, length) if compressed else length


def _inflated(body: bytes, at: int, length: int) -> int:
    if length == 0:
        return 0
    _hold(length >= _int64.size)
    declared: int = _int64.unpack_from(body, at)[0]
    _hold(declared >= _NOT_COMPRESSED)
    return length if declared == _NOT_COMPRESSED else declared


def _hold(truth: bool) -> None:  # noqa: FBT001  the one thing that is asked
    if not truth:
        raise MalformedStreamError


class _Table:
    """A flatbuffer's table: which field is where stands in a table of its own."""

    def __init__(self, body: bytes, at: int) -> None:
        _hold(at >= 0)
        self._body = body
        self._at = at
        self._fields = at - _int32.unpack_from(body, at)[0]
        _hold(self._fields >= 0)
        self._count = (_uint16.unpack_from(body, self._fields)[0] - 4) // 2

    @classmethod
    def root(cls, body: bytes, at: int) -> "_Table":
        return cls(body, at + _uint32.unpack_from(body, at)[0])

    def _place(self, field: int) -> int:
        """Return where a field's value is; 0 says that it is left out."""
        if field >= self._count:
            return 0
        offset: int = _uint16.unpack_from(self._body, self._fields + 4 + 2 * field)[0]
        return self._at + offset if offset else 0

    def _number(self, field: int, kind: struct.Struct) -> int:
        at = self._place(field)
        number: int = kind.unpack_from(self._body, at)[0] if at else 0
        return number

    def uint8(self, field: int) -> int:
        at = self._place(field)
        return self._body[at] if at else 0

    def int16(self, field: int) -> int:
        return self._number(field, _int16)

    def int64(self, field: int) -> int:
        return self._number(field, _int64)

    def table(self, field: int) -> "_Table | None":
        at = self._place(field)
        return _Table(self._body, at + _uint32.unpack_from(self._body, at)[0]) if at else None

    def needed_table(self, field: int) -> "_Table":
        found = self.table(field)
        if found is None:
            raise MalformedStreamError
        return found

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """Return a vector of structs of two int64."""
        at = self._place(field)
        if not at:
            return []
        start = at + _uint32.unpack_from(self._body, at)[0]
        count = _uint32.unpack_from(self._body, start)[0]
        start += _uint32.size
        end = start + count * _pair.size
        _hold(end <= len(self._body))
        return list(_pair.iter_unpack(memoryview(self._body)[start:end]))
