"""Arrays as bytes, and back, without losing a bit.

A frame is ``b"MWP"``, a version byte, a kind byte, and a zlib stream of: the length of a JSON head,
the head, and the arrays that it describes.  Unpickling data from a database would run it as code.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"MWP"
VERSION = 1
HEADER_BYTES = len(MAGIC) + 2
# One array in three non-zero is where positions plus values stop being smaller.
SPARSE_SHARE = 1 / 3
LARGEST_EXACT = 2.0**53

Array = NDArray[Any]


def pack(kind: bytes, head: Mapping[str, Any], arrays: Sequence[Array]) -> bytes:
    """Pack a JSON head and one-dimensional arrays of int64 or float64 into a frame."""
    described: list[list[Any]] = []
    parts: list[bytes] = []
    for array in arrays:
        description, data = _encode(np.ascontiguousarray(array))
        described.append(description)
        parts += data
    text = json.dumps({**head, "arrays": described}, separators=(",", ":")).encode()
    payload = b"".join([len(text).to_bytes(4, "little"), text, *parts])
    return MAGIC + bytes([VERSION]) + kind + zlib.compress(payload, 1)


def unpack(kind: bytes, data: bytes) -> tuple[dict[str, Any], list[Array]]:
    """Undo ``pack``.

    Raises
    ------
    ValueError
        If the bytes are no frame of this kind and version.
    """
    if data[:HEADER_BYTES] != MAGIC + bytes([VERSION]) + kind:
        message = f"not a version {VERSION} frame of kind {kind.decode()}"
        raise ValueError(message)
    try:
        payload = memoryview(zlib.decompress(data[HEADER_BYTES:]))
    except zlib.error as error:
        message = "a damaged frame"
        raise ValueError(message) from error
    start = 4 + int.from_bytes(payload[:4], "little")
    head = json.loads(bytes(payload[4:start]))
    arrays = []
    for description in head.pop("arrays"):
        array, start = _decode(payload, start, description)
        arrays.append(array)
    return head, arrays


def _encode(array: Array) -> tuple[list[Any], list[bytes]]:
    kind = array.dtype.kind
    stored = _shrink(array)
    nonzero = np.flatnonzero(stored) if stored.dtype.kind == "u" else np.arange(len(stored))
    if len(nonzero) > len(stored) * SPARSE_SHARE:
        return [kind, stored.dtype.str, len(array), -1], [stored.tobytes()]
    where = nonzero.astype("<u4")
    return [kind, stored.dtype.str, len(array), len(where)], [
        where.tobytes(),
        stored[nonzero].tobytes(),
    ]


def _shrink(array: Array) -> Array:
    """Return the values in the smallest unsigned type that holds them exactly, if any does."""
    if not len(array):
        return array
    if array.dtype.kind == "f":
        # Weights of 1 are the rule: their sums are counts.  A negative zero would lose its sign.
        whole = np.isfinite(array) & (np.abs(array) < LARGEST_EXACT) & (array == np.floor(array))
        if not whole.all() or np.signbit(array).any():
            return array.astype("<f8", copy=False)
    if array.min() < 0:
        return array.astype("<i8", copy=False)
    return array.astype(np.min_scalar_type(int(array.max())).newbyteorder("<"))


def _decode(payload: memoryview, start: int, description: Sequence[Any]) -> tuple[Array, int]:
    kind, stored, length, nonzero = description
    dtype = np.dtype(stored)
    target = np.float64 if kind == "f" else np.int64
    if nonzero < 0:
        values = np.frombuffer(payload, dtype, length, start)
        return values.astype(target), start + length * dtype.itemsize
    array = np.zeros(length, target)
    where = np.frombuffer(payload, "<u4", nonzero, start)
    start += 4 * nonzero
    array[where] = np.frombuffer(payload, dtype, nonzero, start)
    return array, start + nonzero * dtype.itemsize
