"""Distances of two samples of numbers, whose bins have an order and a place."""

import sys

import numpy as np

from service.detection.drift import Floats, proportions


def kolmogorov_smirnov_distance(reference: Floats, current: Floats) -> float:
    """Measure the largest difference of the two cumulated distributions.

    Parameters
    ----------
    reference, current
        Rows per bin, shape ``(n_bins,)``, bins in the order of their values.

    Returns
    -------
    float
        The distance, ``0 .. 1``, of the rows as the bins tell them apart: at most that of the rows
        themselves, and equal to it where a bin edge lies at the largest difference.

    Raises
    ------
    EmptyWindowError
        If either window has no rows.

    References
    ----------
    N. Smirnov, Table for estimating the goodness of fit of empirical distributions, Ann. Math.
    Stat. 19 (1948).

    Examples
    --------
    >>> import numpy as np
    >>> kolmogorov_smirnov_distance(np.array([1.0, 2.0, 1.0]), np.array([3.0, 1.0, 0.0]))
    0.5
    """
    p, q = proportions(reference, current)
    return float(min(np.abs(np.cumsum(p - q)).max(), 1.0))


def wasserstein_distance(
    reference: Floats, current: Floats, places: tuple[Floats, Floats], deviation: float
) -> float:
    """Measure how far a row has to move on average to turn one window into the other.

    Parameters
    ----------
    reference, current
        Rows per bin, shape ``(n_bins,)``, in any order.
    places
        The mean of each side's values in each bin, shape ``(n_bins,)`` each; not looked at where
        the side has no row.  Rows count at that mean, so that a shift beyond the last edge counts
        in full.
    deviation
        The reference's standard deviation, ``> 0``.

    Returns
    -------
    float
        The first Wasserstein distance in standard deviations of the reference, ``>= 0``; never
        infinite, but at most the largest float.

    Raises
    ------
    EmptyWindowError
        If either window has no rows.

    References
    ----------
    S. Vallender, Calculation of the Wasserstein distance between probability distributions on the
    line, Theory Probab. Appl. 18 (1974).

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.array([1.0, 1.0])
    >>> places = np.array([0.0, 10.0]), np.array([1.0, 11.0])
    >>> wasserstein_distance(rows, rows, places, 5.0)
    0.2
    """
    sides = zip(proportions(reference, current), places, (1.0, -1.0), strict=True)
    mass, where = [], []
    for share, place, sign in sides:
        mass.append(sign * share[share > 0])
        where.append(place[share > 0])
    at = np.concatenate(where)
    order = np.argsort(at, kind="stable")
    between = np.abs(np.cumsum(np.concatenate(mass)[order])[:-1])
    with np.errstate(over="ignore"):
        distance = float(between @ np.diff(at[order])) / deviation
    return min(distance, sys.float_info.max)
