"""The monitor document: how one model is watched.  Its defaults hold where there is none."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from service.errors import InvalidDocumentError, NotImplementedYetError
from service.registry.documents import Document, FeatureName, hint, printable
from service.registry.slicing import FairnessDocument, SliceDocument, require_distinct

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
    "brier_score",
    "log_loss",
)
REGRESSION_METRICS = ("mae", "rmse", "rmsle", "mape", "r2")
MULTICLASS_METRICS = (
    *("accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "log_loss"),
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
# mean_error is recorded, but neither side of zero is the worse one yet.
LATER_METRICS = (
    "average_precision",
    "expected_calibration_error",
    "selection_rate",
    "label_rate",
    "prediction_mean",
    "mean_error",
)
DRIFT_METHODS = ("jensen_shannon", "psi", "total_variation", "hellinger", "ks", "wasserstein")
LATER_REFERENCES = ("previous_window", "trailing", "seasonal", "version")

_BOTH = ("psi", "jensenshannon", "kl_div", "hellinger")
EVIDENTLY_NUMERIC = (
    "wasserstein",
    *_BOTH,
    "ks",
    "anderson",
    "cramer_von_mises",
    "ed",
    "es",
    "mannw",
    "t_test",
    "empirical_mmd",
)
EVIDENTLY_CATEGORICAL = (*_BOTH, "chisquare", "z", "g_test", "fisher_exact", "TVD")

# By how many windows of a step a longer one is covered; a month has no fixed number of any.
HOURS = {"1h": 1, "6h": 6, "1d": 24, "1w": 168}

# Longer than this is a slip; and some time beyond it the due time leaves the calendar.
LONGEST_GRACE = timedelta(days=366)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_K_OF_N = re.compile(r"([0-9]{1,3}) of ([0-9]{1,3})")
MOST_WINDOWS = 100
_DURATION = re.compile(r"([0-9]{1,6})([smhdw])")


def read_duration(value: object) -> object:
    """Read ``15m``, ``1d`` and the like."""
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        message = "a duration is a number with s, m, h, d or w, such as '15m'"
        raise ValueError(message)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def write_duration(value: timedelta) -> str:
    """Write a duration in its largest whole unit."""
    seconds = int(value.total_seconds())
    for unit, size in (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(read_duration),
    PlainSerializer(write_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"}),
]
Alpha = Annotated[float, Field(gt=0, le=0.5)]
Share = Annotated[float, Field(ge=0, le=1)]
Effect = Annotated[float, Field(ge=0)]
Length = Literal["1h", "6h", "1d", "1w", "1mo"]


def _method(value: object) -> object:
    name = str(value)
    if name.startswith("evidently."):
        what = f"the drift method {printable(name)}"
        raise NotImplementedYetError(what)
    if name not in DRIFT_METHODS:
        message = f"a drift method is one of {', '.join(DRIFT_METHODS)}{hint(name, DRIFT_METHODS)}"
        raise ValueError(message)
    return value


Method = Annotated[
    Literal["jensen_shannon", "psi", "total_variation", "hellinger", "ks", "wasserstein"],
    BeforeValidator(_method),
]
METHOD_MEANING = (
    "ks and wasserstein (in reference standard deviations) need numbers: categories get"
    " total_variation in their stead, and so do constants instead of wasserstein"
)
MIN_EFFECT_MEANING = (
    "the smallest score that matters, whatever the method; null: 0.1, for wasserstein 0.2"
)


class FeatureDrift(Document):
    """What differs for one feature; ``null`` is what holds for all of them."""

    part: ClassVar[str] = "drift.features.*."

    method: Method | None = None
    min_effect: Effect | None = None
    ignore: bool = False


class Drift(Document):
    """When a moved input is an alert."""

    part: ClassVar[str] = "drift."

    method: Method = Field(default="jensen_shannon", description=METHOD_MEANING)
    alpha: Alpha = 0.01
    min_effect: Effect | None = Field(default=None, description=MIN_EFFECT_MEANING)
    features: dict[FeatureName, FeatureDrift] = Field(default_factory=dict)


class EvidentlyMethods(Document):
    """Evidently's test for the columns of each kind."""

    part: ClassVar[str] = "evidently.methods."

    numeric: str = "wasserstein"
    categorical: str = "jensenshannon"

    @field_validator("numeric")
    @classmethod
    def _known_for_numbers(cls, value: str) -> str:
        return _one_of(EVIDENTLY_NUMERIC, value, "Evidently's methods for numeric columns")

    @field_validator("categorical")
    @classmethod
    def _known_for_categories(cls, value: str) -> str:
        return _one_of(EVIDENTLY_CATEGORICAL, value, "Evidently's methods for categorical columns")


class Evidently(Document):
    """What the second instrument measures; it never alarms in this release."""

    part: ClassVar[str] = "evidently."

    methods: EvidentlyMethods = Field(default_factory=EvidentlyMethods)
    max_rows: int = Field(default=50_000, ge=100, le=1_000_000)


class Quality(Document):
    """How much more than in the reference may be missing, out of range or unseen."""

    part: ClassVar[str] = "quality."
    later: ClassVar[frozenset[str]] = frozenset({"duplicates", "min_rows_per_hour"})

    alpha: Alpha = 0.01
    missing: Share = 0.05
    out_of_range: Share = 0.01
    unseen: Share = 0.01


class Performance(Document):
    """When a realised or estimated loss is an alert."""

    part: ClassVar[str] = "performance."
    later: ClassVar[frozenset[str]] = frozenset({"label_horizon"})

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

    @field_validator("metrics")
    @classmethod
    def _known(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if value in LATER_METRICS:
                what = f"performance.metrics: {value}"
                raise NotImplementedYetError(what)
            _one_of(tuple(dict.fromkeys(chain(*METRICS_OF.values()))), value, "metrics")
        if len(set(values)) != len(values):
            message = "a metric is listed twice"
            raise ValueError(message)
        return values


class Alert(Document):
    """How many of how many successive windows have to say ``retrain``, such as ``2 of 3``."""

    part: ClassVar[str] = "alert."
    later: ClassVar[frozenset[str]] = frozenset({"close_after", "cooldown"})

    open: str = "2 of 3"

    @field_validator("open")
    @classmethod
    def _k_of_n(cls, value: str) -> str:
        found = _K_OF_N.fullmatch(value)
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= MOST_WINDOWS:
            message = f"open is 'k of n' windows, k at most n, n at most {MOST_WINDOWS}"
            raise ValueError(message)
        return value

    @property
    def k_of_n(self) -> tuple[int, int]:
        """Return both numbers."""
        k, _, n = self.open.partition(" of ")
        return int(k), int(n)


class MonitorDocument(Document):
    """One model's monitor with all its defaults filled in."""

    later: ClassVar[frozenset[str]] = frozenset({"discover_slices", "retraining", "retention"})

    model: str
    window: Length = "1d"
    every: Length = "1d"
    bucket: Literal["1h"] = "1h"
    timezone: str = "UTC"
    grace: Annotated[Duration, Field(le=LONGEST_GRACE)] = timedelta(minutes=15)
    min_rows: int = Field(default=100, ge=1, le=1_000_000_000)
    reference: Literal["training"] = "training"
    drift: Drift = Field(default_factory=Drift)
    evidently: Evidently = Field(default_factory=Evidently)
    quality: Quality = Field(default_factory=Quality)
    performance: Performance = Field(default_factory=Performance)
    alert: Alert = Field(default_factory=Alert)
    slices: tuple[SliceDocument, ...] = ()
    fairness: tuple[FairnessDocument, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _step_is_the_window(cls, content: Any) -> Any:
        if isinstance(content, Mapping) and content.get("every") is None:
            return {**content, "every": content.get("window", "1d")}
        return content

    @field_validator("bucket", mode="before")
    @classmethod
    def _hours_only(cls, value: object) -> object:
        if value != "1h":
            what = "a bucket other than 1h"
            raise NotImplementedYetError(what)
        return value

    @field_validator("reference", mode="before")
    @classmethod
    def _training_only(cls, value: object) -> object:
        kind = value if isinstance(value, str) else next(iter(value), None) if value else None  # type: ignore[call-overload]
        if kind in LATER_REFERENCES:
            what = f"reference: {kind}"
            raise NotImplementedYetError(what)
        return value

    @field_validator("timezone")
    @classmethod
    def _whole_hours(cls, value: str) -> str:
        try:
            zone = ZoneInfo(value)
        except (KeyError, OSError, ValueError):
            message = "no such time zone; names are like 'Europe/Sofia'"
            raise ValueError(message) from None
        # Both halves of the years that windows are likely to be in: some zones shift by 30 minutes.
        instants = (datetime(y, m, 1, tzinfo=UTC) for y in range(2019, 2038) for m in range(1, 13))
        if any((zone.utcoffset(at) or timedelta()) % timedelta(hours=1) for at in instants):
            what = f"timezone: {value}, which is not whole hours from UTC,"
            raise NotImplementedYetError(what)
        return value

    @model_validator(mode="after")
    def _nothing_is_sliced_twice(self) -> Self:
        require_distinct(self.slices, self.fairness)
        return self

    @model_validator(mode="after")
    def _step_divides_the_window(self) -> Self:
        if self.every != self.window and (
            "1mo" in (self.every, self.window) or HOURS[self.window] % HOURS[self.every]
        ):
            message = "every must be the window, or a shorter step that divides it"
            raise ValueError(message)
        return self


def default_document(model: str, task: str = "binary") -> MonitorDocument:
    """Return the document that holds for a model that has none."""
    return fit_to_task(MonitorDocument.model_validate({"model": model}), task)


def fit_to_task(document: MonitorDocument, task: str) -> MonitorDocument:
    """Return the document with the task's default metrics, where it names none.

    Raises
    ------
    InvalidDocumentError
        If it names a metric that the task does not have.
    NotImplementedYetError
        If it has slices or fairness, which only binary models have in this release.
    """
    if task != "binary" and (document.slices or document.fairness):
        what = f"slices or fairness of a {task} model"
        raise NotImplementedYetError(what)
    performance = document.performance
    if "metrics" not in performance.model_fields_set:
        own = performance.model_copy(update={"metrics": DEFAULT_METRICS[task]})
        return document.model_copy(update={"performance": own})
    known = METRICS_OF[task]
    for name in performance.metrics:
        if name not in known:
            message = (
                f"performance.metrics: {name} is not of a {task} model; {', '.join(known)} are"
            )
            raise InvalidDocumentError(message)
    return document


def _one_of(known: tuple[str, ...], value: str, what: str) -> str:
    if value not in known:
        message = f"{what} are {', '.join(known)}{hint(value, known)}"
        raise ValueError(message)
    return value
