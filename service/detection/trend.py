"""Whether a numeric column moved up or down: few alternatives, hence much power for them."""

import numpy as np
from numpy.typing import NDArray

from service.profiles.binning import NumericBins

Counts = NDArray[np.int64]


def order_bins(bins: NumericBins) -> NDArray[np.intp]:
    """Return all bins in the order of their values, atoms among the fine bins they lie in.

    Examples
    --------
    >>> import numpy as np
    >>> order_bins(NumericBins(np.array([0.0, 1.0, 2.0]), np.array([1.7]), 0.0, 2.0)).tolist()
    [0, 1, 2, 4, 3]
    """
    middles = (bins.edges[:-1] + bins.edges[1:]) / 2 if len(bins.edges) else bins.edges
    return np.argsort(np.concatenate(([-np.inf], middles, [np.inf], bins.atoms)), kind="stable")


def rank_statistic(table: Counts) -> tuple[float, int]:
    """Return the rank statistic of a table of windows by bins in the order of their values.

    Parameters
    ----------
    table
        Rows, shape ``(n_windows, n_bins)``, bins in ascending order.  Rows of one bin are ties.

    Returns
    -------
    tuple[float, int]
        Kruskal and Wallis's H with its correction for ties (for two windows, the square of
        Wilcoxon's rank sum in its standard deviations), and windows - 1; 0 and 0 when all rows are
        ties or of one window.

    References
    ----------
    W. Kruskal and W. Wallis, Use of ranks in one-criterion variance analysis, J. Am. Stat. Assoc.
    47 (1952).

    Examples
    --------
    >>> import numpy as np
    >>> statistic, df = rank_statistic(np.array([[2, 1, 0], [0, 1, 2]]))
    >>> round(statistic, 4), df
    (3.3333, 1)
    """
    rows = table.sum(axis=1)
    table, rows = table[rows > 0], rows[rows > 0]
    pooled = table.sum(axis=0)
    total = int(pooled.sum())
    ranks = np.cumsum(pooled) - pooled / 2 - total / 2
    spread = float(pooled @ np.square(ranks))
    if len(rows) <= 1 or spread <= 0:
        return 0.0, 0
    means = (table @ ranks) / rows
    return (total - 1) * float(rows @ np.square(means)) / spread, len(rows) - 1
