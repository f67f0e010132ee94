"""Rows of a request to features by their names, fitted to the kinds of a schema."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from service.formats.trouble import PayloadError, Trouble
from service.formats.values import Row
from service.registry.classes import class_text

_WORDS = {"true": True, "false": False, "1": True, "0": False}
# So many fit 64 bits, whatever they are.
_SURE_DIGITS = 18
# More than any version has, what it drops included.
MAX_COLUMNS = 1_000

Kinds = Mapping[str, str]
"""The kinds of a schema's features by name, in the schema's order."""


def name_features(rows: Sequence[Row], kinds: Kinds, *, texts: bool = False) -> list[Any]:
    """Return the features of each row.

    Columns without names are those of the schema in its order.  Where a column's kind is known,
    a value is changed as far as nothing is lost: 1.0 in a boolean column is true, 3.0 in a
    categorical one is "3"; and of ``texts``, as CSV has them, "1.5" in a numeric one is 1.5.
    """
    return [_fitted(_named(row, kinds), kinds, texts=texts) for row in rows]


def _named(row: Row, kinds: Kinds) -> dict[str, Any]:
    if isinstance(row, dict):
        if len(row) > MAX_COLUMNS:
            message = f"a row has more than {MAX_COLUMNS} columns"
            raise PayloadError(Trouble.COLUMN_COUNT, "features", message)
        return row
    if not kinds:
        message = "the columns have no names, and the version has no features to name them by"
        raise PayloadError(Trouble.NO_SCHEMA, "features", message)
    if len(row) != len(kinds):
        message = (
            f"a row has not as many columns as the version has features, which are {len(kinds)}"
        )
        raise PayloadError(Trouble.COLUMN_COUNT, "features", message)
    return dict(zip(kinds, row, strict=True))


def _fitted(row: dict[str, Any], kinds: Kinds, *, texts: bool) -> dict[str, Any]:
    if texts:
        return {name: _parsed(value, kinds.get(name)) for name, value in row.items()}
    return {name: _fit(value, kinds.get(name)) for name, value in row.items()}


def _fit(value: Any, kind: str | None) -> Any:
    if kind == "boolean" and type(value) in {int, float} and value in (0, 1):
        return bool(value)
    if kind in {"categorical", "text"} and isinstance(value, int | float):
        return _text(value)
    return value


def _text(value: float) -> Any:
    try:
        return class_text(value, ("true", "false"))
    except ValueError:
        # An integer of so many digits that Python does not write it.
        return value


def _parsed(value: Any, kind: str | None) -> Any:
    if not isinstance(value, str):
        return value
    if value == "":
        return None
    if kind in {"categorical", "text", "datetime"}:
        return value
    if kind == "boolean":
        return _WORDS.get(value.strip().lower(), value)
    return guess(value)


def guess(value: str) -> Any:
    """Return what a cell of CSV says: an integer, a number, or itself."""
    text = value.strip()
    try:
        whole = text.lstrip("+-").isdecimal() and len(text) <= _SURE_DIGITS
        return int(text) if whole else _finite(text)
    except ValueError:
        return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or "_" in text:
        raise ValueError
    return number
