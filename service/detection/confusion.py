"""Metrics of a binary confusion matrix, with their derivatives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from service.profiles.profile import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Ratio:
    """A ratio of two linear forms in the confusion matrix (label by prediction)."""

    numerator: NDArray[np.float64]
    denominator: NDArray[np.float64]
    empty: str


def _ratio(numerator: Sequence[int], denominator: Sequence[int], empty: str) -> Ratio:
    """Build a ratio from weights for true negatives, false positives, false negatives, hits."""
    shaped = [np.array(form, dtype=np.float64).reshape(2, 2) for form in (numerator, denominator)]
    return Ratio(shaped[0], shaped[1], empty)


SINGLE_CLASS = "single_class"
RATIOS: Mapping[str, Ratio] = MappingProxyType(
    {
        "accuracy": _ratio((1, 0, 0, 1), (1, 1, 1, 1), "no_rows"),
        "precision": _ratio((0, 0, 0, 1), (0, 1, 0, 1), "no_predicted_positives"),
        "recall": _ratio((0, 0, 0, 1), (0, 0, 1, 1), SINGLE_CLASS),
        "f1": _ratio((0, 0, 0, 2), (0, 1, 1, 2), "no_positives"),
        "false_positive_rate": _ratio((0, 1, 0, 0), (1, 1, 0, 0), SINGLE_CLASS),
        "false_negative_rate": _ratio((0, 0, 1, 0), (0, 0, 1, 1), SINGLE_CLASS),
        "label_rate": _ratio((0, 0, 1, 1), (1, 1, 1, 1), "no_rows"),
    }
)
SPECIFICITY = _ratio((1, 0, 0, 0), (1, 1, 0, 0), SINGLE_CLASS)


def confusion_metric(name: str, confusion: Floats) -> tuple[float, Floats] | str:
    """Compute a metric of the confusion matrix and its gradient.

    Parameters
    ----------
    name
        ``accuracy``, ``balanced_accuracy``, ``precision``, ``recall``, ``f1``,
        ``matthews_corrcoef``, ``false_positive_rate``, ``false_negative_rate`` or ``label_rate``.
    confusion
        Σw by label and prediction, negative first, shape ``(2, 2)``.

    Returns
    -------
    tuple of float and Floats, or str
        The value, and its derivative by each cell, shape ``(2, 2)``; or the reason why there is
        none.  All metrics are homogeneous of degree 0, hence Σ cell · gradient = 0.

    Examples
    --------
    >>> confusion_metric("recall", np.array([[5.0, 5.0], [1.0, 3.0]]))[0]
    0.75
    """
    if name == "balanced_accuracy":
        rates = [_ratio_metric(form, confusion) for form in (RATIOS["recall"], SPECIFICITY)]
        if any(isinstance(rate, str) for rate in rates):
            return SINGLE_CLASS
        values, gradients = zip(*(rate for rate in rates if not isinstance(rate, str)), strict=True)
        return sum(values) / 2, (gradients[0] + gradients[1]) / 2
    if name == "matthews_corrcoef":
        return _matthews(confusion)
    return _ratio_metric(RATIOS[name], confusion)


def _ratio_metric(form: Ratio, confusion: Floats) -> tuple[float, Floats] | str:
    total = float((form.denominator * confusion).sum())
    if total <= 0:
        return form.empty
    value = float((form.numerator * confusion).sum()) / total
    return value, (form.numerator - value * form.denominator) / total


def _matthews(confusion: Floats) -> tuple[float, Floats] | str:
    labels, predictions = confusion.sum(axis=1), confusion.sum(axis=0)
    if not labels.all():
        return SINGLE_CLASS
    if not predictions.all():
        # Predictions that never change are uncorrelated with anything.
        return 0.0, np.zeros((2, 2))
    (tn, fp), (fn, tp) = confusion / confusion.sum()
    scale = float(
        np.sqrt(np.prod(labels / confusion.sum()) * np.prod(predictions / confusion.sum()))
    )
    value = float((tp * tn - fp * fn) / scale)
    cofactors = np.array([[tp, -fn], [-fp, tn]]) / (scale * confusion.sum())
    margins = 1 / labels[:, None] + 1 / predictions[None, :]
    return value, cofactors - value / 2 * margins
