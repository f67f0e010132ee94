"""Mixed columns of two windows as numbers that a model can learn from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.profiles.arrays import find_array, find_floats, to_text
from service.profiles.columns import Column, Kind

Floats = NDArray[np.float64]

MOST_CATEGORIES = 20
LARGEST = 1e100
ENCODED = frozenset({Kind.NUMERIC, Kind.BOOLEAN, Kind.CATEGORICAL})


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Rows of both sides, the reference's first, encoded without looking at their side.

    ``numbers`` has the shape ``(n_rows, n_numeric)`` and ``codes`` ``(n_rows, n_categorical)``,
    with NaN for missing; codes are the ranks of the pooled rows' most frequent values, and
    ``MOST_CATEGORIES`` for all the others.  ``n_reference`` rows are the reference's.
    """

    numbers: Floats
    codes: Floats
    n_reference: int

    @property
    def columns(self) -> int:
        """Return the number of encoded columns."""
        return int(self.numbers.shape[1] + self.codes.shape[1])


def encode(reference: pa.Table, current: pa.Table, columns: Sequence[Column]) -> Encoded:
    """Encode the columns that both sides have.

    Parameters
    ----------
    reference, current
        Rows under the features' real names.
    columns
        Which ones; those that are neither numbers, categories nor booleans are left out, and so
        are those without any value, or with a single one.

    Returns
    -------
    Encoded
        Infinite numbers count as missing.

    Examples
    --------
    >>> rows = pa.table({"x": [1.0, None], "plan": ["a", "b"]})
    >>> both = [Column("x", Kind.NUMERIC), Column("plan", Kind.CATEGORICAL)]
    >>> encode(rows, rows, both).codes.ravel().tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    numbers: list[Floats] = []
    codes: list[Floats] = []
    for column in columns:
        if column.kind not in ENCODED:
            continue
        if not {column.name} <= {*reference.column_names} & {*current.column_names}:
            continue
        if column.kind is Kind.NUMERIC:
            sides = [find_floats(side, column.name) for side in (reference, current)]
            values = np.concatenate(sides)
            # The squares of larger numbers overflow once they are summed.
            values = np.clip(np.where(np.isfinite(values), values, np.nan), -LARGEST, LARGEST)
            encoded, into = values, numbers
        else:
            texts = [_texts(side, column.name) for side in (reference, current)]
            encoded, into = _ranks(pa.chunked_array(texts).combine_chunks()), codes
        known = encoded[~np.isnan(encoded)]
        if len(known) and (len(known) < len(encoded) or known.min() < known.max()):
            into.append(encoded)
    rows = reference.num_rows + current.num_rows
    return Encoded(_stack(numbers, rows), _stack(codes, rows), reference.num_rows)


def _stack(columns: Sequence[Floats], rows: int) -> Floats:
    return np.column_stack(columns) if columns else np.zeros((rows, 0))


def _texts(rows: pa.Table, name: str) -> pa.Array:
    array = find_array(rows, name)
    if array is None or pa.types.is_null(array.type):
        return pa.nulls(rows.num_rows, pa.string())
    return to_text(array).cast(pa.string())


def _ranks(texts: pa.Array) -> Floats:
    counted = pc.value_counts(pc.drop_null(texts)).to_pylist()
    ranked = sorted(counted, key=lambda one: (-one["counts"], one["values"]))
    names = pa.array([one["values"] for one in ranked[:MOST_CATEGORIES]], pa.string())
    codes = pc.index_in(texts, value_set=names, skip_nulls=True)
    filled: Floats = pc.fill_null(codes, MOST_CATEGORIES).to_numpy().astype(np.float64)
    filled[pc.is_null(texts).to_numpy(zero_copy_only=False)] = np.nan
    return filled


def vectors_of(rows: pa.Table, name: str) -> Floats | None:
    """Return a column of vectors as a matrix, without rows that have none.

    Parameters
    ----------
    rows
        The table.
    name
        A column of lists of numbers, of fixed length or not.

    Returns
    -------
    Floats or None
        Shape ``(n_vectors, n_dimensions)``: of the most frequent length, finite ones alone;
        ``None`` where there is no such column, or no vector in it.

    Examples
    --------
    >>> vectors_of(pa.table({"e": [[1.0, 2.0], None, [3.0, 4.0]]}), "e").tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    array = find_array(rows, name)
    if array is None or not hasattr(array, "flatten"):
        return None
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(array.type) for is_kind in kinds):
        return None
    array = pc.drop_null(array)
    lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
    lengths = lengths[lengths > 0]
    if not len(lengths):
        return None
    usual = int(np.bincount(lengths).argmax())
    array = array.filter(pc.equal(pc.list_value_length(array), usual))
    flat = array.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
    matrix = flat.reshape(len(array), usual)
    finite = matrix[np.isfinite(matrix).all(axis=1)]
    return finite if len(finite) else None
