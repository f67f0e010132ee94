"""JSON of strangers, with a bound on its depth; and the rows that a payload comes to."""

from typing import Any

import msgspec

from service.formats.trouble import PayloadError, Trouble

MAX_DEPTH = 12
MAX_ROWS = 5_000
# Names of columns are compared with a schema's; longer ones are nobody's.
MAX_NAME = 200

Named = dict[str, Any]
"""A row whose columns have names."""
Positional = list[Any]
"""A row whose columns are those of a schema, in its order."""
Row = Named | Positional

_decode = msgspec.json.Decoder().decode


def load(content: bytes, field: str) -> Any:
    """Decode JSON in strict UTF-8; of equal keys the last wins, as everywhere."""
    try:
        value = _decode(content)
    except RecursionError:
        raise too_deep(field) from None
    except ValueError:
        message = "the payload is not valid JSON in UTF-8"
        raise PayloadError(Trouble.MALFORMED_PAYLOAD, field, message) from None
    check_depth(value, field)
    return value


def too_deep(field: str) -> PayloadError:
    """Return the verdict on a payload that nests too much."""
    return PayloadError(Trouble.TOO_DEEP, field, f"the payload nests deeper than {MAX_DEPTH}")


def check_depth(value: Any, field: str) -> None:
    """Raise if objects and arrays nest too deeply; walked level by level, without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below.extend(v for v in each.values() if isinstance(v, dict | list))
            elif isinstance(each, list):
                below.extend(v for v in each if isinstance(v, dict | list))
        if not below:
            return
        level = below
    raise too_deep(field)


def count_rows(count: int, field: str) -> int:
    """Return how many rows a payload has, if that is a number of rows that it may have."""
    if count == 0:
        raise PayloadError(Trouble.NO_DATA, field, "the payload has no rows")
    if count > MAX_ROWS:
        message = f"a payload has at most {MAX_ROWS} rows"
        raise PayloadError(Trouble.TOO_MANY_ROWS, field, message)
    return count


def as_rows(found: Any, field: str) -> list[Row]:
    """Return a list of objects, of arrays or of plain values as rows.

    A plain value is a row of one column.  An object whose one key is ``features`` is what
    built-in algorithms of SageMaker are sent.
    """
    if not isinstance(found, list):
        raise PayloadError(Trouble.UNKNOWN_PAYLOAD, field, "the payload has no list of rows")
    count_rows(len(found), field)
    return [_row(each) for each in found]


def _row(each: Any) -> Row:
    if isinstance(each, dict):
        inner = each.get("features")
        if len(each) == 1 and isinstance(inner, list | dict):
            return inner
        return each
    return each if isinstance(each, list) else [each]


def as_columns(columns: Named, field: str) -> list[Row]:
    """Return rows of columns that are lists of one length."""
    if not columns:
        raise PayloadError(Trouble.NO_DATA, field, "the payload has no columns")
    lengths = {len(each) if isinstance(each, list) else -1 for each in columns.values()}
    if len(lengths) != 1 or -1 in lengths:
        message = "the columns are not lists of one length"
        raise PayloadError(Trouble.BAD_SHAPE, field, message)
    count_rows(lengths.pop(), field)
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
