"""Performance of a binary classifier, with intervals, from a mergeable profile."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from service.detection.confusion import RATIOS, SINGLE_CLASS, confusion_metric
from service.detection.metric_value import (
    DELONG,
    DELTA,
    DELTA_ON_LOGIT,
    WILSON,
    MetricValue,
    Z,
    auc_on_logit,
    f1_interval,
    finite,
    on_atanh,
    wilson,
)
from service.detection.precision_recall import precision_with_variance
from service.detection.reliability import METHOD as TEN_BINS
from service.detection.reliability import calibration_error
from service.profiles.profile import Counts, Floats, PerformanceProfile

_LOSS_COLUMNS: Mapping[str, int] = MappingProxyType({"brier_score": 0, "log_loss": 2})


def placements(positives: Floats, negatives: Floats) -> tuple[Floats, Floats]:
    """Return the share of the other class that a row of each bin is ranked above; ties count half.

    Parameters
    ----------
    positives, negatives
        Σw by score bin, ascending in the score, shape ``(n_bins,)``, each with a positive sum.

    Returns
    -------
    tuple of Floats
        Of positives: share of the negatives below.  Of negatives: share of the positives *above*.
        The mean of either, weighted by its class, is the AUC.
    """
    below_negatives = np.cumsum(negatives) - negatives / 2
    below_positives = np.cumsum(positives) - positives / 2
    return below_negatives / negatives.sum(), 1 - below_positives / positives.sum()


def auc_gradient(positives: Floats, negatives: Floats) -> tuple[Floats, Floats]:
    """Return how the AUC changes with the weight of a positive, and of a negative, of each bin."""
    above, below = placements(positives, negatives)
    value = positives @ above / positives.sum()
    return (above - value) / positives.sum(), (below - value) / negatives.sum()


def by_label(profile: PerformanceProfile) -> tuple[Counts, Floats]:
    """Return scored rows and their Σw by label and score bin, shape ``(2, n_score_bins)``."""
    return profile.label_score_counts, profile.label_score_weights


def measure_performance(
    profile: PerformanceProfile,
    names: Sequence[str] | None = None,
    edges: Floats | None = None,
) -> dict[str, MetricValue]:
    """Compute metrics with 95 % intervals.

    Parameters
    ----------
    profile
        Labelled rows.  None at all is allowed: every value is then ``None`` with a reason.
    names
        Which of ``METRICS``; all by default.
    edges
        Inner edges of the score histogram.  What needs to know the scores themselves, and not
        their order alone, is ``None`` without.

    Returns
    -------
    dict
        By name.  Values are weighted; Wilson intervals use Kish's effective size, DeLong's interval
        of the AUC and that of average precision are on the logit, the others come from the delta
        method; the calibration error has none.  Numbers that overflow are ``None`` with the reason
        ``not_finite``.

    Raises
    ------
    KeyError
        If a name is none of ``METRICS``.

    References
    ----------
    E. R. DeLong et al., "Comparing the areas under two or more correlated receiver operating
    characteristic curves", 1988.  L. Kish, "Survey Sampling", 1965.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return {
            name: finite(METRICS[name](name, profile, edges))
            for name in (METRICS if names is None else names)
        }


def _confusion_value(name: str, profile: PerformanceProfile, _: Floats | None) -> MetricValue:
    method = WILSON if name in PROPORTIONS else DELTA
    result = confusion_metric(name, profile.confusion_weights)
    used = RATIOS[name].denominator > 0 if name in RATIOS else np.ones((2, 2), dtype=bool)
    n = int(profile.confusion[used].sum())
    if isinstance(result, str):
        return MetricValue(None, n, method, reason="no_rows" if not profile.labelled else result)
    value, gradient = result
    squares = profile.confusion_weights_squared
    n_eff = float(profile.confusion_weights[used].sum() ** 2 / squares[used].sum())
    error = float(np.sqrt((squares * gradient**2).sum()))
    if name in PROPORTIONS:
        low, high = wilson(value, n_eff)
        successes = int((profile.confusion * RATIOS[name].numerator).sum())
        return MetricValue(value, n, method, n_eff, n, successes, low, high, value, error)
    floor = -1.0 if name == "matthews_corrcoef" else 0.0
    low, high = value - Z * error, value + Z * error
    if error == 0:
        # Without a single error the delta method claims certainty.
        share = (value - floor) / (1 - floor)
        low, high = (floor + bound * (1 - floor) for bound in wilson(share, n_eff))
        method = WILSON
    if name == "f1":
        successes = int(profile.confusion[1, 1])
        low, high = f1_interval(value, n_eff)
        return MetricValue(value, n, WILSON, n_eff, n, successes, low, high, value, error)
    support = int(profile.confusion.sum(axis=1).min())
    low, high = max(low, floor), min(high, 1.0)
    position, error = (value, error) if floor == 0 else on_atanh(value, error, support)
    return MetricValue(value, n, method, n_eff, support, None, low, high, position, error)


def _kish_by_class(profile: PerformanceProfile) -> Floats:
    """Return effective scored rows by label: the weights of scored rows spread like all rows'."""
    rows, weights = profile.confusion.sum(axis=1), profile.confusion_weights.sum(axis=1)
    squares = profile.confusion_weights_squared.sum(axis=1)
    share = np.divide(weights**2, squares * rows, out=np.ones(2), where=squares * rows > 0)
    effective: Floats = by_label(profile)[0].sum(axis=1) * share
    return effective


def _unranked(profile: PerformanceProfile, method: str) -> MetricValue | None:
    """Return why scored rows of both classes are not there to be ranked, if they are not."""
    counts, weights = by_label(profile)
    rows = counts.sum(axis=1)
    n, support = int(rows.sum()), int(rows.min())
    if not n:
        reason = "no_scores" if profile.labelled else "no_rows"
        return MetricValue(None, 0, method, reason=reason)
    if not support or not (weights.sum(axis=1) > 0).all():
        return MetricValue(None, n, method, support=support, reason=SINGLE_CLASS)
    return None


def _auc_value(_: str, profile: PerformanceProfile, __: Floats | None) -> MetricValue:
    if (missing := _unranked(profile, DELONG)) is not None:
        return missing
    counts, (negatives, positives) = by_label(profile)[0], profile.ranked_weights
    by_negative, by_positive = _kish_by_class(profile)
    above, below = placements(positives, negatives)
    value = float(positives @ above / positives.sum())
    variance = 0.0
    for weight, placed, size in (
        (positives, above, by_positive),
        (negatives, below, by_negative),
    ):
        spread = float(weight @ (placed - value) ** 2 / weight.sum())
        variance += spread / max(size - 1, 1)
    n, support = int(counts.sum()), int(counts.sum(axis=1).min())
    return auc_on_logit(value, variance, n, float(by_negative + by_positive), support)


def _average_precision_value(
    _: str, profile: PerformanceProfile, edges: Floats | None
) -> MetricValue:
    if (missing := _unranked(profile, DELTA_ON_LOGIT)) is not None:
        return missing
    counts, weights = by_label(profile)
    n, support = int(counts.sum()), int(counts.sum(axis=1).min())
    if profile.ranked is not None and len(profile.ranked):
        weights, edges = profile.ranked_weights, None
    elif edges is None:
        return MetricValue(None, n, DELTA_ON_LOGIT, support=support, reason=NO_EDGES)
    by_negative, by_positive = _kish_by_class(profile).tolist()
    value, variance = precision_with_variance(counts, weights, (by_negative, by_positive), edges)
    n_eff = by_negative + by_positive
    return auc_on_logit(value, variance, n, n_eff, support, method=DELTA_ON_LOGIT)


def _calibration_value(_: str, profile: PerformanceProfile, edges: Floats | None) -> MetricValue:
    counts, (negatives, positives) = by_label(profile)
    n = int(counts.sum())
    if not negatives.sum() + positives.sum() > 0:
        reason = "no_scores" if profile.labelled else "no_rows"
        return MetricValue(None, n, TEN_BINS, reason=reason)
    if edges is None:
        return MetricValue(None, n, TEN_BINS, reason=NO_EDGES)
    n_eff = float(_kish_by_class(profile).sum())
    value = calibration_error(positives, negatives, edges)
    return MetricValue(value, n, TEN_BINS, n_eff, n, position=value)


def _loss_value(name: str, profile: PerformanceProfile, _: Floats | None) -> MetricValue:
    counts, weights = by_label(profile)
    rows, weight = int(counts.sum()), float(weights.sum())
    if not weight > 0:
        reason = "no_scores" if profile.labelled else "no_rows"
        return MetricValue(None, rows, DELTA, reason=reason)
    first, second = profile.losses.sum(axis=0)[_LOSS_COLUMNS[name] :][:2] / weight
    n_eff = float(_kish_by_class(profile).sum())
    error = float(np.sqrt(max(second - first * first, 0.0) / max(n_eff, 1.0)))
    low, high = max(first - Z * error, 0.0), first + Z * error
    if name == "brier_score":
        high = min(high, 1.0)
    return MetricValue(
        float(first), rows, DELTA, n_eff, rows, None, float(low), float(high), float(first), error
    )


NO_EDGES = "unknown_score_edges"
PROPORTIONS = frozenset(RATIOS) - {"f1"}
LOSSES = frozenset(_LOSS_COLUMNS)
# Their position and error are on the logit.
ON_LOGIT = frozenset({"roc_auc", "average_precision"})
METRICS: Mapping[str, Callable[[str, PerformanceProfile, Floats | None], MetricValue]] = (
    MappingProxyType(
        {
            "roc_auc": _auc_value,
            "average_precision": _average_precision_value,
            "accuracy": _confusion_value,
            "balanced_accuracy": _confusion_value,
            "precision": _confusion_value,
            "recall": _confusion_value,
            "f1": _confusion_value,
            "matthews_corrcoef": _confusion_value,
            "false_positive_rate": _confusion_value,
            "false_negative_rate": _confusion_value,
            "label_rate": _confusion_value,
            "brier_score": _loss_value,
            "log_loss": _loss_value,
            "expected_calibration_error": _calibration_value,
        }
    )
)
