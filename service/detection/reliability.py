"""How far scores are from the frequencies that they promise."""

import numpy as np

from service.profiles.arrays import score_representatives
from service.profiles.profile import Floats

GROUPS = 10
METHOD = "ten_bins_without_interval"


def calibration_error(positives: Floats, negatives: Floats, edges: Floats) -> float:
    """Return the expected calibration error over ten bins of equal width.

    Parameters
    ----------
    positives, negatives
        Σw by score bin, ascending in the score, shape ``(n_bins,)``, together above 0.
    edges
        Inner edges of the histogram, shape ``(n_bins - 1,)``.

    Returns
    -------
    float
        Σ over bins of their share times |frequency of positives - mean score|, in [0, 1], within
        1e-3 of the same sum over rows.  Perfectly calibrated scores have about
        ``sqrt(10 / n) / 3`` of it by chance alone, which no symmetric interval expresses: it has
        none.

    References
    ----------
    C. Guo et al., "On calibration of modern neural networks", 2017.

    Examples
    --------
    >>> edges = np.array([0.5])
    >>> calibration_error(np.array([1.0, 2.0]), np.array([3.0, 2.0]), edges)  # 0 and .25
    0.125
    """
    scores, weights = score_representatives(edges), positives + negatives
    group = np.minimum((scores * GROUPS).astype(np.int64), GROUPS - 1)
    found = np.bincount(group, weights=positives, minlength=GROUPS)
    promised = np.bincount(group, weights=weights * scores, minlength=GROUPS)
    return float(np.abs(found - promised).sum() / weights.sum())
