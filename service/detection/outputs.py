"""What a model puts out, whatever the labels: rates of its predictions and their mean."""

import numpy as np

from service.detection.metric_value import DELTA, WILSON, MetricValue, Z, finite, wilson
from service.profiles.arrays import PREDICTION, SCORE
from service.profiles.binning import Binning
from service.profiles.columns import Classes, ManyClasses, Quantity
from service.profiles.profile import ColumnProfile, FeatureProfile

Key = tuple[str, str | None]

SELECTION_RATE = "selection_rate"
PREDICTION_MEAN = "prediction_mean"
OUTPUTS = frozenset({SELECTION_RATE, PREDICTION_MEAN})


def measure_outputs(profile: FeatureProfile, binning: Binning) -> dict[Key, MetricValue]:
    """Compute rates and means of the predictions of all rows, labelled or not.

    Parameters
    ----------
    profile
        Of any task.
    binning
        Its edges.

    Returns
    -------
    dict
        By name and class.  ``selection_rate`` is the share of rows that are predicted positive, or
        of many classes the share of each (Wilson on Kish's rows).  ``prediction_mean`` is the mean
        score of a binary model, or the mean prediction of a regression: weighted by the mean of
        each bin, with the interval of a mean.
    """
    found: dict[Key, MetricValue] = {}
    output = binning.output
    predicted = profile.columns.get(PREDICTION)
    mean = predicted
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if isinstance(output, Classes):
            found[SELECTION_RATE, None] = finite(_rate(predicted, 1))
            mean = profile.columns.get(SCORE)
        if isinstance(output, ManyClasses):
            for position, name in enumerate(output.names):
                found[SELECTION_RATE, name] = finite(_rate(predicted, position))
        else:
            missing = "no_predictions" if isinstance(output, Quantity) else "no_scores"
            found[PREDICTION_MEAN, None] = finite(_mean(mean, missing))
    return found


def _rate(column: ColumnProfile | None, position: int) -> MetricValue:
    weight = 0.0 if column is None else float(column.weights.sum())
    if column is None or not weight > 0:
        return MetricValue(None, 0, WILSON, reason="no_predictions")
    value = min(float(column.weights[position]) / weight, 1.0)
    n_eff = weight * weight / float(column.weights_squared.sum())
    low, high = wilson(value, n_eff)
    n, successes = int(column.counts.sum()), int(column.counts[position])
    return MetricValue(value, n, WILSON, n_eff, n, successes, low, high, value)


def _mean(column: ColumnProfile | None, missing: str) -> MetricValue:
    weight = 0.0 if column is None else float(column.weights.sum())
    if column is None or not weight > 0:
        return MetricValue(None, 0, DELTA, reason=missing)
    filled = column.counts > 0
    middles = np.divide(column.sums, column.counts, out=np.zeros(len(filled)), where=filled)
    value = float(column.weights @ middles) / weight
    n_eff = weight * weight / float(column.weights_squared.sum())
    error = float(np.sqrt(column.m2 / column.n / max(n_eff, 1.0)))
    low, high = value - Z * error, value + Z * error
    return MetricValue(value, column.n, DELTA, n_eff, column.n, None, low, high, value, error)
