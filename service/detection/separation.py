"""How well a score tells the rows of a window from those of the reference, and by chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, ndtr, stdtr

Floats = NDArray[np.float64]
Groups = NDArray[np.int64]

FEWEST_GROUPS = 10
# At this level the reference's own pieces are found to differ among themselves.
UNSTEADY = 0.05
_NORMAL_95 = 1.959963984540054


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """Scores of rows that the scoring model has not seen.

    ``groups`` says which piece of the reference each of its rows is from, shape as ``reference``;
    ``None`` takes its rows as independent.
    """

    reference: Floats
    current: Floats
    groups: Groups | None = None


@dataclass(frozen=True, slots=True)
class Separation:
    """The probability that a row of the window scores above one of the reference.

    ``z`` is its distance from 1/2 in standard errors, Student's with ``df`` degrees of freedom
    (normal without) if nothing changed.
    """

    auc: float
    ci_low: float
    ci_high: float
    z: float
    df: int | None

    @property
    def p_above(self) -> float:
        """Return how probable as high a value is by chance."""
        tail = ndtr(-self.z) if self.df is None else stdtr(self.df, -self.z)
        return float(tail)

    @property
    def p_either(self) -> float:
        """Return how probable a value is by chance that is as far from 1/2."""
        return min(2 * min(self.p_above, 1 - self.p_above), 1.0)


def measure_separation(folds: Sequence[Fold]) -> Separation:
    """Measure the area under the curve of held-out scores, and what chance would do.

    Parameters
    ----------
    folds
        At least one; each has at least two rows on either side.  Folds are averaged as if they
        always erred the same way, because models that learned from each other's rows nearly do.

    Returns
    -------
    Separation
        ``auc`` in 0..1 with a 95 % interval (DeLong, on the logit); 1/2 means that the score tells
        nothing.  Under equal distributions ``z`` is Mann and Whitney's with its correction for
        ties.  Where the pieces of the reference differ among themselves, their variance counts:
        a window is one more piece.

    References
    ----------
    H. B. Mann and D. R. Whitney, Ann. Math. Stat. 18 (1947).  E. R. DeLong et al., Comparing the
    areas under two or more correlated ROC curves, Biometrics 44 (1988).

    Examples
    --------
    >>> import numpy as np
    >>> found = measure_separation([Fold(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0]))])
    >>> round(found.auc, 4)  # of 6 pairs 4 are in order, and one is a tie
    0.75
    """
    parts = [_of_fold(fold) for fold in folds]
    auc = float(np.mean([part[0] for part in parts]))
    error = float(np.mean([part[1] for part in parts]))
    z = float(np.mean([part[2] for part in parts]))
    freedom = [part[3] for part in parts if part[3] is not None]
    fewest = min(min(len(fold.reference), len(fold.current)) for fold in folds)
    low, high = _interval(auc, error, fewest)
    return Separation(auc, low, high, z, min(freedom) if freedom else None)


def _of_fold(fold: Fold) -> tuple[float, float, float, int | None]:
    from scipy.stats import rankdata

    m, n = len(fold.reference), len(fold.current)
    ranks = rankdata(np.concatenate((fold.reference, fold.current)))
    own = rankdata(fold.reference), rankdata(fold.current)
    above = (ranks[m:] - own[1]) / m
    below = 1 - (ranks[:m] - own[0]) / n
    auc = float(above.mean())
    delong = float(above.var(ddof=1) / n + below.var(ddof=1) / m)
    _, ties = np.unique(ranks, return_counts=True)
    total = m + n
    untied = 1 - float((ties.astype(np.float64) ** 3 - ties).sum()) / (total**3 - total)
    by_chance = (total + 1) / (12 * m * n) * untied
    # The same scale: a row's place among the reference's.
    between, pieces = _between((own[0] - 0.5) / m, fold.groups)
    variance = by_chance + between * (1 + 1 / pieces if pieces else 1)
    z = (auc - 0.5) / sqrt(variance) if variance > 0 else 0.0
    return auc, sqrt(delong), z, pieces - 1 if between > 0 else None


def _between(places: Floats, groups: Groups | None) -> tuple[float, int]:
    """Return the variance between the pieces' true means, 0 where chance explains it."""
    if groups is None:
        return 0.0, 0
    _, codes = np.unique(groups, return_inverse=True)
    sizes = np.bincount(codes).astype(np.float64)
    count, rows = len(sizes), len(places)
    if count < FEWEST_GROUPS or rows <= count:
        return 0.0, 0
    means = np.bincount(codes, weights=places) / sizes
    among = float((sizes * (means - places.mean()) ** 2).sum()) / (count - 1)
    within = float(((places - means[codes]) ** 2).sum()) / (rows - count)
    if within <= 0 or fdtrc(count - 1, rows - count, among / within) >= UNSTEADY:
        return 0.0, count
    typical = (rows - float((sizes**2).sum()) / rows) / (count - 1)
    return max((among - within) / typical, 0.0), count


def _interval(auc: float, error: float, fewest: int) -> tuple[float, float]:
    if error <= 0 or not 0 < auc < 1:
        # Rule of three: what has not happened in n rows may have a probability of 3/n.
        return max(auc - 3 / fewest, 0.0), min(auc + 3 / fewest, 1.0)
    centre, spread = np.log(auc / (1 - auc)), _NORMAL_95 * error / (auc * (1 - auc))
    low, high = (1 / (1 + np.exp(-np.clip(centre + sign * spread, -500, 500))) for sign in (-1, 1))
    return float(low), float(high)
