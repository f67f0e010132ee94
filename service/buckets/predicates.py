"""A slice's predicate on Arrow columns.

Null is unknown, as in SQL, and so is what cannot be compared; a row is in a slice if the predicate
is true.  No value of a row can make it fail.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.profiles.arrays import find_array, to_floats, to_text
from service.registry.predicates import (
    Both,
    Comparison,
    Either,
    IsNull,
    Not,
    OneOf,
    Predicate,
    Value,
)

_OPERATORS: dict[str, Callable[[pa.Array, pa.Scalar], pa.Array]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def rows_where(rows: pa.Table, predicate: Predicate) -> NDArray[np.bool_]:
    """Return for each row whether the predicate is true; a column that is not there is null."""
    found: NDArray[np.bool_] = (
        pc.fill_null(_evaluate(rows, predicate), fill_value=False)
        .to_numpy(zero_copy_only=False)
        .astype(np.bool_)
    )
    return found


def _evaluate(rows: pa.Table, predicate: Predicate) -> pa.Array:
    if isinstance(predicate, Not):
        return pc.invert(_evaluate(rows, predicate.part))
    if isinstance(predicate, (Both, Either)):
        join = pc.and_kleene if isinstance(predicate, Both) else pc.or_kleene
        return reduce(join, (_evaluate(rows, part) for part in predicate.parts))
    array = find_array(rows, predicate.column)
    if array is None:
        array = pa.nulls(rows.num_rows, pa.string())
    if pa.types.is_null(array.type):
        array = array.cast(pa.string())
    if isinstance(predicate, IsNull):
        return pc.is_null(array, nan_is_null=True)
    if isinstance(predicate, OneOf):
        return _one_of(array, predicate.values)
    return _test(array, predicate)


def _test(array: pa.Array, test: Comparison) -> pa.Array:
    return _compare(array, test.operator, test.value)


def _compare(array: pa.Array, operator: str, value: Value) -> pa.Array:
    """Compare as numbers where either side is one, else as texts; booleans are 0 and 1."""
    if pa.types.is_timestamp(array.type):
        return _compare_times(array, operator, value)
    if pa.types.is_nested(array.type):
        return pa.nulls(len(array), pa.bool_())
    given = _value_for(array, value)
    if given is None:
        return pa.nulls(len(array), pa.bool_())
    if isinstance(given, str):
        return _OPERATORS[operator](to_text(array), pa.scalar(given, array.type))
    return _OPERATORS[operator](_numbers(array), pa.scalar(given))


def _one_of(array: pa.Array, values: Sequence[Value]) -> pa.Array:
    """Say which are equal to one of the values; a thousand of them are one look-up."""
    if pa.types.is_timestamp(array.type) or pa.types.is_nested(array.type):
        return reduce(pc.or_kleene, (_compare(array, "=", value) for value in values))
    given = {_value_for(array, value) for value in values}
    texts = [value for value in given if isinstance(value, str)]
    numbers = [value + 0.0 for value in given if isinstance(value, float)]
    found = [pa.nulls(len(array), pa.bool_())] if None in given else []
    if texts:
        found.append(_is_in(to_text(array), pa.array(texts, array.type)))
    if numbers:
        found.append(_is_in(pc.add(_numbers(array), 0.0), pa.array(numbers)))
    return reduce(pc.or_kleene, found)


def _is_in(array: pa.Array, values: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_valid(array), pc.is_in(array, value_set=values), None)


def _value_for(array: pa.Array, value: Value) -> str | float | None:
    """Return the text or the number that the column is compared with, if it can be."""
    if _is_text(array):
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str):
            return value
    return _number(value, boolean=pa.types.is_boolean(array.type))


def _is_text(array: pa.Array) -> bool:
    return any(is_kind(array.type) for is_kind in (pa.types.is_string, pa.types.is_large_string))


def _numbers(array: pa.Array) -> pa.Array:
    numbers = _numbers_of_texts(array) if _is_text(array) else to_floats(array)
    return pa.array(numbers, pa.float64(), mask=~np.isfinite(numbers))


def _compare_times(array: pa.Array, operator: str, value: Value) -> pa.Array:
    """Compare with a time as text; one without a zone is in UTC."""
    kind = pa.timestamp("us", "UTC")
    text = pa.array([str(value)])
    try:
        times = text.cast(kind)
    except pa.ArrowInvalid:
        try:
            times = text.cast(pa.timestamp("us")).cast(kind)
        except pa.ArrowInvalid:
            return pa.nulls(len(array), pa.bool_())
    return _OPERATORS[operator](array.cast(kind, safe=False), times[0])


def _number(value: Value, *, boolean: bool) -> float | None:
    if boolean and value in {"true", "false"}:
        return float(value == "true")
    try:
        return float(value)
    except ValueError:
        return None


def _numbers_of_texts(array: pa.Array) -> NDArray[np.float64]:
    encoded = to_text(array).dictionary_encode()
    names = (_number(name, boolean=False) for name in encoded.dictionary.to_pylist())
    numbers = np.array([np.nan if n is None else n for n in names] + [np.nan])
    codes = pc.fill_null(encoded.indices, len(numbers) - 1).to_numpy()
    found: NDArray[np.float64] = numbers[codes]
    return found
