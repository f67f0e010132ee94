"""Average precision from a score histogram: scikit-learn's sum, with what order bins hide."""

import numpy as np
from scipy.special import digamma

from service.profiles.profile import Counts, Floats


def average_precision(
    positives: Floats, negatives: Floats, rows: tuple[Counts, Counts], edges: Floats | None
) -> float:
    """Return the mean, over the positives, of the precision among rows scored as high or higher.

    Parameters
    ----------
    positives, negatives
        Σw by score bin, ascending in the score, shape ``(n_bins,)``; the first with a positive sum.
    rows
        Rows of either class, in the same shape; not looked at without ``edges``.
    edges
        Inner edges of the histogram, shape ``(n_bins - 1,)``; ``None`` where each bin is one score.

    Returns
    -------
    float
        In [0, 1].  A bin of one value is a tie, as scikit-learn counts it.  In any other, rows are
        taken to differ and to be in random order: the j-th of p positives has j/(p + 1) of the
        bin's negatives above it on average, and the sum over j is a difference of digammas.
        Within 1e-4 of scikit-learn for a reference's own scores, where those that are no bins
        differ; within 5e-4 where many classes share the bins, or where scores have three digits.

    References
    ----------
    M. Zhu, "Recall, precision and average precision", 2004.

    Examples
    --------
    >>> rows = np.array([0, 1, 1]), np.array([1, 1, 0])
    >>> value = average_precision(rows[0] * 1.0, rows[1] * 1.0, rows, np.array([0.3, 0.6]))
    >>> round(value, 4)  # (1 + 2/2.5) / 2
    0.9
    """
    above = np.cumsum(positives[::-1])[::-1] - positives
    all_above = above + np.cumsum(negatives[::-1])[::-1] - negatives
    own = positives > 0
    w, total, hits, ranked = positives[own], negatives[own], above[own], all_above[own]
    precision = (hits + w) / (ranked + w + total)
    if edges is None:
        return float(min(w @ precision / w.sum(), 1.0))
    n = np.maximum(rows[0][own], 1)
    step = w / n
    pace = step + total / (n + 1)
    start = ranked / pace
    spread = digamma(start + n + 1) - digamma(start + 1)
    mixed = step / pace * n + (hits - step * start) / pace * spread
    ordered = np.clip(mixed / n, 0.0, 1.0)
    precision = np.where(ties(edges)[own], precision, ordered)
    return float(min(w @ precision / w.sum(), 1.0))


def average_precision_gradient(positives: Floats, negatives: Floats) -> tuple[Floats, Floats]:
    """Return how average precision changes with the weight of a row of each bin.

    Parameters
    ----------
    positives, negatives
        As for ``average_precision``.

    Returns
    -------
    tuple of Floats
        Of positives and of negatives, each of shape ``(n_bins,)``, with ties in every bin; both
        weighted sums of them vanish together, for the metric has no scale.
    """
    hits, misses = np.cumsum(positives[::-1])[::-1], np.cumsum(negatives[::-1])[::-1]
    ranked = hits + misses
    seen = ranked > 0
    precision = np.divide(hits, ranked, out=np.zeros(len(hits)), where=seen)
    whole = float(positives.sum())
    share = positives / whole
    value = float(share @ precision)
    square = ranked * ranked
    up = np.divide(share * misses, square, out=np.zeros(len(hits)), where=seen)
    down = np.divide(share * hits, square, out=np.zeros(len(hits)), where=seen)
    # A row counts in the precision at its own bin and at every bin below.
    return (precision - value) / whole + np.cumsum(up), -np.cumsum(down)


def precision_with_variance(
    counts: Counts, weights: Floats, effective: tuple[float, float], edges: Floats | None
) -> tuple[float, float]:
    """Return average precision and its variance by the delta method.

    Parameters
    ----------
    counts, weights
        Rows and Σw by label (negative first) and score bin, shape ``(2, n_bins)``, Σw of both above
        0.
    effective
        Rows of each label that the weights are worth (Kish).
    edges
        Inner edges of the histogram, shape ``(n_bins - 1,)``; ``None`` where each bin is one score.

    Returns
    -------
    tuple of float
        In [0, 1], and ``>= 0``.
    """
    # Only their proportions matter, and squares of very large ones would overflow.
    negatives, positives = weights / weights.sum()
    value = average_precision(positives, negatives, (counts[1], counts[0]), edges)
    up, down = average_precision_gradient(positives, negatives)
    # Σw² of a class by Kish, spread over its bins like Σw.
    variance = sum(
        part.sum() / max(size, 1.0) * (part @ gradient**2)
        for part, gradient, size in (
            (negatives, down, effective[0]),
            (positives, up, effective[1]),
        )
    )
    return value, float(variance)


def ties(edges: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which bins of the histogram hold one value only, shape ``(len(edges) + 1,)``.

    Examples
    --------
    >>> ties(np.array([5e-324, 0.25, np.nextafter(0.25, 1.0), 1.0])).tolist()
    [True, False, True, False, True]
    """
    bounds = np.concatenate(([0.0], edges, [1.0]))
    single: np.ndarray[tuple[int], np.dtype[np.bool_]] = (
        np.nextafter(bounds[:-1], np.inf) >= bounds[1:]
    )
    return single
