"""How probable a difference between two windows is if nothing changed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, chdtri

from service.detection.drift import jensen_shannon_divergence

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Homogeneity:
    """Two windows compared under χ²: ``statistic`` is the smaller of both statistics.

    ``jsd`` is 8·JSD/(1/n_reference + 1/n_current) and ``x2`` Pearson's; both are about χ² with
    ``df`` degrees of freedom if nothing changed.  ``spread`` is 1/n_reference + 1/n_current.
    """

    jsd: float
    x2: float
    df: int
    spread: float

    @property
    def statistic(self) -> float:
        """Return the smaller statistic, whose p-value is the larger."""
        return min(self.jsd, self.x2)


def pearson_x2(table: Counts | NDArray[np.float64]) -> tuple[float, int]:
    """Return Pearson's X² of a table of windows by bins, and its degrees of freedom.

    Parameters
    ----------
    table
        Rows, shape ``(n_windows, n_bins)``; bins and windows without any row are left out.

    Returns
    -------
    tuple[float, int]
        X² ``>= 0``, and ``(windows - 1) · (bins - 1)``, 0 when there is nothing to compare.

    References
    ----------
    K. Pearson, On the probability that two independent distributions of frequency are really
    samples from the same population, Biometrika 8 (1911).

    Examples
    --------
    >>> import numpy as np
    >>> pearson_x2(np.array([[10, 20, 0], [20, 10, 0]]))  # 4 cells, each 25 / 15
    (6.666666666666667, 1)
    """
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    if not (rows.all() and columns.all()):
        table = table[rows > 0][:, columns > 0]
        rows, columns = rows[rows > 0], columns[columns > 0]
    if min(table.shape, default=0) <= 1:
        return 0.0, 0
    expected = np.outer(rows, columns) / rows.sum()
    x2 = float((np.square(table - expected) / expected).sum())
    return x2, (table.shape[0] - 1) * (table.shape[1] - 1)


def homogeneity(reference: Counts, current: Counts) -> Homogeneity:
    """Compare two windows by both statistics.

    Either alone reaches 3 to 9 times its level where bins are sparse, on opposite sides of the
    truth; the larger p-value of both stays within 1.1 times.

    Parameters
    ----------
    reference, current
        Rows per group, shape ``(n_groups,)``, each with at least one row.

    Returns
    -------
    Homogeneity
        Both statistics with their degrees of freedom.

    Raises
    ------
    EmptyWindowError
        If either window has no rows.

    Examples
    --------
    >>> import numpy as np
    >>> compared = homogeneity(np.array([30, 70]), np.array([70, 30]))
    >>> round(compared.x2, 6), round(compared.jsd, 2), compared.df
    (32.0, 32.91, 1)
    """
    divergence = jensen_shannon_divergence(reference.astype(np.float64), current.astype(np.float64))
    x2, df = pearson_x2(np.stack((reference, current)))
    spread = 1 / int(reference.sum()) + 1 / int(current.sum())
    return Homogeneity(8 * divergence / spread, x2, df, spread)


def chi2_tail(statistic: float, df: int) -> float:
    """Return P(χ² >= statistic); 1 when there is no degree of freedom.

    Examples
    --------
    >>> round(chi2_tail(3.841459, 1), 6)
    0.05
    """
    return float(chdtrc(df, statistic)) if df > 0 else 1.0


def chi2_quantile(tail: float, df: int) -> float:
    """Return the statistic that χ² exceeds with probability ``tail``.

    Examples
    --------
    >>> round(chi2_quantile(0.05, 1), 6)
    3.841459
    """
    return float(chdtri(df, tail)) if df > 0 else 0.0
