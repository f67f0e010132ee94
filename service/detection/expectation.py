"""What a binary model's metrics are expected to be, given each row's probability of its label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.detection.confusion import RATIOS, confusion_metric
from service.detection.performance import placements
from service.profiles.profile import Floats

ESTIMATED = ("roc_auc", "accuracy", "precision", "recall", "f1")
HITS = "hits"


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """A metric's expectation, and what a row adds to it if its label is positive or negative.

    ``hit`` and ``miss`` have the shape ``(2, n_bins)``, by predicted class and score bin;
    ``support`` is the expected Σw of the smallest group that the metric needs.
    """

    value: float
    hit: Floats
    miss: Floats
    support: float


def expect(name: str, weights: Floats, probabilities: Floats) -> Expected | str:
    """Compute what a metric is expected to be, if rows are positive with these probabilities.

    Parameters
    ----------
    name
        One of ``ESTIMATED``, or ``HITS``: the share of rows that are rightly predicted positive.
    weights
        Σw by predicted class (negative, positive) and score bin, shape ``(2, n_bins)``.
    probabilities
        Of the positive class by score bin, shape ``(n_bins,)``, in [0, 1].

    Returns
    -------
    Expected or str
        Or the reason why there is none.
    """
    positive, negative = weights * probabilities, weights * (1 - probabilities)
    if name == "roc_auc":
        positives, negatives = positive.sum(axis=0), negative.sum(axis=0)
        if not positives.sum() > 0 or not negatives.sum() > 0:
            return "single_class"
        above, below = placements(positives, negatives)
        value = float(positives @ above / positives.sum())
        hit, miss = (above - value) / positives.sum(), (below - value) / negatives.sum()
        smaller = float(min(positives.sum(), negatives.sum()))
        return Expected(value, np.stack([hit, hit]), np.stack([miss, miss]), smaller)
    if name == HITS:
        total = float(weights.sum())
        value = float(positive[1].sum()) / total
        miss = np.full(weights.shape, -value / total)
        return Expected(value, miss + np.array([[0.0], [1 / total]]), miss, total)
    confusion = np.stack([negative.sum(axis=1), positive.sum(axis=1)])
    result = confusion_metric(name, confusion)
    if isinstance(result, str):
        return result
    value, gradient = result
    shape = weights.shape
    return Expected(
        value,
        np.broadcast_to(gradient[1][:, None], shape),
        np.broadcast_to(gradient[0][:, None], shape),
        float(confusion[RATIOS[name].denominator > 0].sum()),
    )


def expected_values(
    weights: Floats, probabilities: Floats, names: Sequence[str] = ESTIMATED
) -> dict[str, float]:
    """Return the metrics' expectations by name, as far as they have any."""
    expected = {name: expect(name, weights, probabilities) for name in names}
    return {name: e.value for name, e in expected.items() if not isinstance(e, str)}


def realised_values(by_score: Floats, confusion: Floats) -> dict[str, float]:
    """Return the metrics of labelled rows by name, as far as they have a value.

    Parameters
    ----------
    by_score
        Σw by label and score bin, ascending in the score, shape ``(2, n_bins)``.
    confusion
        Σw by label and prediction, negative first, shape ``(2, 2)``.

    Returns
    -------
    dict of str to float
        By name in ``ESTIMATED``, and ``HITS``.

    Examples
    --------
    >>> found = realised_values(np.array([[3.0, 1.0], [0.0, 4.0]]), np.array([[3, 1], [0, 4.0]]))
    >>> found["roc_auc"], found["accuracy"], found["hits"]
    (0.875, 0.875, 0.5)
    """
    negatives, positives = by_score
    values = {}
    if confusion.sum() > 0:
        values[HITS] = float(confusion[1, 1] / confusion.sum())
    if negatives.sum() > 0 and positives.sum() > 0:
        above, _ = placements(positives, negatives)
        values["roc_auc"] = float(positives @ above / positives.sum())
    for name in ESTIMATED[1:]:
        result = confusion_metric(name, confusion)
        if not isinstance(result, str):
            values[name] = result[0]
    return values
