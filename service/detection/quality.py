"""Exact tests of data quality: ratios beyond what the reference and chance explain."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, betaln, gammaln

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

BLOCK = 4096
NEGLIGIBLE = 1e-18


def binomial_tail(count: int, rows: int, probability: float) -> float:
    """Return P(X >= count) of ``rows`` independent rows that each count with ``probability``.

    Examples
    --------
    >>> round(binomial_tail(2, 3, 0.5), 6)
    0.5
    """
    if count <= 0:
        return 1.0
    if count > rows:
        return 0.0
    return float(bdtrc(count - 1, rows, min(max(probability, 0.0), 1.0)))


def beta_binomial_tail(count: int, rows: int, a: float, b: float) -> float:
    """Return P(X >= count) where each row counts with an unknown probability ~ Beta(a, b).

    With ``a = 2`` and ``b = n_reference - 1`` these are the rows beyond the minimum and maximum of
    a reference of ``n_reference``, whatever the distribution, as long as it is continuous; ties
    make it smaller.

    Parameters
    ----------
    count, rows
        Rows that count, of all rows of the window.
    a, b
        Parameters of the beta distribution, ``> 0``.

    Returns
    -------
    float
        In [0, 1].

    References
    ----------
    S. S. Wilks, Determination of sample sizes for setting tolerance limits, Ann. Math. Stat. 12
    (1941).

    Examples
    --------
    >>> round(beta_binomial_tail(1, 1, 2, 99), 6)  # 2 of 101 places are outside
    0.019802
    """
    if count <= 0:
        return 1.0
    if count > rows:
        return 0.0
    if count * (a + b) <= rows * a:
        below = np.exp(_log_beta_binomial(np.arange(count), rows, a, b))
        return 1.0 - min(float(below.sum()), 1.0)
    # Beyond the mean the terms fall, in the end like a geometric series.
    total = 0.0
    for start in range(count, rows + 1, BLOCK):
        values = np.arange(start, min(start + BLOCK, rows + 1))
        terms = np.exp(_log_beta_binomial(values, rows, a, b))
        total += float(terms.sum())
        if terms[-1] <= NEGLIGIBLE * total:
            break
    return min(total, 1.0)


def _log_beta_binomial(values: Counts, rows: int, a: float, b: float) -> Floats:
    choose = gammaln(rows + 1) - gammaln(values + 1) - gammaln(rows - values + 1)
    terms: Floats = choose + betaln(values + a, rows - values + b) - betaln(a, b)
    return terms


def unseen_prior(rows: int, singletons: int, doubletons: int) -> tuple[float, float]:
    """Return the beta distribution of the share of values that a reference has not seen.

    Good and Turing: rows whose value occurs once tell how many values occur never.  The mean is
    (s + 1)/n; s + 2d + 1 is the variance of its error in rows.

    Parameters
    ----------
    rows
        Rows of the reference with a value, ``>= 1``.
    singletons, doubletons
        Values that occur exactly once, and exactly twice.

    Returns
    -------
    tuple[float, float]
        ``a`` and ``b``.  With neither it is Beta(1, n), which has the tail of Fisher's test.

    References
    ----------
    I. J. Good, The population frequencies of species, Biometrika 40 (1953); H. Robbins, Estimating
    the total probability of the unobserved outcomes of an experiment, Ann. Math. Stat. 39 (1968).

    Examples
    --------
    >>> unseen_prior(100, 0, 0)
    (1.0, 99.0)
    """
    mean = min((singletons + 1) / rows, 0.999)
    a = (singletons + 1) ** 2 / (singletons + 2 * doubletons + 1)
    return a, max(a * (1 - mean) / mean, 1e-6)


def good_turing_share(rows: int, singletons: int) -> float:
    """Return the share of rows with a value that the reference has not seen, as it predicts it.

    Examples
    --------
    >>> good_turing_share(200, 10)
    0.05
    """
    return min(singletons / rows, 1.0) if rows > 0 else 0.0


def stuck_tail(rows: int, reference: Counts) -> float:
    """Return how probable it is that all rows of a window have the same value.

    Given which values both windows have together, the window's are drawn from them without
    replacement: for each value that is the last term of Fisher's exact test, and the union over
    the values is at most their sum.

    Parameters
    ----------
    rows
        Rows of the window with a value, ``>= 1``.
    reference
        Rows of the reference per value, shape ``(n_values,)``; pooling values only makes the
        result larger.

    Returns
    -------
    float
        In [0, 1].

    Examples
    --------
    >>> round(stuck_tail(2, np.array([2, 2])), 6)  # 2 · C(4, 2) / C(6, 2)
    0.8
    """
    total = int(reference.sum())
    ways = gammaln(reference + rows + 1) - gammaln(reference + 1)
    all_ways = gammaln(total + rows + 1) - gammaln(total + 1)
    return min(float(np.exp(ways - all_ways).sum()), 1.0)
