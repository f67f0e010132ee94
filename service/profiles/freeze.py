"""Freeze a model's edges on its reference."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.profiles.arrays import (
    PREDICTION,
    SCORE,
    find_array,
    find_floats,
    score_column,
    to_booleans,
    to_floats,
    to_text,
)
from service.profiles.binning import Binning, CategoricalBins, Floats, NumericBins
from service.profiles.columns import Column, Kind, ManyClasses, Output, Quantity
from service.profiles.derive import derive, learn

FINE_BINS = 32
# A fine bin holds about 1/32 of the rows; a value with half as many already upsets its quantiles.
ATOM_SHARE = 1 / 64
# In a small reference of a continuous column, pairs of equal values are chance.
ATOM_ROWS = 5
TOP_CATEGORIES = 256
LOGIT_BINS = 2048
LOGIT_LIMIT = 16.0
SCORE_QUANTILES = 512
# Many classes have histograms each; half the bins keep their AUC exact to 1e-4, too.
COARSER = 2


def freeze_binning(rows: pa.Table, columns: Sequence[Column], output: Output) -> Binning:
    """Freeze all edges on the reference alone.

    Parameters
    ----------
    rows
        The reference: a column for each feature, ``prediction`` and ``score`` where it has them.
        Zero rows are allowed.
    columns
        The features.  One that the reference lacks is frozen as entirely missing.
    output
        What the model predicts.  Classes are the categories of ``prediction`` whether the
        reference has them or not; a number is binned like a feature.

    Returns
    -------
    Binning
        ``score_bins`` is ``None`` where the reference has no finite score, or the output none.

    Examples
    --------
    >>> from service.profiles.columns import Classes
    >>> rows = pa.table({"age": [1.0, 2.0, 3.0], "score": [0.1, 0.2, 0.9]})
    >>> frozen = freeze_binning(rows, [Column("age", Kind.NUMERIC)], Classes("0", "1"))
    >>> frozen.columns["age"].edges.tolist()
    [1.0, 2.0, 3.0]
    """
    sources = learn(rows, columns)
    rows, columns = derive(rows, columns, sources, learnt=sources)
    bins = {column.name: _freeze_column(rows, column) for column in columns}
    if isinstance(output, Quantity):
        bins[PREDICTION] = freeze_numeric(find_floats(rows, PREDICTION))
        return Binning(bins, output, np.empty(0), None, sources)
    bins[PREDICTION] = CategoricalBins(output.names, frozenset())
    names = [SCORE]
    if isinstance(output, ManyClasses):
        names = [score_column(name) for name in output.names]
        bins |= {name: freeze_numeric(find_floats(rows, name)) for name in names}
    scores = np.concatenate([np.empty(0), *(find_floats(rows, name) for name in names)])
    scores = scores[np.isfinite(scores)]
    if isinstance(output, ManyClasses):
        score_edges = freeze_score_edges(scores, coarseness=COARSER)
        return Binning(bins, output, score_edges, None, sources)
    score_bins = freeze_numeric(scores) if len(scores) else None
    return Binning(bins, output, freeze_score_edges(scores), score_bins, sources)


def _freeze_column(rows: pa.Table, column: Column) -> NumericBins | CategoricalBins:
    if column.categories:
        return CategoricalBins(column.categories, frozenset())
    array = find_array(rows, column.name)
    if array is None:
        array = pa.nulls(rows.num_rows)
    if column.kind is Kind.NUMERIC:
        return freeze_numeric(to_floats(array))
    if column.kind is Kind.BOOLEAN:
        found = freeze_categories(to_booleans(array))
        return CategoricalBins(tuple(sorted(found.categories)), found.rest)
    return freeze_categories(array)


def freeze_numeric(values: Floats) -> NumericBins:
    """Freeze atoms and nested quantile bins of a numeric column.

    Parameters
    ----------
    values
        Shape ``(n,)``; values that are not finite are ignored.

    Returns
    -------
    NumericBins
        1, 2, 4, 8, 16 or 32 fine bins (as many as give distinct edges), so that any smaller power
        of two groups neighbours.  The outer edges are the minimum and maximum of the whole column,
        because a new value between an atom and its neighbours must find a bin.
    """
    # Adding zero makes -0.0 the 0.0 that it equals, whichever of them comes first.
    ordered = np.sort(values[np.isfinite(values)] + 0.0)
    if not len(ordered):
        return NumericBins(np.empty(0), np.empty(0), None, None)
    minimum, maximum = float(ordered[0]), float(ordered[-1])
    if minimum == maximum:
        return NumericBins(np.empty(0), np.array([minimum]), minimum, maximum)
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    counts = np.diff(np.append(starts, len(ordered)))
    heavy = counts >= max(ATOM_ROWS, len(ordered) * ATOM_SHARE)
    rest = np.repeat(ordered[starts[~heavy]], counts[~heavy])
    edges = _quantile_edges(rest, minimum, maximum)
    return NumericBins(edges, ordered[starts[heavy]], minimum, maximum)


def _quantile_edges(ordered: Floats, minimum: float, maximum: float) -> Floats:
    outer = np.array([minimum, maximum])
    bins = FINE_BINS
    while bins > 1 and len(ordered):
        inner = ordered[np.arange(1, bins) * len(ordered) // bins]
        edges = np.concatenate((outer[:1], inner, outer[1:]))
        if bool((edges[1:] > edges[:-1]).all()):
            return edges
        bins //= 2
    return outer


def freeze_categories(array: pa.Array) -> CategoricalBins:
    """Freeze the most frequent categories; ties go by name, so that row order does not matter."""
    if pa.types.is_null(array.type):
        return CategoricalBins((), frozenset())
    counted = pc.value_counts(to_text(pc.drop_null(array)))
    names = counted.field("values").to_pylist()
    counts = counted.field("counts").to_pylist()
    ranked = [name for _, name in sorted(zip((-n for n in counts), names, strict=True))]
    return CategoricalBins(
        tuple(ranked[:TOP_CATEGORIES]),
        frozenset(ranked[TOP_CATEGORIES:]),
        singletons=counts.count(1),
        doubletons=counts.count(2),
    )


def freeze_score_edges(scores: Floats, *, coarseness: int = 1) -> Floats:
    """Freeze the inner edges of the score histogram.

    Logit bins keep AUC exact to about 1e-4 wherever scores move; exactly 0 and exactly 1 are bins
    of their own.  Scores that many rows share (rounded ones) are bins of one value, so that
    estimates know them exactly; otherwise quantiles refine where the reference is dense.

    Parameters
    ----------
    scores
        Finite scores, shape ``(n,)``; may be empty.
    coarseness
        What part of the 2,048 logit bins and 512 quantiles there are.

    Returns
    -------
    Floats
        Ascending and unique, shape ``(m,)``, above 0 and at most 1.
    """
    quantiles = SCORE_QUANTILES // coarseness
    logits = np.linspace(-LOGIT_LIMIT, LOGIT_LIMIT, LOGIT_BINS // coarseness + 1)
    parts = [1 / (1 + np.exp(-logits)), np.array([np.nextafter(0.0, 1.0), 1.0])]
    distinct = np.unique(scores + 0.0)
    if len(distinct) > quantiles:
        ordered = np.sort(scores)
        picked = ordered[np.arange(1, quantiles) * len(ordered) // quantiles]
        distinct, times = np.unique(picked, return_counts=True)
        parts.append(distinct)
        distinct = distinct[times > 1]
    parts += [distinct, np.nextafter(distinct, np.inf)]
    edges = np.unique(np.concatenate(parts))
    return edges[(edges > 0.0) & (edges <= 1.0)]
