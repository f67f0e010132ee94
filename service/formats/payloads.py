"""Bodies of inference servers to rows: V1, V2, Seldon, MLflow, lists of row objects."""

from collections.abc import Collection
from typing import Any

from service.formats.seldon import is_seldon, read_seldon
from service.formats.tensors import is_pandas, is_tensors, read_tensors
from service.formats.trouble import PayloadError, Trouble
from service.formats.values import Row, as_columns, as_rows, count_rows

# What a plain list of outputs is called in the mapping of outputs.
UNNAMED = "predictions"
_INPUTS = "instances, inputs, dataframe_split, dataframe_records or data"
_OUTPUTS = "predictions, outputs or data"
_SPLIT = "columns and data in dataframe_split"


def read_inputs(payload: Any, known: Collection[str] = ()) -> list[Row]:
    """Return the rows of a request; ``known`` are the names of the schema's features."""
    if is_tensors(payload, "inputs"):
        return read_tensors(payload["inputs"], known, pandas=is_pandas(payload))
    if isinstance(payload, list):
        return as_rows(payload, "data")
    if not isinstance(payload, dict):
        raise _unknown(_INPUTS)
    if is_seldon(payload.get("data")):
        return read_seldon(payload["data"])
    if "dataframe_split" in payload:
        return _split(payload["dataframe_split"])
    for key in ("instances", "dataframe_records", "inputs", "data"):
        found = payload.get(key)
        if isinstance(found, dict):
            return _split(found) if {"columns", "data"} <= found.keys() else _columns(found, key)
        if found is not None:
            return as_rows(found, key)
    raise _unknown(_INPUTS)


def read_outputs(payload: Any) -> list[dict[str, Any]]:
    """Return the outputs of a response by name, one object for each row."""
    if is_tensors(payload, "outputs"):
        rows = read_tensors(payload["outputs"], (), pandas=True)
    elif isinstance(payload, list):
        rows = as_rows(payload, "data")
    elif isinstance(payload, dict):
        rows = _named_outputs(payload)
    else:
        raise _unknown(_OUTPUTS)
    return [row if isinstance(row, dict) else {UNNAMED: _single(row)} for row in rows]


def _named_outputs(payload: dict[str, Any]) -> list[Row]:
    if is_seldon(payload.get("data")):
        return read_seldon(payload["data"])
    lists = {
        key: found
        for key, found in payload.items()
        if isinstance(found, list) and key != "parameters"
    }
    # {"predictions": [1], "probabilities": [0.85]}: columns of one length beside each other.
    if len(lists) > 1 and "predictions" in lists and len({len(v) for v in lists.values()}) == 1:
        return as_columns(lists, "data")
    for key in ("predictions", "outputs", "data", "results"):
        found = payload.get(key)
        if isinstance(found, dict):
            return as_columns(found, key)
        if found is not None:
            return as_rows(found, key)
    raise _unknown(_OUTPUTS)


def _single(row: list[Any]) -> Any:
    return row[0] if len(row) == 1 else row


def _columns(found: dict[str, Any], key: str) -> list[Row]:
    """Read V1's column format; the columns may be [N, 1]."""
    flat: dict[str, Any] = {}
    for name, values in found.items():
        single = isinstance(values, list) and all(
            isinstance(each, list) and len(each) == 1 for each in values
        )
        flat[name] = [each[0] for each in values] if single else values
    return as_columns(flat, key)


def _split(found: Any) -> list[Row]:
    columns, data = (
        (found.get("columns"), found.get("data")) if isinstance(found, dict) else (None, None)
    )
    if not isinstance(columns, list) or not isinstance(data, list):
        raise _unknown(_SPLIT)
    if not all(isinstance(name, str) for name in columns) or len(set(columns)) != len(columns):
        message = "the names of the columns are different texts"
        raise PayloadError(Trouble.UNKNOWN_PAYLOAD, "columns", message)
    count_rows(len(data), "data")
    if not all(isinstance(row, list) and len(row) == len(columns) for row in data):
        message = "a row has not as many values as there are columns"
        raise PayloadError(Trouble.BAD_SHAPE, "data", message)
    return [dict(zip(columns, row, strict=True)) for row in data]


def _unknown(known: str) -> PayloadError:
    message = f"the payload is of no known protocol; it has none of {known}"
    return PayloadError(Trouble.UNKNOWN_PAYLOAD, "data", message)
