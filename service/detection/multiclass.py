"""Performance of a model of many classes, with intervals, from a mergeable profile."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from service.detection.metric_value import (
    DELTA,
    WILSON,
    MetricValue,
    Z,
    f1_interval,
    finite,
    on_atanh,
    wilson,
)
from service.detection.multiclass_joint import JointScores
from service.detection.multiclass_ranking import (
    MISSING_CLASS,
    Known,
    class_ranking,
    kish_share,
    macro_ranking,
    scored,
)
from service.profiles.profile import Floats, MulticlassProfile

NOT_PREDICTED = "class_not_predicted"

# A metric's name, and the class that it is of; None is over all classes.
Key = tuple[str, str | None]


def measure_multiclass(
    profile: MulticlassProfile,
    names: Sequence[str] | None = None,
    edges: Floats | None = None,
    joint: JointScores | None = None,
) -> dict[Key, MetricValue]:
    """Compute metrics with 95 % intervals, over all classes and of each class.

    Parameters
    ----------
    profile
        Labelled rows.  None at all is allowed: every value is then ``None`` with a reason.
    names
        Which of ``MULTICLASS_METRICS``; all by default.
    edges
        Inner edges of the score histograms; without them there is no average precision.
    joint
        Rows of the reference that tell how the classes' scores go together.

    Returns
    -------
    dict
        By name and class.  Without a class, ``precision``, ``recall``, ``f1``, ``roc_auc`` and
        ``average_precision`` (one class against the rest) are means over all classes ("macro"), and
        ``None`` where a class has no labelled row, for the mean over the others is another metric.
        The Brier score is the sum over the classes, 0..2, as scikit-learn has it.
        Values are weighted; Wilson intervals use Kish's effective size; those of means and of
        Matthews' coefficient come from the delta method.  The errors of the mean AUC (DeLong, on
        the logit) and of the mean average precision are the means of the classes' errors, less what
        of these cancels in ``joint``'s rows; without them an upper bound, reached where the classes
        are fully correlated, and so named (``…_bound``).

    Raises
    ------
    KeyError
        If a name is none of ``MULTICLASS_METRICS``.

    References
    ----------
    D. J. Hand and R. J. Till, "A simple generalisation of the area under the ROC curve for multiple
    class classification problems", 2001.  J. Gorodkin, "Comparing two K-category assignments by a
    K-category correlation coefficient", 2004.  E. R. DeLong et al., 1988.  L. Kish, 1965.
    """
    found: dict[Key, MetricValue] = {}
    known = Known(edges, joint)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for name in MULTICLASS_METRICS if names is None else names:
            overall, by_class = MULTICLASS_METRICS[name]
            if overall is not None:
                found[name, None] = finite(overall(name, profile, known))
            if by_class is not None:
                for position, label in enumerate(profile.names):
                    found[name, label] = finite(by_class(name, profile, position, known))
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


def _class_ratio(name: str, profile: MulticlassProfile, position: int, _: Known) -> MetricValue:
    top, bottom, numerator, denominator = _parts(name, profile.confusion_weights, position)
    used = denominator > 0
    n = int(profile.confusion[used].sum())
    if not bottom > 0:
        return MetricValue(None, n, WILSON, reason=_empty(name, profile))
    value = top / bottom
    squares = profile.confusion_weights_squared
    n_eff = float(profile.confusion_weights[used].sum() ** 2 / squares[used].sum())
    gradient = (numerator - value * denominator) / bottom
    error = float(np.sqrt((squares * gradient**2).sum()))
    low, high = f1_interval(value, n_eff) if name == "f1" else wilson(value, n_eff)
    successes = int(profile.confusion[position, position])
    return MetricValue(value, n, WILSON, n_eff, n, successes, low, high, value, error)


def _around(value: float, error: float, n_eff: float) -> tuple[float, float]:
    if error == 0:
        # Without a single error the delta method claims certainty.
        return wilson(value, n_eff)
    return max(value - Z * error, 0.0), min(value + Z * error, 1.0)


def _label_rate(_: str, profile: MulticlassProfile, position: int, __: Known) -> MetricValue:
    weights, n = profile.confusion_weights, profile.labelled
    total = float(weights.sum())
    if not total > 0:
        return MetricValue(None, n, WILSON, reason="no_rows")
    value = min(float(weights[position].sum()) / total, 1.0)
    n_eff = total * total / float(profile.confusion_weights_squared.sum())
    low, high = wilson(value, n_eff)
    successes = int(profile.confusion[position].sum())
    return MetricValue(value, n, WILSON, n_eff, n, successes, low, high, value)


def _accuracy(_: str, profile: MulticlassProfile, __: Known) -> MetricValue:
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


def _macro_ratio(name: str, profile: MulticlassProfile, _: Known) -> MetricValue:
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


def _matthews(_: str, profile: MulticlassProfile, __: Known) -> MetricValue:
    """Return Gorodkin's R_K, with the derivatives of its three sums."""
    n, total = profile.labelled, float(profile.confusion_weights.sum())
    support = int(profile.confusion.sum(axis=1).min(initial=n))
    if not total > 0:
        return MetricValue(None, n, DELTA, reason="no_rows")
    shares = profile.confusion_weights / total
    labels, predictions = shares.sum(axis=1), shares.sum(axis=0)
    of_labels, of_predictions = 1 - labels @ labels, 1 - predictions @ predictions
    if not labels.max() < 1:
        return MetricValue(None, n, DELTA, support=support, reason=MISSING_CLASS)
    value, gradient = 0.0, np.zeros_like(shares)
    # Predictions that never change are uncorrelated with anything.
    if predictions.max() < 1:
        scale = float(np.sqrt(of_labels * of_predictions))
        value = float((np.trace(shares) - labels @ predictions) / scale)
        gradient = (np.eye(len(shares)) - predictions[:, None] - labels[None, :]) / scale
        gradient += value * (predictions[None, :] / of_predictions + labels[:, None] / of_labels)
        gradient = (gradient - (gradient * shares).sum()) / total
    squares = profile.confusion_weights_squared
    error = float(np.sqrt((squares * gradient**2).sum()))
    n_eff = total * total / float(squares.sum())
    low, high = max(value - Z * error, -1.0), min(value + Z * error, 1.0)
    if error == 0:
        # Without a single error the delta method claims certainty.
        low, high = (2 * bound - 1 for bound in wilson((value + 1) / 2, n_eff))
    position, error = on_atanh(value, error, support)
    return MetricValue(value, n, DELTA, n_eff, support, None, low, high, position, error)


def _loss(name: str, profile: MulticlassProfile, _: Known) -> MetricValue:
    n, weight = scored(profile), float(profile.score_weights[:1].sum())
    if not weight > 0:
        return MetricValue(None, n, DELTA, reason="no_scores" if profile.labelled else "no_rows")
    column = _LOSS_COLUMNS[name]
    first, second = (profile.losses.sum(axis=0)[column : column + 2] / weight).tolist()
    n_eff = n * kish_share(profile)
    error = float(np.sqrt(max(second - first * first, 0.0) / max(n_eff, 1.0)))
    low, high = max(first - Z * error, 0.0), first + Z * error
    return MetricValue(first, n, DELTA, n_eff, n, None, low, high, first, error)


_LOSS_COLUMNS: Mapping[str, int] = MappingProxyType({"log_loss": 0, "brier_score": 2})
_Overall = Callable[[str, MulticlassProfile, Known], MetricValue]
_ByClass = Callable[[str, MulticlassProfile, int, Known], MetricValue]
MULTICLASS_METRICS: Mapping[str, tuple[_Overall | None, _ByClass | None]] = MappingProxyType(
    {
        "roc_auc": (macro_ranking, class_ranking),
        "average_precision": (macro_ranking, class_ranking),
        "accuracy": (_accuracy, None),
        "balanced_accuracy": (_macro_ratio, None),
        "precision": (_macro_ratio, _class_ratio),
        "recall": (_macro_ratio, _class_ratio),
        "f1": (_macro_ratio, _class_ratio),
        "matthews_corrcoef": (_matthews, None),
        "brier_score": (_loss, None),
        "log_loss": (_loss, None),
        "label_rate": (None, _label_rate),
    }
)
