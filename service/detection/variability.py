"""The reference's own variability: how far its chunks differ by more than chance."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from service.detection.calibration import chi2_quantile, chi2_tail, pearson_x2

Counts = NDArray[np.int64]

SIGNIFICANT = 0.05
FEWEST_CHUNKS = 2
SMALLEST_TAIL = 1e-300


@dataclass(frozen=True, slots=True)
class Variability:
    """``rho``: the variance between windows per degree of freedom, beyond chance, of one row.

    ``chunks`` is how many pieces of the reference it was learnt from; ``rho`` is 0 where these
    agree, or where there are fewer than two.
    """

    rho: float
    chunks: int


STEADY = Variability(0.0, 0)


def measure_variability(
    chunks: Counts, statistic: Callable[[Counts], tuple[float, int]] = pearson_x2
) -> Variability:
    """Measure how much more the chunks of a reference differ than independent rows would.

    Parameters
    ----------
    chunks
        Rows, shape ``(n_chunks, n_groups)``, each chunk about as long as a window.
    statistic
        Of a table of windows by groups, with its degrees of freedom: the one that a window is
        judged by.

    Returns
    -------
    Variability
        rho = (X²/df - 1)/n_chunk if chunks disagree (p < .05), 0 otherwise: a plain "mean + 3 sd
        of the chunks" costs a third of the power when nothing is wrong.

    References
    ----------
    J. Rao and A. Scott, On chi-squared tests for multiway contingency tables, Ann. Stat. 12 (1984).

    Examples
    --------
    >>> import numpy as np
    >>> measure_variability(np.array([[50, 50], [52, 48], [49, 51]])).rho
    0.0
    >>> round(measure_variability(np.array([[50, 50], [70, 30], [30, 70]])).rho, 2)
    0.15
    """
    sizes = chunks.sum(axis=1) if len(chunks) else np.zeros(0)
    filled = int((sizes > 0).sum())
    if filled < FEWEST_CHUNKS:
        return STEADY
    x2, df = statistic(chunks)
    if df == 0 or chi2_tail(x2, df) >= SIGNIFICANT:
        return Variability(0.0, filled)
    per_chunk = float(sizes.sum()) / filled
    return Variability(max(x2 / df - 1, 0.0) / per_chunk, filled)


def critical_statistic(tail: float, df: int, spread: float, variability: Variability) -> float:
    """Return the statistic that an undrifted window exceeds with probability about ``tail``.

    Parameters
    ----------
    tail
        The level, in (0, 1).
    df
        Degrees of freedom of the comparison of two windows.
    spread
        1/n_reference + 1/n_current.
    variability
        Of the reference's chunks.

    Returns
    -------
    float
        χ²_{1-tail}(df) + df·rho·(1 + 1/K)/spread·F_{1-tail}(1, K - 1).

    Examples
    --------
    >>> round(critical_statistic(0.05, 1, 0.002, STEADY), 3)
    3.841
    >>> round(critical_statistic(0.05, 1, 0.002, Variability(0.001, 10)), 3)
    6.656
    """
    critical = chi2_quantile(tail, df)
    if variability.rho <= 0:
        return critical
    k = variability.chunks
    # F(1, k - 1) is the square of Student's t, whose lower tail keeps its digits near 0.
    f = float(stdtrit(k - 1, tail / 2)) ** 2
    return critical + df * variability.rho * (1 + 1 / k) / spread * f


def variable_tail(statistic: float, df: int, spread: float, variability: Variability) -> float:
    """Return the level at which the critical statistic equals this one: a p-value.

    Parameters
    ----------
    statistic, df, spread, variability
        As for :func:`critical_statistic`.

    Returns
    -------
    float
        In (0, 1]; the plain χ² tail where the reference is steady.

    Examples
    --------
    >>> round(variable_tail(6.656, 1, 0.002, Variability(0.001, 10)), 3)
    0.05
    """
    if variability.rho <= 0 or df == 0:
        return chi2_tail(statistic, df)
    low, high = float(np.log(SMALLEST_TAIL)), 0.0
    for _ in range(40):
        middle = (low + high) / 2
        if critical_statistic(exp(middle), df, spread, variability) > statistic:
            low = middle
        else:
            high = middle
    return exp(high)
