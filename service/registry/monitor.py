"""The monitor document: how one model is watched.  Its defaults hold where there is none."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from service.errors import InvalidDocumentError, NotImplementedYetError
from service.registry.documents import Document
from service.registry.monitor_alert import Alert, Retraining
from service.registry.monitor_drift import Drift, Evidently
from service.registry.monitor_multivariate import Multivariate
from service.registry.monitor_performance import DEFAULT_METRICS, METRICS_OF, Performance
from service.registry.monitor_quality import Quality
from service.registry.monitor_reference import TRAINING, Length, Reference, require_fit
from service.registry.monitor_retention import Retention
from service.registry.monitor_values import Duration
from service.registry.slicing import (
    FairnessDocument,
    SliceDocument,
    require_distinct,
    require_of_task,
)

# By how many windows of a step a longer one is covered; a month has no fixed number of any.
HOURS = {"1h": 1, "6h": 6, "1d": 24, "1w": 168}

# Longer than this is a slip; and some time beyond it the due time leaves the calendar.
LONGEST_GRACE = timedelta(days=366)


class MonitorDocument(Document):
    """One model's monitor with all its defaults filled in."""

    model: str
    window: Length = "1d"
    every: Length = "1d"
    bucket: Literal["1h"] = "1h"
    timezone: str = "UTC"
    grace: Annotated[Duration, Field(le=LONGEST_GRACE)] = timedelta(minutes=15)
    min_rows: int = Field(default=100, ge=1, le=1_000_000_000)
    reference: Reference = TRAINING
    drift: Drift = Field(default_factory=Drift)
    evidently: Evidently = Field(default_factory=Evidently)
    multivariate: Multivariate = Field(default_factory=Multivariate)
    quality: Quality = Field(default_factory=Quality)
    performance: Performance = Field(default_factory=Performance)
    alert: Alert = Field(default_factory=Alert)
    retraining: Retraining = Field(default_factory=Retraining)
    slices: tuple[SliceDocument, ...] = ()
    discover_slices: bool = Field(
        default=True, description="find slices in which the model got worse"
    )
    fairness: tuple[FairnessDocument, ...] = ()
    retention: Retention = Field(default_factory=Retention)

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

    @model_validator(mode="after")
    def _comparison_fits_the_window(self) -> Self:
        require_fit(self.reference, self.window, self.every)
        return self


def default_document(model: str, task: str = "binary") -> MonitorDocument:
    """Return the document that holds for a model that has none."""
    return fit_to_task(MonitorDocument.model_validate({"model": model}), task)


def fit_to_task(document: MonitorDocument, task: str) -> MonitorDocument:
    """Return the document with the task's default metrics, where it names none.

    Raises
    ------
    InvalidDocumentError
        If it names a metric that the task does not have, or a fairness that it cannot have.
    """
    require_of_task(document.slices, document.fairness, task)
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
