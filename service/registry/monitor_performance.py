"""The part of a monitor document that tells when a loss of performance is an alert."""

from collections.abc import Mapping
from datetime import timedelta
from itertools import chain
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from service.registry.documents import Document
from service.registry.monitor_values import Alpha, Duration, Share, one_of

# Longer than this is a slip; and some time beyond it the due time leaves the calendar.
LONGEST_HORIZON = timedelta(days=3660)

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "matthews_corrcoef",
    "false_positive_rate",
    "false_negative_rate",
    "roc_auc",
    "average_precision",
    "brier_score",
    "log_loss",
)
REGRESSION_METRICS = ("mae", "rmse", "rmsle", "mape", "r2", "mean_error")
MULTICLASS_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "matthews_corrcoef",
    "roc_auc",
    "average_precision",
    "brier_score",
    "log_loss",
)
METRICS_OF: Mapping[str, tuple[str, ...]] = {
    "binary": METRICS,
    "multiclass": MULTICLASS_METRICS,
    "regression": REGRESSION_METRICS,
}
DEFAULT_METRICS: Mapping[str, tuple[str, ...]] = {
    "binary": ("roc_auc", "accuracy", "recall"),
    "multiclass": ("roc_auc", "accuracy", "f1"),
    "regression": ("rmse", "mae"),
}
# What gets worse by rising; of these a limit is a ceiling.
HIGHER_IS_WORSE = frozenset(
    {
        *("false_positive_rate", "false_negative_rate", "brier_score", "log_loss"),
        *("mae", "rmse", "rmsle", "mape"),
    }
)
# Recorded in every window.  A verdict on them would judge the same counts twice.
RECORDED: Mapping[str, str] = {
    "expected_calibration_error": "it has no interval to tell chance by",
    "selection_rate": "drift of the prediction is judged already",
    "prediction_mean": "drift of the prediction or score is judged already",
    "label_rate": "drift of the label is judged already",
}


class Performance(Document):
    """When a realised or estimated loss is an alert."""

    part: ClassVar[str] = "performance."

    alpha: Alpha = 0.01
    metrics: tuple[str, ...] = Field(
        default=DEFAULT_METRICS["binary"],
        description=(
            "of the model's task; left out, of many classes roc_auc, accuracy and f1, of a "
            "regression rmse and mae"
        ),
    )
    tolerance: Share = 0.01
    min_label_coverage: Share = 0.5
    label_horizon: Annotated[Duration, Field(le=LONGEST_HORIZON)] | None = Field(
        default=timedelta(days=30),
        description=(
            "how long labels take: a window is judged by its labels once 95 % of its rows have one,"
            " or this long after its end, for those that come first need not be like the others;"
            " null judges labels as they come, unless their scores show that they are selected"
        ),
    )

    @field_validator("metrics")
    @classmethod
    def _known(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if value in RECORDED:
                message = f"{value} is recorded without a verdict: {RECORDED[value]}"
                raise ValueError(message)
            one_of(tuple(dict.fromkeys(chain(*METRICS_OF.values()))), value, "metrics")
        if len(set(values)) != len(values):
            message = "a metric is listed twice"
            raise ValueError(message)
        return values
