"""One column of a reference as its kind is stored; every bad value is located."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.errors import InvalidDocumentError
from service.ingest.limits import MAX_TEXT_BYTES
from service.registry.classes import class_text
from service.registry.documents import printable
from service.registry.schemas import LONGEST_VECTOR

TIME = pa.timestamp("us", tz="UTC")
FIRST_TIME = datetime(1, 1, 1, tzinfo=UTC)
LAST_TIME = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
# What ingest stores in a vector.
LARGEST_REAL = float(np.finfo(np.float32).max)


class BadColumnError(InvalidDocumentError):
    """A column of a reference holds something that it must not."""

    code = "bad-column"
    title = "Bad column"

    def __init__(self, column: str, detail: str, row: int | None = None) -> None:
        name = printable(column)
        where = "" if row is None else f" (first in row {row})"
        rejected: dict[str, object] = {"field": name, "code": self.code, "detail": detail}
        if row is not None:
            rejected["index"] = row
        super().__init__(f"column {name!r}: {detail}{where}", rejected=[rejected])


def infer_kind(name: str, array: pa.Array) -> str:
    """Infer a feature's kind from its type; a column of 0 and 1 is numeric unless declared."""
    kind = array.type
    if pa.types.is_null(kind) or is_number(kind):
        return "numeric"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "datetime"
    if _is_vector(kind) and is_number(kind.value_type):
        return "embedding"
    if is_text(kind):
        return "categorical"
    raise BadColumnError(name, f"{kind} is no type of a feature; ignore it")


def to_kind(name: str, array: pa.Array, kind: str) -> pa.Array:
    """Return a column as its kind is stored: numbers, booleans, text, times or vectors."""
    if kind == "numeric":
        numbers = _cast(name, array, pa.float64(), "is no number")
        return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))
    if kind == "boolean":
        if is_number(array.type):
            array = to_kind(name, array, "numeric")
            fits = pc.or_(pc.equal(array, 0), pc.equal(array, 1))
            require(name, array, fits, "is no boolean")
        return _cast(name, array, pa.bool_(), "is no boolean")
    if kind == "datetime":
        return _to_moments(name, array)
    if kind == "embedding":
        return _to_vectors(name, array)
    text = to_text(name, array)
    fits = pc.less_equal(pc.binary_length(text), MAX_TEXT_BYTES)
    require(name, text, fits, f"has more than {MAX_TEXT_BYTES} bytes")
    if kind == "text":
        bad = pc.match_substring_regex(text, r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
        require(name, text, pc.invert(bad), "has a control character")
        return text
    bad = pc.match_substring_regex(text, r"[\x00-\x1f\x7f]")
    require(name, text, pc.invert(bad), "has a control character; declare a text as text")
    return text


def _to_moments(name: str, array: pa.Array) -> pa.Array:
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), TIME)
    times = to_times(name, array)
    fits = pc.and_(
        pc.greater_equal(times, pa.scalar(FIRST_TIME, TIME)),
        pc.less_equal(times, pa.scalar(LAST_TIME, TIME)),
    )
    require(name, times, fits, "is outside of the years 1 to 9999")
    return times


def _to_vectors(name: str, array: pa.Array) -> pa.Array:
    """Return lists of numbers as vectors of one length; one that is not all finite is missing."""
    kind = pa.list_(pa.float32())
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), kind)
    if not (_is_vector(array.type) and is_number(array.type.value_type)):
        raise BadColumnError(name, f"{array.type} is no vector of numbers")
    lengths = pc.list_value_length(array)
    length = next((size.as_py() for size in pc.unique(lengths.drop_null()).slice(0, 1)), 0)
    require(name, array, pc.equal(lengths, length), f"is no vector of {length} numbers")
    if length > LONGEST_VECTOR:
        raise BadColumnError(name, f"a vector has at most {LONGEST_VECTOR} numbers")
    there = array.is_valid().to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(array).cast(pa.float64()).to_numpy(zero_copy_only=False)
    vectors = flat.reshape(int(there.sum()), length)
    whole = (
        (np.abs(vectors) <= LARGEST_REAL).all(axis=1) if length else np.zeros(len(vectors), bool)
    )
    there[there] = whole
    offsets = np.append(0, np.cumsum(there) * length).astype(np.int32)
    values = pa.array(vectors[whole].ravel().astype(np.float32))
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~there))


def vector_length(array: pa.Array) -> int | None:
    """Return how many numbers the vectors of a column have, ``None`` if there is none."""
    first = pc.index(array.is_valid(), value=True).as_py()
    return None if first < 0 else len(array[first])


def to_text(name: str, array: pa.Array) -> pa.Array:
    """Return a column as text; ``1.0`` reads ``1``, and a boolean is a word."""
    if is_text(array.type):
        return array.cast(pa.string())
    return by_value(name, array, lambda value: class_text(value, ("true", "false")))


def to_times(name: str, array: pa.Array) -> pa.Array:
    """Return a column as times; one without a zone is in UTC."""
    if is_text(array.type):
        try:
            return array.cast(TIME)
        except pa.ArrowInvalid:
            return _cast(name, array, pa.timestamp("us"), "is no time").cast(TIME)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        naive = array.cast(pa.timestamp("us", tz=getattr(array.type, "tz", None)), safe=False)
        return naive.cast(TIME)
    raise BadColumnError(name, "is neither a time nor ISO 8601 text")


def first_bad(array: pa.Array, fits: Callable[[pa.Array], bool]) -> int:
    """Return the index of the first value that does not fit; one of them must not."""
    low, high = 0, len(array)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(array.slice(low, middle - low)):
            low = middle
        else:
            high = middle
    return low


def _cast(name: str, array: pa.Array, kind: pa.DataType, detail: str) -> pa.Array:
    def fits(part: pa.Array) -> bool:
        try:
            part.cast(kind, safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return False
        return True

    try:
        return array.cast(kind, safe=False)
    except pa.ArrowNotImplementedError:
        raise BadColumnError(name, f"{array.type} {detail}") from None
    except pa.ArrowInvalid:
        raise BadColumnError(name, f"a value {detail}", first_bad(array, fits)) from None


def require(name: str, array: pa.Array, fits: pa.Array, detail: str) -> None:
    """Refuse the column unless every value fits; null is for missing, and always does."""
    bad = pc.and_(pc.is_valid(array), pc.invert(pc.fill_null(fits, fill_value=False)))
    row = pc.index(bad, value=True).as_py()
    if row >= 0:
        raise BadColumnError(name, f"a value {detail}", row)


def by_value(name: str, array: pa.Array, text: Callable[[object], str | None]) -> pa.Array:
    """Return numbers or booleans as text, each distinct value being written once."""
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.string())
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.float64())
    if not (is_number(array.type) or pa.types.is_boolean(array.type)):
        raise BadColumnError(name, f"{array.type} is no type of a category; ignore it")
    encoded = array.dictionary_encode()
    texts = pa.array([text(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return texts.take(encoded.indices)


def is_number(kind: pa.DataType) -> bool:
    """Say whether a column holds numbers."""
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(is_kind(kind) for is_kind in kinds)


def _is_vector(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(kind) for is_kind in kinds)


def is_text(kind: pa.DataType) -> bool:
    """Say whether a column holds text."""
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(kind) for is_kind in kinds)
