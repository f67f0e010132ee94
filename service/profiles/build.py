"""Summarise rows: one pass per column, no Python per row."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from heapq import nsmallest

import numpy as np
import pyarrow as pa

from service.profiles.arrays import (
    PREDICTION,
    RELABELLED,
    SCORE,
    Index,
    class_codes,
    find_array,
    find_floats,
    find_weights,
    numeric_index,
    output_columns,
    text_codes,
    to_booleans,
    to_floats,
    to_text,
)
from service.profiles.binary import profile_binary
from service.profiles.binning import Binning, CategoricalBins, Floats, NumericBins, is_of_kind
from service.profiles.columns import Classes, Column, Kind, ManyClasses, Quantity
from service.profiles.contents import profile_contents
from service.profiles.derive import derive
from service.profiles.multiclass import predicted_scores, profile_multiclass
from service.profiles.profile import (
    ColumnProfile,
    Counts,
    FeatureProfile,
    Performance,
)
from service.profiles.regression import profile_regression
from service.profiles.sums import score_histogram, sums_of, weigh

UNSEEN_NAMES = 64
# The square of a larger value would overflow the moments.
LARGEST_IN_SUMS = 1e150


def profile_features(rows: pa.Table, columns: Sequence[Column], binning: Binning) -> FeatureProfile:
    """Summarise rows without their labels.

    Parameters
    ----------
    rows
        A column for each feature under its name; ``prediction`` (text, or numbers where the output
        is one), ``score`` and ``weight`` (null or absent: 1) where logged.
        Infinite numbers count as missing.
    columns
        The features to profile; times, texts and vectors by what is derived from them, and
        themselves by one bin of all rows that have a value.  Those that neither the rows nor the
        binning know are left out, so that a version that lacks a feature does not report it as
        missing; so are those whose edges are of another kind, for another version's feature.
    binning
        The frozen edges.

    Returns
    -------
    FeatureProfile
        Independent of the order of the rows: exactly in counts, to rounding in sums.
    """
    weights = find_weights(rows)
    profiles = {
        column.name: _profile_presence(rows.column(column.name), weights)
        for column in columns
        if column.name in binning.sources and column.name in rows.column_names
    }
    contents = profile_contents(rows, [*(column.name for column in columns), PREDICTION])
    rows, columns = derive(rows, columns, binning.sources)
    for column in (*columns, *output_columns(binning.output)):
        array = find_array(rows, column.name)
        bins = binning.columns.get(column.name)
        if array is not None and bins is not None and is_of_kind(bins, column.kind):
            profiles[column.name] = _profile_column(array, weights, column, bins)
    scores = find_floats(rows, SCORE)
    if binning.score_bins is not None and find_array(rows, SCORE) is not None:
        column = Column(SCORE, Kind.NUMERIC)
        profiles[SCORE] = _profile_numbers(scores, weights, column, binning.score_bins)
    counts, sums = _predicted_scores(rows, scores, weights, binning)
    total = float(rows.num_rows if weights is None else weights.sum())
    return FeatureProfile(rows.num_rows, total, profiles, counts, sums, contents)


def profile_performance(rows: pa.Table, binning: Binning) -> Performance:
    """Summarise the labelled rows among ``rows``; rows whose ``label`` is null are left out.

    Parameters
    ----------
    rows
        ``label`` and ``prediction`` (text, or numbers where the output is one), ``score`` and
        ``weight`` where logged; ``RELABELLED`` where it is known.
    binning
        The frozen edges, and what the output is.

    Returns
    -------
    Performance
        Of the kind that the output asks for.  Rows with a label whose label or prediction is no
        output of the model are in ``unusable`` alone.
    """
    profile = _profile_labels(rows, binning)
    relabelled = find_array(rows, RELABELLED)
    if relabelled is None or not pa.types.is_boolean(relabelled.type):
        return profile
    return replace(profile, relabelled=relabelled.true_count)


def _profile_labels(rows: pa.Table, binning: Binning) -> Performance:
    output = binning.output
    if isinstance(output, Quantity):
        return profile_regression(rows, binning)
    if isinstance(output, ManyClasses):
        return profile_multiclass(rows, binning.score_edges, output)
    return profile_binary(rows, binning, output)


def keep_unseen(names: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Keep the names with the smallest hashes, a choice that merges exactly."""
    return dict(nsmallest(UNSEEN_NAMES, names, key=lambda item: (_hash(item[0]), item[0])))


def _hash(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _profile_presence(array: pa.ChunkedArray, weights: Floats | None) -> ColumnProfile:
    there = len(array) - array.null_count
    sums = [float(there)] * 2
    if weights is not None:
        known = weights[array.is_valid().to_numpy()]
        sums = [float(known.sum()), float((known * known).sum())]
    return ColumnProfile(
        np.array([there]), np.array(sums[:1]), np.array(sums[1:]), np.zeros(1),
        array.null_count, there, None, None, 0.0, 0.0, 0, {},
    )  # fmt: skip


def _profile_column(
    array: pa.Array,
    weights: Floats | None,
    column: Column,
    bins: NumericBins | CategoricalBins,
) -> ColumnProfile:
    if isinstance(bins, NumericBins):
        return _profile_numbers(to_floats(array), weights, column, bins)
    if column.kind is Kind.BOOLEAN:
        array = to_booleans(array)
    return _profile_texts(array, weights, bins)


def _profile_numbers(
    values: Floats, weights: Floats | None, column: Column, bins: NumericBins
) -> ColumnProfile:
    rows = len(values)
    finite = np.isfinite(values)
    if not finite.all():
        values = values[finite]
        weights = None if weights is None else weights[finite]
    index = numeric_index(values, bins)
    counts, sums, squares = sums_of(index, weights, bins.n_bins)
    empty = ColumnProfile(
        counts, sums, squares, np.zeros(bins.n_bins), rows - len(values),
        len(values), None, None, 0.0, 0.0, 0, {},
    )  # fmt: skip
    if not len(values):
        return empty
    low, high = float(values.min()), float(values.max())
    outside = _out_of_range(values, column, bins, counts)
    if max(-low, high) > LARGEST_IN_SUMS:
        values = values.clip(-LARGEST_IN_SUMS, LARGEST_IN_SUMS)
    mean = float(values.mean())
    deviations = values - mean
    return replace(
        empty,
        sums=weigh(index, values, bins.n_bins),
        minimum=low,
        maximum=high,
        mean=mean,
        m2=float(deviations @ deviations),
        out_of_range=outside,
    )


def _out_of_range(values: Floats, column: Column, bins: NumericBins, counts: Counts) -> int:
    if column.minimum is None and column.maximum is None:
        if bins.minimum is None:
            return 0
        return int(counts[0] + counts[max(len(bins.edges) - 1, 0) + 1])
    outside = 0
    if column.minimum is not None:
        outside += int(np.count_nonzero(values < column.minimum))
    if column.maximum is not None:
        outside += int(np.count_nonzero(values > column.maximum))
    return outside


def _profile_texts(array: pa.Array, weights: Floats | None, bins: CategoricalBins) -> ColumnProfile:
    rows = len(array)
    if pa.types.is_null(array.type):
        array = pa.array([], type=pa.string())
        weights = None if weights is None else weights[:0]
    elif array.null_count:
        valid = array.is_valid()
        weights = None if weights is None else weights[valid.to_numpy(zero_copy_only=False)]
        array = array.filter(valid)
    text = to_text(array)
    index = text_codes(text, bins.categories)
    names: dict[str, int] = {}
    unknown = index < 0
    if unknown.any():
        index[unknown], names = _rest_or_unseen(text.filter(pa.array(unknown)), bins)
    counts, sums, squares = sums_of(index, weights, bins.n_bins)
    return ColumnProfile(
        counts, sums, squares, np.zeros(bins.n_bins), rows - len(text),
        len(text), None, None, 0.0, 0.0, 0, names,
    )  # fmt: skip


def _rest_or_unseen(text: pa.Array, bins: CategoricalBins) -> tuple[Index, dict[str, int]]:
    """Tell ``other`` from ``unseen`` by the distinct names, and count those that are unseen."""
    encoded = text.dictionary_encode()
    codes = encoded.indices.to_numpy()
    names = encoded.dictionary.to_pylist()
    unseen = np.array([name not in bins.rest for name in names], dtype=np.int64)
    tally = np.bincount(codes, minlength=len(names)).tolist()
    found = ((name, tally[i]) for i, name in enumerate(names) if unseen[i])
    return len(bins.categories) + unseen[codes], keep_unseen(found)


def _predicted_scores(
    rows: pa.Table, scores: Floats, weights: Floats | None, binning: Binning
) -> tuple[Counts, Floats]:
    """Return rows and Σw by prediction and score bin, in the shape of a ``FeatureProfile``."""
    if isinstance(binning.output, ManyClasses):
        return predicted_scores(rows, binning.score_edges, binning.output)
    if isinstance(binning.output, Classes):
        predicted = class_codes(rows, PREDICTION, binning.output)
    else:
        predicted = np.full(rows.num_rows, -1, dtype=np.int64)
    return score_histogram(predicted, scores, weights, binning.score_edges, 2)
