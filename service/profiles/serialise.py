"""Profiles and edges as bytes, and back, without losing a bit.

A frame is ``b"MWP"``, a version byte, a kind byte, and a zlib stream of: the length of a JSON head,
the head, and the arrays that it describes.  Unpickling data from a database would run it as code.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.profiles.binning import Binning, CategoricalBins, Floats, NumericBins
from service.profiles.columns import Classes, ManyClasses, Output, Quantity
from service.profiles.profile import (
    ColumnProfile,
    FeatureProfile,
    MulticlassProfile,
    Performance,
    PerformanceProfile,
    RegressionProfile,
)

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


def _optional(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _restore(value: float) -> float | None:
    return None if np.isnan(value) else value


def binning_to_bytes(binning: Binning) -> bytes:
    """Serialise the edges of a model."""
    arrays: list[Array] = [binning.score_edges]
    head: dict[str, Any] = {
        "output": _OUTPUTS[type(binning.output)],
        "classes": [] if isinstance(binning.output, Quantity) else list(binning.output.names),
        "columns": [],
        "scored": binning.score_bins is not None,
    }
    for name, bins in binning.columns.items():
        if isinstance(bins, CategoricalBins):
            rare = [bins.singletons, bins.doubletons]
            head["columns"].append([name, list(bins.categories), sorted(bins.rest), *rare])
        else:
            head["columns"].append([name])
            arrays += _numeric_arrays(bins)
    if binning.score_bins is not None:
        arrays += _numeric_arrays(binning.score_bins)
    return pack(b"B", head, arrays)


def binning_from_bytes(data: bytes) -> Binning:
    """Read the edges of a model; ``ValueError`` if the bytes are something else."""
    head, arrays = unpack(b"B", data)
    rest = iter(arrays)
    edges = next(rest)
    columns: dict[str, NumericBins | CategoricalBins] = {}
    for name, *categories in head["columns"]:
        if categories:
            top, others, *rare = categories
            columns[name] = CategoricalBins(tuple(top), frozenset(others), *rare)
        else:
            columns[name] = NumericBins(next(rest), next(rest), *map(_restore, next(rest).tolist()))
    score_bins = (
        NumericBins(next(rest), next(rest), *map(_restore, next(rest).tolist()))
        if head["scored"]
        else None
    )
    return Binning(columns, _output(head), edges, score_bins)


_OUTPUTS: Mapping[type, str] = {
    Classes: "binary",
    ManyClasses: "multiclass",
    Quantity: "regression",
}


def _output(head: Mapping[str, Any]) -> Output:
    # The first release wrote no output: its models were all binary.
    kind = head.get("output", "binary")
    if kind == "regression":
        return Quantity()
    names = head["classes"]
    return ManyClasses(tuple(names)) if kind == "multiclass" else Classes(*names)


def _numeric_arrays(bins: NumericBins) -> list[Array]:
    return [bins.edges, bins.atoms, _optional((bins.minimum, bins.maximum))]


def features_to_bytes(profile: FeatureProfile) -> bytes:
    """Serialise a feature profile; all columns' bins share one array of each sort."""
    columns = list(profile.columns.values())
    head = {
        "rows": profile.rows,
        "names": list(profile.columns),
        "sizes": [len(column.counts) for column in columns],
        "unseen": [list(column.unseen.items()) for column in columns],
    }
    bins = [
        np.concatenate([empty, *(getattr(column, field) for column in columns)])
        for field, empty in (
            ("counts", np.empty(0, np.int64)),
            ("weights", np.empty(0)),
            ("weights_squared", np.empty(0)),
            ("sums", np.empty(0)),
        )
    ]
    whole = [[column.missing, column.n, column.out_of_range] for column in columns]
    moments = [_optional((c.minimum, c.maximum, c.mean, c.m2)) for c in columns]
    arrays = [
        *bins,
        np.array(whole, dtype=np.int64).ravel(),
        np.concatenate([np.empty(0), *moments]),
        np.array([profile.weight], dtype=np.float64),
        profile.score_counts.ravel(),
        profile.score_weights.ravel(),
    ]
    return pack(b"F", head, arrays)


def features_from_bytes(data: bytes) -> FeatureProfile:
    """Read a feature profile; ``ValueError`` if the bytes are something else."""
    head, arrays = unpack(b"F", data)
    *bins, whole, moments, weight, score_counts, score_weights = arrays
    cuts = np.cumsum(head["sizes"])[:-1].astype(np.int64)
    split = [np.split(array, cuts) for array in bins]
    columns = {}
    for i, name in enumerate(head["names"]):
        missing, n, out_of_range = whole[3 * i : 3 * i + 3].tolist()
        minimum, maximum, mean, m2 = moments[4 * i : 4 * i + 4].tolist()
        columns[name] = ColumnProfile(
            counts=split[0][i],
            weights=split[1][i],
            weights_squared=split[2][i],
            sums=split[3][i],
            missing=missing,
            n=n,
            minimum=_restore(minimum),
            maximum=_restore(maximum),
            mean=mean,
            m2=m2,
            out_of_range=out_of_range,
            unseen=dict(head["unseen"][i]),
        )
    return FeatureProfile(
        head["rows"],
        float(weight[0]),
        columns,
        score_counts.reshape(2, -1),
        score_weights.reshape(2, -1),
    )


def performance_to_bytes(profile: Performance) -> bytes:
    """Serialise a performance profile; its frame says of which kind it is."""
    if isinstance(profile, RegressionProfile):
        names = ("labelled", "unusable", "zero_labels", "outside_log")
        return pack(b"R", {name: getattr(profile, name) for name in names}, [profile.sums])
    arrays = [
        profile.confusion.ravel(),
        profile.confusion_weights.ravel(),
        profile.confusion_weights_squared.ravel(),
        profile.score_counts.ravel(),
        profile.score_weights.ravel(),
        profile.losses.ravel(),
    ]
    head = {"labelled": profile.labelled, "unusable": profile.unusable}
    if isinstance(profile, MulticlassProfile):
        return pack(
            b"M",
            {**head, "names": profile.names, "bins": profile.score_counts.shape[2]},
            arrays,
        )
    return pack(b"P", head, arrays)


def performance_from_bytes(data: bytes) -> Performance:
    """Read a performance profile; ``ValueError`` if the bytes are something else."""
    kind = data[HEADER_BYTES - 1 : HEADER_BYTES]
    if kind == b"R":
        head, (sums,) = unpack(kind, data)
        return RegressionProfile(**head, sums=sums)
    if kind == b"M":
        return _multiclass(*unpack(kind, data))
    head, arrays = unpack(b"P", data)
    shaped = [array.reshape(2, -1) for array in arrays]
    return PerformanceProfile(head["labelled"], head["unusable"], *shaped)


def _multiclass(head: Mapping[str, Any], arrays: Sequence[Array]) -> MulticlassProfile:
    names, bins = tuple(head["names"]), head["bins"]
    k = len(names)
    shapes = [(k, k)] * 3 + [(k, 2, bins)] * 2 + [(k, 2)]
    shaped = [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]
    return MulticlassProfile(names, head["labelled"], head["unusable"], *shaped)
