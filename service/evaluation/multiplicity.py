"""Many tests in one window, and one error rate over all of them."""

from collections.abc import Sequence
from math import expm1, log1p

import numpy as np
from numpy.typing import NDArray


def sidak_level(alpha: float, tests: int) -> float:
    """Return the level of each of ``tests`` so that all together err with ``alpha``.

    Parameters
    ----------
    alpha
        In (0, 1).
    tests
        At least 1; fewer count as 1.

    Returns
    -------
    float
        ``1 - (1 - alpha) ** (1 / tests)``: exact for independent tests, safe for positively
        dependent ones.

    References
    ----------
    Z. Šidák, Rectangular confidence regions, J. Am. Stat. Assoc. 62 (1967).

    Examples
    --------
    >>> round(sidak_level(0.0975, 2), 6)
    0.05
    """
    return -expm1(log1p(-alpha) / max(tests, 1))


def sidak_adjust(p_value: float, tests: int) -> float:
    """Return the p-value of the smallest of ``tests``: ``1 - (1 - p) ** tests``.

    Examples
    --------
    >>> round(sidak_adjust(0.05, 2), 6)
    0.0975
    """
    if p_value >= 1:
        return 1.0
    return -expm1(max(tests, 1) * log1p(-p_value))


def holm_adjust(p_values: Sequence[float]) -> list[float]:
    """Return Holm's p-values, each of which compares to the level over all of them.

    Parameters
    ----------
    p_values
        In any order, and however they depend on each other.

    Returns
    -------
    list of float
        In the same order, in [0, 1].

    References
    ----------
    S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6 (1979).

    Examples
    --------
    >>> holm_adjust([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [1.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for left, position in zip(range(len(order), 0, -1), order, strict=True):
        largest = max(largest, min(left * p_values[position], 1.0))
        adjusted[position] = largest
    return adjusted


def tarone_count(smallest: NDArray[np.float64], alpha: float) -> int:
    """Return by how many tests to divide the level, leaving out those that cannot reach it.

    Parameters
    ----------
    smallest
        The smallest p-value that each test could give, shape ``(n_tests,)``.
    alpha
        The level over all of them.

    Returns
    -------
    int
        The smallest K, at least 1, with at most K tests that could reach ``alpha / K``.

    References
    ----------
    R. E. Tarone, A modified Bonferroni method for discrete data, Biometrics 46 (1990).

    Examples
    --------
    >>> import numpy as np
    >>> tarone_count(np.array([1e-9, 0.002, 0.004, 0.3]), 0.005)  # only two can reach 0.0025
    2
    """
    ordered = np.sort(smallest)
    counts = np.arange(1, len(ordered) + 1)
    # K fits as soon as the test after the K smallest cannot reach alpha / K.
    following = np.append(ordered[1:], np.inf)
    fitting = counts[following > alpha / counts]
    return int(fitting[0]) if len(fitting) else 1
