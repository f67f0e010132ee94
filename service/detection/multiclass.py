"""Performance of a model of many classes, with intervals, from a mergeable profile."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from service.detection.performance import (
    DELONG,
    DELTA,
    WILSON,
    MetricValue,
    Z,
    auc_on_logit,
    finite,
    placements,
    wilson,
)
from service.profiles.profile import Floats, MulticlassProfile

MISSING_CLASS = "missing_class"
NOT_PREDICTED = "class_not_predicted"

# A metric's name, and the class that it is of; None is over all classes.
Key = tuple[str, str | None]


def measure_multiclass(
    profile: MulticlassProfile, names: Sequence[str] | None = None
) -> dict[Key, MetricValue]:
    """Compute metrics with 95 % intervals, over all classes and of each class.

    Parameters
    ----------
    profile
        Labelled rows.  None at all is allowed: every value is then ``None`` with a reason.
    names
        Which of ``MULTICLASS_METRICS``; all by default.

    Returns
    -------
    dict
        By name and class.  Without a class, ``precision``, ``recall``, ``f1`` and ``roc_auc`` (one
        class against the rest) are means over all classes ("macro"), and ``None`` where a class has
        no labelled row, for the mean over the others is another metric.  Values are weighted;
        Wilson intervals use Kish's effective size; those of means and of F1 come from the delta
        method.  The error of the mean AUC (DeLong, on the logit) is the mean of the classes'
        errors: an upper bound, reached where they are fully correlated.

    Raises
    ------
    KeyError
        If a name is none of ``MULTICLASS_METRICS``.

    References
    ----------
    D. J. Hand and R. J. Till, "A simple generalisation of the area under the ROC curve for multiple
    class classification problems", 2001.  E. R. DeLong et al., 1988.  L. Kish, 1965.
    """
    found: dict[Key, MetricValue] = {}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for name in MULTICLASS_METRICS if names is None else names:
            overall, by_class = MULTICLASS_METRICS[name]
            found[name, None] = finite(overall(name, profile))
            if by_class is not None:
                for position, label in enumerate(profile.names):
                    found[name, label] = finite(by_class(name, profile, position))
    return found


def _parts(name: str, table: Floats, position: int) -> tuple[float, float, Floats, Floats]:
    """Return numerator and denominator of a class's ratio, and which cells count in each."""
    k = len(table)
    numerator, denominator = np.zeros((k, k)), np.zeros((k, k))
    numerator[position, position] = 1.0
    if name != "precision":
        denominator[position, :] += 1.0
    if name != "recall":
        denominator[:, position] += 1.0
    if name == "f1":
        numerator *= 2
    return (
        float((table * numerator).sum()),
        float((table * denominator).sum()),
        numerator,
        denominator,
    )


def _empty(name: str, profile: MulticlassProfile) -> str:
    if not profile.labelled:
        return "no_rows"
    return NOT_PREDICTED if name == "precision" else MISSING_CLASS


def _class_ratio(name: str, profile: MulticlassProfile, position: int) -> MetricValue:
    top, bottom, numerator, denominator = _parts(name, profile.confusion_weights, position)
    used = denominator > 0
    n = int(profile.confusion[used].sum())
    method = DELTA if name == "f1" else WILSON
    if not bottom > 0:
        return MetricValue(None, n, method, reason=_empty(name, profile))
    value = top / bottom
    squares = profile.confusion_weights_squared
    n_eff = float(profile.confusion_weights[used].sum() ** 2 / squares[used].sum())
    gradient = (numerator - value * denominator) / bottom
    error = float(np.sqrt((squares * gradient**2).sum()))
    if name == "f1":
        low, high = _around(value, error, n_eff)
        return MetricValue(value, n, method, n_eff, n, None, low, high, value, error)
    low, high = wilson(value, n_eff)
    successes = int(profile.confusion[position, position])
    return MetricValue(value, n, method, n_eff, n, successes, low, high, value, error)


def _around(value: float, error: float, n_eff: float) -> tuple[float, float]:
    if error == 0:
        # Without a single error the delta method claims certainty.
        return wilson(value, n_eff)
    return max(value - Z * error, 0.0), min(value + Z * error, 1.0)


def _accuracy(_: str, profile: MulticlassProfile) -> MetricValue:
    weights, squares = profile.confusion_weights, profile.confusion_weights_squared
    total = float(weights.sum())
    if not total > 0:
        return MetricValue(None, profile.labelled, WILSON, reason="no_rows")
    value, n = float(np.trace(weights)) / total, profile.labelled
    gradient = (np.eye(len(weights)) - value) / total
    error = float(np.sqrt((squares * gradient**2).sum()))
    n_eff = total * total / float(squares.sum())
    low, high = wilson(value, n_eff)
    successes = int(np.trace(profile.confusion))
    return MetricValue(value, n, WILSON, n_eff, n, successes, low, high, value, error)


def _macro_ratio(name: str, profile: MulticlassProfile) -> MetricValue:
    """Return the mean of the classes' ratios, with the error of their sum's gradient."""
    kind = "recall" if name == "balanced_accuracy" else name
    weights, squares = profile.confusion_weights, profile.confusion_weights_squared
    k, n = len(weights), profile.labelled
    rows = profile.confusion.sum(axis=1)
    support = int(rows.min(initial=n))
    if not k or not (weights.sum(axis=1) > 0).all():
        reason = MISSING_CLASS if n else "no_rows"
        return MetricValue(None, n, DELTA, support=support, reason=reason)
    value, gradient = 0.0, np.zeros((k, k))
    for position in range(k):
        top, bottom, numerator, denominator = _parts(kind, weights, position)
        if not bottom > 0:
            return MetricValue(None, n, DELTA, support=support, reason=NOT_PREDICTED)
        value += top / bottom / k
        gradient += (numerator - top / bottom * denominator) / bottom / k
    error = float(np.sqrt((squares * gradient**2).sum()))
    n_eff = float(weights.sum() ** 2 / squares.sum())
    low, high = _around(value, error, n_eff)
    return MetricValue(value, n, DELTA, n_eff, support, None, low, high, value, error)


def _kish_share(profile: MulticlassProfile) -> float:
    """Return effective rows per row; scored rows' weights spread like all rows'."""
    weight, squares = profile.confusion_weights.sum(), profile.confusion_weights_squared.sum()
    return float(weight**2 / (squares * profile.labelled)) if squares > 0 else 1.0


def _auc_parts(profile: MulticlassProfile, position: int) -> tuple[float, float, int] | str:
    """Return a class's AUC against the rest, its variance and the smaller side's rows."""
    rest_rows, own_rows = profile.label_score_counts[position].sum(axis=1).tolist()
    rest, own = profile.label_score_weights[position]
    if not rest_rows + own_rows:
        return "no_scores" if profile.labelled else "no_rows"
    if not rest.sum() > 0 or not own.sum() > 0:
        return MISSING_CLASS
    above, below = placements(own, rest)
    value = float(own @ above / own.sum())
    variance, share = 0.0, _kish_share(profile)
    for weight, placed, rows in ((own, above, own_rows), (rest, below, rest_rows)):
        spread = float(weight @ (placed - value) ** 2 / weight.sum())
        variance += spread / max(rows * share - 1, 1)
    return value, variance, min(rest_rows, own_rows)


def _class_auc(_: str, profile: MulticlassProfile, position: int) -> MetricValue:
    n = int(profile.score_counts[position].sum())
    parts = _auc_parts(profile, position)
    if isinstance(parts, str):
        return MetricValue(None, n, DELONG, reason=parts)
    value, variance, support = parts
    return auc_on_logit(value, variance, n, n * _kish_share(profile), support)


def _macro_auc(_: str, profile: MulticlassProfile) -> MetricValue:
    k, n = len(profile.names), int(profile.score_counts[:1].sum())
    values, errors, supports = [], [], []
    for position in range(k):
        parts = _auc_parts(profile, position)
        if isinstance(parts, str):
            return MetricValue(None, n, DELONG, reason=parts)
        values.append(parts[0])
        errors.append(np.sqrt(parts[1]))
        supports.append(parts[2])
    if not k:
        return MetricValue(None, n, DELONG, reason="no_scores" if profile.labelled else "no_rows")
    variance = float(np.mean(errors)) ** 2
    n_eff = n * _kish_share(profile)
    return auc_on_logit(float(np.mean(values)), variance, n, n_eff, min(supports))


def _log_loss(_: str, profile: MulticlassProfile) -> MetricValue:
    n, weight = int(profile.score_counts[:1].sum()), float(profile.score_weights[:1].sum())
    if not weight > 0:
        return MetricValue(None, n, DELTA, reason="no_scores" if profile.labelled else "no_rows")
    first, second = (profile.losses.sum(axis=0) / weight).tolist()
    n_eff = n * _kish_share(profile)
    error = float(np.sqrt(max(second - first * first, 0.0) / max(n_eff, 1.0)))
    low, high = max(first - Z * error, 0.0), first + Z * error
    return MetricValue(first, n, DELTA, n_eff, n, None, low, high, first, error)


_Overall = Callable[[str, MulticlassProfile], MetricValue]
_ByClass = Callable[[str, MulticlassProfile, int], MetricValue]
MULTICLASS_METRICS: Mapping[str, tuple[_Overall, _ByClass | None]] = MappingProxyType(
    {
        "roc_auc": (_macro_auc, _class_auc),
        "accuracy": (_accuracy, None),
        "balanced_accuracy": (_macro_ratio, None),
        "precision": (_macro_ratio, _class_ratio),
        "recall": (_macro_ratio, _class_ratio),
        "f1": (_macro_ratio, _class_ratio),
        "log_loss": (_log_loss, None),
    }
)
