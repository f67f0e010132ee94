"""Drift scores from information theory: how far apart two windows of one column are."""

from math import log

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class EmptyWindowError(ValueError):
    """A window without rows has no distribution to compare."""

    def __init__(self, side: str) -> None:
        super().__init__(f"the {side} window has no rows")


def jensen_shannon_divergence(reference: Floats, current: Floats) -> float:
    """Measure the mean information, in nats, that a row has on which window it is from.

    Parameters
    ----------
    reference, current
        Rows per bin, shape ``(n_bins,)``, the same bins on both sides.

    Returns
    -------
    float
        The divergence in nats, ``0 .. ln 2``; the windows weigh the same whatever their sizes.

    Raises
    ------
    EmptyWindowError
        If either window has no rows.  Too little data is not "no drift".

    References
    ----------
    J. Lin, Divergence measures based on the Shannon entropy, IEEE Trans. Inf. Theory 37 (1991).

    Examples
    --------
    >>> import numpy as np
    >>> round(jensen_shannon_divergence(np.array([5.0, 0.0]), np.array([0.0, 9.0])), 6)
    0.693147
    """
    p, q = proportions(reference, current)
    middle = (p + q) / 2
    both = np.stack((p, q))
    # 0 log 0 is 0; where either side is positive, so is the middle.
    ratio = np.divide(both, middle, out=np.ones_like(both), where=both > 0)
    return max(float((both * np.log(ratio)).sum()) / 2, 0.0)


def jensen_shannon_distance(reference: Floats, current: Floats) -> float:
    """Measure the distance of two binned samples: the root of the divergence in bits.

    Parameters
    ----------
    reference, current
        Rows per bin, shape ``(n_bins,)``, edges taken from the reference alone;
        otherwise scores of successive windows would not be comparable.

    Returns
    -------
    float
        The distance, base 2, ``0 .. 1``; ``0`` for equal proportions, ``1`` for disjoint windows.

    Raises
    ------
    EmptyWindowError
        If either window has no rows.

    References
    ----------
    D. Endres and J. Schindelin, A new metric for probability distributions, 2003.

    Examples
    --------
    >>> import numpy as np
    >>> round(jensen_shannon_distance(np.array([3.0, 1.0]), np.array([1.0, 3.0])), 4)
    0.4344
    """
    divergence = jensen_shannon_divergence(reference, current)
    return float(min(divergence / log(2), 1.0) ** 0.5)


def population_stability_index(
    reference: Floats, current: Floats, *, pseudocount: float = 0.5
) -> float:
    """Measure how far two binned samples of one feature are apart.

    Parameters
    ----------
    reference, current
        Rows per bin, shape ``(n_bins,)``, edges taken from the reference alone.
    pseudocount
        Rows added per bin on either side, spread like the pooled sample, so that an empty bin has
        a finite logarithm and equal proportions keep the index 0.

    Returns
    -------
    float
        The index in nats, ``>= 0``; ``0.0`` when the proportions are equal.

    Raises
    ------
    EmptyWindowError
        If either window has no rows.  Too little data is not "no drift".

    References
    ----------
    H. Jeffreys, An invariant form for the prior probability, Proc. R. Soc. A 186 (1946).

    Examples
    --------
    >>> import numpy as np
    >>> half, tenth = np.array([50.0, 50.0]), np.array([90.0, 10.0])
    >>> round(population_stability_index(half, tenth, pseudocount=0), 4)  # 0.4 ln 9
    0.8789
    """
    p, q = proportions(reference, current)
    present = (p + q) > 0
    p, q = p[present], q[present]
    n_p, n_q = float(np.sum(reference)), float(np.sum(current))
    pooled = (p * n_p + q * n_q) / (n_p + n_q)
    extra = pseudocount * len(p)
    p = (p * n_p + extra * pooled) / (n_p + extra)
    q = (q * n_q + extra * pooled) / (n_q + extra)
    return max(float(((q - p) * np.log(q / p)).sum()), 0.0)


def proportions(reference: Floats, current: Floats) -> tuple[Floats, Floats]:
    """Return both windows' rows as shares of their sum, or raise ``EmptyWindowError``."""
    n_reference, n_current = float(np.sum(reference)), float(np.sum(current))
    if not n_reference > 0:
        raise EmptyWindowError("reference")  # noqa: EM101 - the error builds its own message
    if not n_current > 0:
        raise EmptyWindowError("current")  # noqa: EM101 - the error builds its own message
    return np.asarray(reference) / n_reference, np.asarray(current) / n_current
