"""Whether rows as a whole moved: a domain classifier, and the error of a reconstruction."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from service.detection.encoding import Encoded
from service.detection.separation import Fold, Groups, Separation, measure_separation

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]

# Of the variance of the reference's rows; what is left out is what may change.
EXPLAINED = 0.65
# Products of more columns than this cost more than they tell.
MOST_CROSSED = 40
SHOWN_CATEGORIES = 10
RIDGE = 10.0
FARTHEST = 5.0
# Of a vector as many directions are looked at, those in which vectors vary most.
DIRECTIONS = 32


def classify_domain(encoded: Encoded, groups: Groups | None) -> Separation:
    """Learn to tell the window's rows from the reference's, and measure how well that works.

    Half of the rows of either side teach, the other half is scored, and the other way round.  Two
    models share the work: boosted trees see any change of a column, a ridge regression on products
    sees columns that change together.

    Parameters
    ----------
    encoded
        Both sides, at least four rows of each.
    groups
        Which piece of the reference each of its rows is from, shape ``(n_reference,)``.

    Returns
    -------
    Separation
        Of rows that did not teach: conditional on its model each half is a fair test, whatever
        the model.

    References
    ----------
    D. Lopez-Paz and M. Oquab, Revisiting classifier two-sample tests, ICLR 2017.
    """
    is_current = np.arange(len(encoded.numbers)) >= encoded.n_reference
    half = _halves(encoded.n_reference, len(is_current) - encoded.n_reference)
    crossed = _crossed(encoded)
    folds = []
    for taught in (half, ~half):
        scores = _rank(_boost(encoded, taught, is_current))
        scores += _rank(_ridge(crossed, taught, is_current))
        asked = is_current[~taught]
        of_reference = None if groups is None else groups[~taught[: encoded.n_reference]]
        folds.append(Fold(scores[~asked], scores[asked], of_reference))
    return measure_separation(folds)


def _halves(reference: int, current: int) -> Labels:
    chance = np.random.default_rng(0)
    parts = [chance.permutation(rows) % 2 == 0 for rows in (reference, current)]
    return np.concatenate(parts)


def _rank(values: Floats) -> Floats:
    from scipy.stats import rankdata

    ranks: Floats = rankdata(values)
    return ranks


def _boost(encoded: Encoded, taught: Labels, is_current: Labels) -> Floats:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    rows = np.column_stack((encoded.numbers, encoded.codes))
    model = HistGradientBoostingClassifier(
        max_iter=30,
        max_leaf_nodes=15,
        early_stopping=False,
        categorical_features=np.arange(rows.shape[1]) >= encoded.numbers.shape[1],
        random_state=0,
    )
    # On a busy machine its threads wait for each other, fifty times as long as they work.
    with threadpool_limits(1):
        model.fit(rows[taught], is_current[taught])
        scores: Floats = model.predict_proba(rows[~taught])[:, 1]
    return scores


def _crossed(encoded: Encoded) -> Floats:
    """Return every column as normal scores or indicators, and their products."""
    base: list[Floats] = []
    for values in encoded.numbers.T:
        known = ~np.isnan(values)
        scores = np.zeros(len(values))
        # What a product of two columns tells must not hang on one far value.
        scores[known] = ndtri(_rank(values[known]) / (known.sum() + 1))
        base.append(scores)
        if not known.all():
            base.append((~known).astype(np.float64))
    for codes in encoded.codes.T:
        base += [(codes == code).astype(np.float64) for code in range(SHOWN_CATEGORIES)]
    columns = np.column_stack(base)
    columns = columns[:, columns.std(axis=0) > 0]
    i, j = np.triu_indices(min(columns.shape[1], MOST_CROSSED))
    return np.column_stack((columns, columns[:, i] * columns[:, j]))


def _ridge(columns: Floats, taught: Labels, is_current: Labels) -> Floats:
    centre, scale = columns[taught].mean(axis=0), columns[taught].std(axis=0)
    kept = scale > 0
    scaled = (columns[:, kept] - centre[kept]) / scale[kept]
    rows, wanted = scaled[taught], is_current[taught] - is_current[taught].mean()
    gram = rows.T @ rows + RIDGE * np.eye(rows.shape[1])
    scores: Floats = scaled[~taught] @ np.linalg.solve(gram, rows.T @ wanted)
    return scores


def directions_of(reference: Floats, current: Floats) -> Encoded:
    """Return vectors by the directions in which those of both sides together vary most.

    Parameters
    ----------
    reference, current
        Vectors of the same length, shape ``(n, n_dimensions)``.

    Returns
    -------
    Encoded
        At most ``DIRECTIONS`` numbers a row.
    """
    rows = np.concatenate((reference, current))
    spread = rows.std(axis=0)
    rows = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    if rows.shape[1] > DIRECTIONS:
        _, axes = np.linalg.eigh(rows.T @ rows)
        rows = rows @ axes[:, -DIRECTIONS:]
    kept = rows[:, rows.std(axis=0) > 0]
    return Encoded(kept, np.zeros((len(rows), 0)), len(reference))


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """How badly rows are reconstructed from the directions of the reference's variance.

    ``reference`` and ``current`` are mean errors, ``deviation`` the standard deviation of the
    reference's; ``separation`` compares the errors of held-out rows of the reference with the
    window's.
    """

    reference: float
    current: float
    deviation: float
    separation: Separation


def reconstruct(encoded: Encoded, groups: Groups | None) -> Reconstruction | None:
    """Reconstruct rows from the principal components of half of the reference.

    Parameters
    ----------
    encoded
        Both sides.
    groups
        As for :func:`classify_domain`.

    Returns
    -------
    Reconstruction or None
        Errors are Euclidean, in standard deviations of the columns; ``None`` where fewer than two
        columns vary in the reference, so that nothing can be reconstructed from another.

    References
    ----------
    I. T. Jolliffe, Principal Component Analysis, 2002.  NannyML, data reconstruction with PCA.
    """
    before, n = np.arange(encoded.n_reference), encoded.n_reference
    taught = _halves(n, 0)
    rows = _standardised(encoded, before[taught])
    if rows.shape[1] < 2:  # noqa: PLR2004  one column explains itself
        return None
    sizes, axes = np.linalg.eigh(np.cov(rows[before[taught]], rowvar=False))
    share = np.cumsum(sizes[::-1]) / sizes.sum()
    count = min(int(np.searchsorted(share, EXPLAINED)) + 1, rows.shape[1] - 1)
    kept = axes[:, ::-1][:, :count]
    errors = np.linalg.norm(rows - (rows @ kept) @ kept.T, axis=1)
    held, now = errors[before[~taught]], errors[n:]
    fold = Fold(held, now, None if groups is None else groups[~taught])
    deviation = float(held.std(ddof=1))
    return Reconstruction(
        float(held.mean()), float(now.mean()), deviation, measure_separation([fold])
    )


def _standardised(encoded: Encoded, taught: NDArray[np.int64]) -> Floats:
    columns: list[Floats] = []
    for codes in encoded.codes.T:
        # A category is as far from another as the reference has it more often.
        filled = np.where(np.isnan(codes), codes[~np.isnan(codes)].max() + 1, codes).astype(int)
        columns.append((np.bincount(filled[taught], minlength=filled.max() + 1))[filled] * 1.0)
    for values in encoded.numbers.T:
        missing = np.isnan(values)
        known = values[taught][~missing[taught]]
        columns.append(np.where(missing, known.mean() if len(known) else 0.0, values))
        if missing.any():
            columns.append(missing.astype(np.float64))
    rows = np.column_stack(columns) if columns else np.zeros((len(encoded.numbers), 0))
    scale = rows[taught].std(axis=0)
    varying = scale > 0
    rows = (rows[:, varying] - rows[taught][:, varying].mean(axis=0)) / scale[varying]
    clipped: Floats = np.clip(rows, -FARTHEST, FARTHEST)
    return clipped
