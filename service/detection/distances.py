"""Distances of two binned samples that do not ask in which order the bins stand."""

import numpy as np

from service.detection.drift import Floats, proportions


def total_variation_distance(reference: Floats, current: Floats) -> float:
    """Measure the share of rows that would have to change their bin.

    Parameters
    ----------
    reference, current
        Rows per bin, shape ``(n_bins,)``, the same bins on both sides.

    Returns
    -------
    float
        Half of the sum of the differences in proportion, ``0 .. 1``: the largest difference in
        probability that any set of bins has.  ``0`` for equal proportions, ``1`` for disjoint
        windows.

    Raises
    ------
    EmptyWindowError
        If either window has no rows.

    References
    ----------
    D. Levin and Y. Peres, Markov Chains and Mixing Times, chapter 4 (2017).

    Examples
    --------
    >>> import numpy as np
    >>> total_variation_distance(np.array([50.0, 50.0]), np.array([90.0, 10.0]))
    0.4
    """
    p, q = proportions(reference, current)
    return float(min(np.abs(p - q).sum() / 2, 1.0))


def hellinger_distance(reference: Floats, current: Floats) -> float:
    """Measure how far the roots of the proportions are apart.

    Parameters
    ----------
    reference, current
        Rows per bin, shape ``(n_bins,)``, the same bins on both sides.

    Returns
    -------
    float
        The distance, ``0 .. 1``; ``0`` for equal proportions, ``1`` for disjoint windows.

    Raises
    ------
    EmptyWindowError
        If either window has no rows.

    References
    ----------
    E. Hellinger, Neue Begründung der Theorie quadratischer Formen von unendlichvielen
    Veränderlichen, J. Reine Angew. Math. 136 (1909).

    Examples
    --------
    >>> import numpy as np
    >>> round(hellinger_distance(np.array([1.0, 0.0]), np.array([1.0, 3.0])), 6)  # sqrt(1/2)
    0.707107
    """
    p, q = proportions(reference, current)
    # The sum of squares keeps its digits where 1 - sum(sqrt(p q)) would round to 0.
    return float(min((np.square(np.sqrt(p) - np.sqrt(q)).sum() / 2) ** 0.5, 1.0))
