"""The V2 inference protocol (Open Inference Protocol) as JSON: named tensors to rows."""

import math
from collections.abc import Collection
from typing import Any

from service.formats.trouble import PayloadError, Trouble
from service.formats.values import MAX_NAME, Row, count_rows

_NUMBERS = frozenset(
    {
        *("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
        *("FP16", "FP32", "FP64", "BF16"),
    }
)
_MATRIX = 2
# Rows, columns, and two that may be 1.
_MOST_SIZES = 4
MAX_TENSORS = 400
MAX_ELEMENTS = 4_000_000

Tensor = dict[str, Any]


def is_tensors(payload: Any, key: str) -> bool:
    """Say whether a payload is of the V2 protocol: ``inputs`` or ``outputs`` of tensors."""
    found = payload.get(key) if isinstance(payload, dict) else None
    return isinstance(found, list) and bool(found) and all(map(_is_tensor, found))


def _is_tensor(found: Any) -> bool:
    return isinstance(found, dict) and {"name", "shape", "datatype"} <= found.keys()


def read_tensors(tensors: list[Tensor], known: Collection[str], *, pandas: bool) -> list[Row]:
    """Return the rows of a request's tensors.

    One tensor of shape [N, F] that is not called like a feature has a row's columns in the order
    of the schema.  Otherwise each tensor is the column that it is called.
    """
    if len(tensors) > MAX_TENSORS:
        message = f"a payload has at most {MAX_TENSORS} tensors"
        raise PayloadError(Trouble.BAD_TENSOR, None, message)
    if len(tensors) == 1 and not pandas and _name(tensors[0]) not in known:
        rows = _read(tensors[0])
        return [row if isinstance(row, list) else [row] for row in rows]
    columns = [(_name(tensor), _read(tensor)) for tensor in tensors]
    if len({name for name, _ in columns}) != len(columns):
        raise PayloadError(Trouble.BAD_TENSOR, "name", "two tensors have the same name")
    count = len(columns[0][1])
    if any(len(values) != count for _, values in columns):
        message = "the tensors have different numbers of rows"
        raise PayloadError(Trouble.BAD_SHAPE, "shape", message)
    return [{name: values[row] for name, values in columns} for row in range(count)]


def is_pandas(payload: Tensor) -> bool:
    """Say whether MLServer's codec of data frames is named: a tensor is a column then."""
    parameters = payload.get("parameters")
    return isinstance(parameters, dict) and parameters.get("content_type") == "pd"


def _name(tensor: Tensor) -> str:
    name = tensor["name"]
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise PayloadError(Trouble.BAD_TENSOR, "name", "a tensor's name is a short text")
    return name


def _read(tensor: Tensor) -> list[Any]:
    """Return a value, or a list of values, for each row."""
    shape = _shape(tensor["shape"])
    data = tensor.get("data")
    parameters = tensor.get("parameters")
    if data is None or (isinstance(parameters, dict) and "binary_data_size" in parameters):
        message = "the binary tensor extension cannot be read; have it logged as JSON"
        raise PayloadError(Trouble.BINARY_PAYLOAD, "data", message)
    values = _flat(data)
    if len(values) != math.prod(shape):
        message = "the product of a tensor's shape is not the number of its values"
        raise PayloadError(Trouble.BAD_SHAPE, "shape", message)
    _check(values, tensor["datatype"])
    count = count_rows(shape[0], "shape")
    width = len(values) // count
    # [N] and [N, 1] are columns, [N, D] has a vector for each row.
    if len(shape) == 1 or (len(shape) == _MATRIX and width == 1):
        return values
    return [values[row * width : (row + 1) * width] for row in range(count)]


def _shape(shape: Any) -> list[int]:
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= _MOST_SIZES
        or not all(type(size) is int and 0 <= size <= MAX_ELEMENTS for size in shape)
    ):
        message = "a tensor's shape is a list of one to four sizes"
        raise PayloadError(Trouble.BAD_SHAPE, "shape", message)
    if sum(size != 1 for size in shape[1:]) > 1:
        message = "a tensor of rows has one dimension beside that of its rows"
        raise PayloadError(Trouble.BAD_SHAPE, "shape", message)
    return shape if len(shape) <= _MATRIX else [shape[0], math.prod(shape[1:])]


def _flat(data: Any) -> list[Any]:
    """Return the values of nested lists; the depth of the payload is bounded already."""
    if not isinstance(data, list):
        raise PayloadError(Trouble.BAD_TENSOR, "data", "a tensor's data is a list")
    values: list[Any] = data
    while any(isinstance(each, list) for each in values):
        if not all(isinstance(each, list) for each in values):
            message = "a tensor's data is nested unevenly"
            raise PayloadError(Trouble.BAD_TENSOR, "data", message)
        values = [value for each in values for value in each]
    return values


def _check(values: list[Any], datatype: Any) -> None:
    allowed: tuple[type, ...]
    if isinstance(datatype, str) and datatype in _NUMBERS:
        allowed = (int, float, type(None))
    elif datatype == "BOOL":
        allowed = (bool, int, type(None))
    elif datatype == "BYTES":
        allowed = (str, type(None))
    else:
        raise PayloadError(Trouble.BAD_TENSOR, "datatype", "the datatype is none of the protocol")
    found = set(map(type, values))
    if not found.issubset(allowed):
        message = "a tensor's values are not of its datatype"
        raise PayloadError(Trouble.BAD_TENSOR, "data", message)
