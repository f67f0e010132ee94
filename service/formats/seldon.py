"""The protocol of Seldon Core 1: ``data`` with an ``ndarray`` or a ``tensor``, and names."""

import math
import re
from typing import Any

from service.formats.trouble import PayloadError, Trouble
from service.formats.values import Row, as_rows, count_rows

_MATRIX = 2
# What servers call outputs that nobody has named.
_PLACE = re.compile(r"t:\d+")


def is_seldon(data: Any) -> bool:
    """Say whether the ``data`` of a message is of that protocol."""
    return isinstance(data, dict) and bool(data.keys() & {"ndarray", "tensor"})


def read_seldon(data: dict[str, Any]) -> list[Row]:
    """Return its rows; names that are only places are none."""
    rows = _tensor(data["tensor"]) if "tensor" in data else as_rows(data["ndarray"], "ndarray")
    names = data.get("names") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PayloadError(Trouble.UNKNOWN_PAYLOAD, "names", "the names are a list of texts")
    if not names or all(map(_PLACE.fullmatch, names)):
        return rows
    if len(set(names)) != len(names) or any(
        isinstance(row, dict) or len(row) != len(names) for row in rows
    ):
        message = "the names are not as many, or as different, as the columns"
        raise PayloadError(Trouble.BAD_SHAPE, "names", message)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _tensor(tensor: Any) -> list[Row]:
    shape, values = (
        (tensor.get("shape"), tensor.get("values")) if isinstance(tensor, dict) else (None, None)
    )
    if (
        not isinstance(shape, list)
        or not isinstance(values, list)
        or not 1 <= len(shape) <= _MATRIX
        or not all(type(size) is int and size >= 0 for size in shape)
        or math.prod(shape) != len(values)
    ):
        message = "the product of a tensor's shape is not the number of its values"
        raise PayloadError(Trouble.BAD_SHAPE, "tensor", message)
    count = count_rows(shape[0], "tensor")
    width = len(values) // count
    return [values[row * width : (row + 1) * width] for row in range(count)]
