"""The registry of metrics: what each can be, what is best, and the laws that it obeys."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

HIGHER, LOWER = "higher_is_worse", "lower_is_worse"
EITHER, INFORMATION = "either_is_worse", "information"

# Laws: of rows in any order; of rows with weights that are 1, all the same, or whole numbers; of a
# window that is the merge of its parts; of predictions without an error.
ROW_ORDER = "the order of rows does not matter"
UNIT_WEIGHTS = "weights of 1 are no weights"
SAME_WEIGHTS = "weights that are all the same change nothing"
WHOLE_WEIGHTS = "a row of weight 2 is two rows"
MERGE = "the merge of two parts is the whole"
PERFECT = "a model without errors has the perfect value"
SHIFT = "a constant added to every prediction is added"
UNIT = "labels and predictions in another unit multiply it"
NO_UNIT = "labels and predictions in another unit change nothing"
MONOTONE = "another scale of the scores, in the same order, changes nothing"

COMMON = (ROW_ORDER, UNIT_WEIGHTS, SAME_WEIGHTS, WHOLE_WEIGHTS, MERGE)


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What one must know of a metric to judge a value of it a year later.

    ``lower`` and ``upper`` bound the value (``None``: unbounded), ``perfect`` is that of a model
    without errors (``None`` for what is no measure of them).  ``direction`` is one of
    ``evaluation``'s values.  ``laws`` names the properties that the tests check.
    """

    direction: str
    lower: float | None
    upper: float | None
    perfect: float | None
    laws: tuple[str, ...]


_SCORE = MetricSpec(LOWER, 0.0, 1.0, 1.0, (*COMMON, PERFECT))
_RANKING = MetricSpec(LOWER, 0.0, 1.0, 1.0, (*COMMON, PERFECT, MONOTONE))
_RATE_OF_ERRORS = MetricSpec(HIGHER, 0.0, 1.0, 0.0, (*COMMON, PERFECT))
_LOSS = MetricSpec(HIGHER, 0.0, None, 0.0, (*COMMON, PERFECT))
_ERROR = MetricSpec(HIGHER, 0.0, None, 0.0, (*COMMON, PERFECT, UNIT))
_SHARE = MetricSpec(INFORMATION, 0.0, 1.0, None, COMMON)

METRIC_SPECS: Mapping[str, MetricSpec] = MappingProxyType(
    {
        "accuracy": _SCORE,
        "balanced_accuracy": _SCORE,
        "precision": _SCORE,
        "recall": _SCORE,
        "f1": _SCORE,
        "matthews_corrcoef": MetricSpec(LOWER, -1.0, 1.0, 1.0, (*COMMON, PERFECT)),
        "roc_auc": _RANKING,
        "average_precision": _RANKING,
        "false_positive_rate": _RATE_OF_ERRORS,
        "false_negative_rate": _RATE_OF_ERRORS,
        # Of more than two classes it is a sum over them.
        "brier_score": MetricSpec(HIGHER, 0.0, 2.0, 0.0, (*COMMON, PERFECT)),
        "log_loss": _LOSS,
        "expected_calibration_error": MetricSpec(INFORMATION, 0.0, 1.0, 0.0, (*COMMON, PERFECT)),
        "label_rate": _SHARE,
        "selection_rate": _SHARE,
        # Its weights are known by bin, and a bin's mean is that of its rows.
        "prediction_mean": MetricSpec(
            INFORMATION, None, None, None, (ROW_ORDER, UNIT_WEIGHTS, SAME_WEIGHTS, MERGE)
        ),
        "mae": _ERROR,
        "rmse": _ERROR,
        "rmsle": _LOSS,
        "mape": MetricSpec(HIGHER, 0.0, None, 0.0, (*COMMON, PERFECT, NO_UNIT)),
        "r2": MetricSpec(LOWER, None, 1.0, 1.0, (*COMMON, PERFECT, NO_UNIT)),
        "mean_error": MetricSpec(EITHER, None, None, 0.0, (*COMMON, PERFECT, SHIFT, UNIT)),
    }
)
