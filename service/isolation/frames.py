"""Messages to an isolated process and back: eight bytes of length, then the content."""

import os
import struct

_LENGTH = struct.Struct(">Q")


def write_frame(descriptor: int, content: bytes) -> None:
    """Write a whole message; ``BrokenPipeError`` if nobody reads."""
    for piece in (_LENGTH.pack(len(content)), content):
        view = memoryview(piece)
        while view:
            view = view[os.write(descriptor, view) :]


def read_frame(descriptor: int) -> bytes | None:
    """Read a whole message; ``None`` if the other side has gone."""
    head = _read(descriptor, _LENGTH.size)
    return None if head is None else _read(descriptor, _LENGTH.unpack(head)[0])


def _read(descriptor: int, size: int) -> bytes | None:
    content = bytearray()
    while len(content) < size:
        piece = os.read(descriptor, min(size - len(content), 1 << 20))
        if not piece:
            return None
        content += piece
    return bytes(content)
