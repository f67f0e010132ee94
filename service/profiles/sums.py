"""Sums over rows by position: of rows, of their weights, and by score bin."""

import numpy as np

from service.profiles.arrays import Index, score_index
from service.profiles.binning import Floats
from service.profiles.profile import Counts

# Of a score, in the log loss.
SCORE_CLIP = 1e-15


def sums_of(index: Index, weights: Floats | None, size: int) -> tuple[Counts, Floats, Floats]:
    """Return rows, Σw and Σw² by position."""
    counts = np.bincount(index, minlength=size).astype(np.int64, copy=False)
    if weights is None:
        ones = counts.astype(np.float64)
        return counts, ones, ones.copy()
    return counts, weigh(index, weights, size), weigh(index, weights * weights, size)


def weigh(index: Index, values: Floats, size: int) -> Floats:
    """Return Σ of the values by position."""
    return np.bincount(index, weights=values, minlength=size).astype(np.float64, copy=False)


def score_histogram(
    group: Index, scores: Floats, weights: Floats | None, score_edges: Floats, groups: int
) -> tuple[Counts, Floats]:
    """Return rows and Σw by group and score bin, shape ``(groups, n_score_bins)`` each."""
    size = len(score_edges) + 1
    known = np.isfinite(scores) & (group >= 0)
    index = group[known] * size + score_index(scores[known], score_edges)
    counts, sums, _ = sums_of(index, None if weights is None else weights[known], groups * size)
    return counts.reshape(groups, size), sums.reshape(groups, size)
