"""Copies of what a host logs, and about how many bytes they hold."""

from __future__ import annotations

from typing import Any

RECORD_BYTES = 600
VALUE_BYTES = 96
"""Of a dictionary's entry with a number in it; measured, and rounded up."""
ITEM_BYTES = 32
OTHER_BYTES = 256
NUMPY_SCALARS = ("bool", "float", "int", "uint")

# Grows by the scalars of numpy that a host uses: those few types, and then no more.
PLAIN: set[type] = {float, int, bool, type(None)}


def weigh(values: dict[str, Any]) -> int:
    """Return the size of a dictionary; containers in it are replaced by copies."""
    size = VALUE_BYTES * len(values)
    if PLAIN.issuperset(map(type, values.values())):
        return size
    for name, value in values.items():
        kind = type(value)
        if kind is str:
            size += len(value)
        elif kind not in PLAIN:
            values[name], more = held(value)
            size += more
    return size


def held(value: Any) -> tuple[Any, int]:  # noqa: PLR0911 - one for each kind of value
    """Return a value as it is now, and its size: a host may go on to change a container."""
    kind = type(value)
    if kind in PLAIN:
        return value, ITEM_BYTES
    if isinstance(value, (str, bytes)):
        return value, ITEM_BYTES + len(value)
    if isinstance(value, dict):
        copied = dict(value)
        return copied, weigh(copied)
    if isinstance(value, (list, tuple)):
        return _listed(value)
    size = getattr(value, "nbytes", None)
    if not isinstance(size, int):
        return value, OTHER_BYTES
    if kind.__module__ == "numpy" and kind.__name__.startswith(NUMPY_SCALARS):
        PLAIN.add(kind)
        return value, ITEM_BYTES
    copy = getattr(value, "copy", None)
    return (copy() if callable(copy) else value), OTHER_BYTES + size


def _listed(values: list[Any] | tuple[Any, ...]) -> tuple[list[Any], int]:
    if PLAIN.issuperset(map(type, values)):
        return list(values), ITEM_BYTES * len(values)
    items = [held(value) for value in values]
    return [value for value, _ in items], sum(size for _, size in items)
