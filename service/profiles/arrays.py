"""Arrow columns as numpy arrays, and the bin that each value falls into."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.profiles.binning import Floats, NumericBins
from service.profiles.columns import Classes, Column, Kind, ManyClasses, Output, Quantity

Index = NDArray[np.int64]

PREDICTION = "prediction"
SCORE = "score"
SCORES = "scores."
WEIGHT = "weight"
LABEL = "label"
TIME = "ts"
# Whether a row was given another label, too; neither a feature nor a tag has such a name.
RELABELLED = "tags.#relabelled"

LARGEST_WEIGHT, SMALLEST_WEIGHT = 1e100, 1e-100


def find_array(rows: pa.Table, name: str) -> pa.Array | None:
    """Return a column as one Arrow array of plain values, or ``None`` if it does not exist."""
    position = rows.schema.get_field_index(name)
    if position < 0:
        return None
    array = rows.column(position).combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    return array


def to_floats(array: pa.Array) -> Floats:
    """Return numbers or booleans as float64, with NaN for null."""
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    values: Floats = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def to_booleans(array: pa.Array) -> pa.Array:
    """Return numbers as booleans; anything else as it is."""
    if pa.types.is_floating(array.type) or pa.types.is_integer(array.type):
        return pc.not_equal(array, pa.scalar(0, type=array.type))
    return array


def to_text(array: pa.Array) -> pa.Array:
    """Return values as Arrow text; booleans as ``true`` and ``false``."""
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return array
    return array.cast(pa.string())


def find_floats(rows: pa.Table, name: str) -> Floats:
    """Return a numeric column with NaN for null; all NaN if there is no such column."""
    array = find_array(rows, name)
    return np.full(rows.num_rows, np.nan) if array is None else to_floats(array)


def find_weights(rows: pa.Table) -> Floats | None:
    """Return the rows' weights, or ``None`` if every row weighs 1.

    A weight that is null, not finite or negative counts as not logged, hence as 1; one above 1e100
    as 1e100, because the sums of squares would overflow; one below 1e-100 as 0, because they would
    vanish.
    """
    array = find_array(rows, WEIGHT)
    if array is None or array.null_count == len(array):
        return None
    weights = to_floats(array)
    weights = np.where(np.isfinite(weights) & (weights >= 0), weights, 1.0)
    weights = np.minimum(weights, LARGEST_WEIGHT)
    weights = np.where(weights < SMALLEST_WEIGHT, 0.0, weights)
    return None if bool((weights == 1.0).all()) else weights


def output_columns(output: Output) -> tuple[Column, ...]:
    """Return the columns that a model's output is profiled as, beside its features."""
    kind = Kind.NUMERIC if isinstance(output, Quantity) else Kind.CATEGORICAL
    names = output.names if isinstance(output, ManyClasses) else ()
    scores = (Column(score_column(name), Kind.NUMERIC) for name in names)
    return (Column(PREDICTION, kind), *scores)


def score_column(name: str) -> str:
    """Return the column that holds the scores of one of many classes."""
    return f"{SCORES}{name}"


def class_codes(rows: pa.Table, name: str, classes: Classes | ManyClasses) -> NDArray[np.int64]:
    """Return each row's class as its position among the names (of two: negative 0, positive 1).

    Anything that is none of them is -1.
    """
    array = find_array(rows, name)
    if array is None or pa.types.is_null(array.type):
        return np.full(rows.num_rows, -1, dtype=np.int64)
    text = to_text(array)
    return text_codes(text, classes.names)


def text_codes(text: pa.Array, names: tuple[str, ...]) -> NDArray[np.int64]:
    """Return each text's position among the names, -1 where it is none of them (or null)."""
    codes = pc.index_in(text, value_set=pa.array(names, type=text.type), skip_nulls=True)
    filled: NDArray[np.int64] = pc.fill_null(codes, -1).to_numpy().astype(np.int64)
    return filled


def _classify(values: Floats, bins: NumericBins) -> Index:
    """Apply the definition of the bins to some values, one step after the other."""
    fine = max(len(bins.edges) - 1, 0)
    if bins.minimum is None or bins.maximum is None:
        return np.ones(len(values), dtype=np.int64)
    if fine:
        index = np.searchsorted(bins.edges, values, side="right").clip(1, fine)
    else:
        index = np.ones(len(values), dtype=np.int64)
    index[values < bins.minimum] = 0
    index[values > bins.maximum] = fine + 1
    if len(bins.atoms):
        at = np.searchsorted(bins.atoms, values).clip(0, len(bins.atoms) - 1)
        equal = bins.atoms[at] == values
        index[equal] = fine + 2 + at[equal]
    return index


def numeric_index(values: Floats, bins: NumericBins) -> Index:
    """Return the bin of each finite value.

    Parameters
    ----------
    values
        Finite values, shape ``(n,)``.
    bins
        The column's bins.  A value inside the reference's range that no fine bin holds falls into
        the nearest one; where the reference had no value at all, everything is ``above`` it.

    Returns
    -------
    Index
        Positions in ``0 .. n_bins - 1``, shape ``(n,)``.

    Examples
    --------
    >>> bins = NumericBins(np.array([0.0, 1.0, 2.0]), np.array([0.5]), 0.0, 2.0)
    >>> numeric_index(np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0]), bins).tolist()
    [0, 1, 4, 2, 2, 3]
    """
    if bins.minimum is None or bins.maximum is None:
        return _classify(values, bins)
    # Between two neighbouring breaks every value has the same bin, so that a single search serves
    # edges and atoms alike; an atom's interval holds its own float and no other.
    with np.errstate(over="ignore"):
        after = np.nextafter(np.append(bins.atoms, bins.maximum), np.inf)
    breaks = np.unique(np.concatenate((bins.edges[1:-1], bins.atoms, [bins.minimum], after)))
    bin_of_interval = _classify(np.concatenate(([-np.inf], breaks)), bins)
    index: Index = bin_of_interval[np.searchsorted(breaks, values, side="right")]
    return index


def score_index(scores: Floats, score_edges: Floats) -> Index:
    """Return the position of each score in the score histogram, shape ``(n,)``."""
    return np.searchsorted(score_edges, scores, side="right")


def score_representatives(score_edges: Floats) -> Floats:
    """Return one probability for each bin of the score histogram.

    Returns
    -------
    Floats
        Shape ``(len(score_edges) + 1,)``, ascending, in [0, 1]: the value itself for bins that hold
        one float only, else the middle; 0 for the first bin and 1 for the last.

    Examples
    --------
    >>> score_representatives(np.array([0.25, 0.75, 1.0])).tolist()
    [0.125, 0.5, 0.875, 1.0]
    """
    edges = np.concatenate(([0.0], score_edges, [1.0])).clip(0.0, 1.0)
    low, high = edges[:-1], edges[1:]
    single = np.nextafter(low, np.inf) >= high
    return np.where(single, low, low + (high - low) / 2)
