"""The documents of the read routes."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from service.evaluation.explanation import CONTRIBUTIONS, ESTIMATED
from service.registry.documents import Document
from service.runs.overfit import SAID, WARNING, Gaps
from service.runs.tables import Measurement, Window


def _in_calendar(value: datetime) -> datetime:
    """Return the time in UTC, where one at either end of the calendar may not exist."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        message = "the time is outside of the years 1 to 9999 of UTC"
        raise ValueError(message) from None


Time = Annotated[AwareDatetime, AfterValidator(_in_calendar)]


class EvaluateIn(Document):
    """Which windows to evaluate now."""

    from_: Time | None = Field(
        default=None,
        alias="from",
        description="judge every window from here on again, against the current reference",
    )
    until: Time = Field(description="the last moment that a window may end")
    alert: bool = Field(default=True, description="false: judge and record, but alert nobody")


class EvaluationOut(BaseModel):
    """How far an evaluation has come."""

    evaluation: int
    state: Literal["queued", "running", "done", "failed"]
    done: int
    of: int
    evaluated: int
    revised: int
    insufficient: int
    failed: int


class AcceptedOut(BaseModel):
    """The number under which to ask for the progress."""

    evaluation: int


class MeasurementOut(BaseModel):
    """One number of one window."""

    metric: str
    subject: str | None = Field(description="a feature, a class or a protected column, else null")
    slice: str | None = Field(description="a slice, or a group of a protected column")
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int = Field(description="rows that it rests on")
    n_eff: float | None = Field(description="as many rows of weight 1")
    n_reference: int | None
    method: str
    engine: str = Field(
        description="profile (all rows), rows or labelled_rows (a sample), evidently"
    )
    direction: str = Field(
        description="higher_is_worse, lower_is_worse, either_is_worse or information"
    )
    reference_value: float | None = Field(description="what the reference has")
    threshold: float | None = Field(description="beyond it the value matters")
    p_value: float | None = Field(
        description="adjusted for all tests of its verdict: compare it with alpha"
    )
    detectable_effect: float | None = Field(
        description=(
            "how large a true change (its score were there rows without end) four of five such"
            " windows would alert about; drift alone has it"
        )
    )
    verdict: str | None = Field(
        description="ok, alert or insufficient_data; null: recorded, not judged"
    )
    reason: str | None = Field(description="a sentence, or a code that docs/reference.md explains")

    model_config = ConfigDict(from_attributes=True)


class WindowOut(BaseModel):
    """One judged window."""

    start: datetime
    end: datetime
    version: str
    revision: int
    rows: int
    labelled: int
    label_coverage: float | None
    verdicts: dict[str, str]
    drifted_features: list[str]
    alerting_metrics: list[str]
    warnings: list[dict[str, Any]]
    action: str
    reason: str
    silent: bool
    evaluated_at: datetime
    reference_revision: int | None
    config_revision: int


class ContributionOut(BaseModel):
    """What one feature's shift, or one slice, has to do with the window's loss."""

    kind: Literal["feature", "slice"] | None = Field(description="null: nothing by itself")
    name: str | None
    share: float | None = Field(description="of the rise of the mean loss")
    ci_low: float | None
    ci_high: float | None
    n: int
    estimated: bool = Field(description="of the loss that scores promise, for want of labels")
    sentence: str


class WindowWithMeasurementsOut(WindowOut):
    """One judged window with all its measurements, and what explains its loss if it has one."""

    measurements: list[MeasurementOut]
    explanation: list[ContributionOut]


class WindowsOut(BaseModel):
    """A page of windows; ``next`` is the cursor of the next page."""

    windows: list[WindowOut]
    next: str | None


class PointOut(MeasurementOut):
    """One point of a series."""

    start: datetime
    end: datetime
    version: str
    revision: int


class SeriesOut(BaseModel):
    """A page of one metric over time."""

    measurements: list[PointOut]
    next: str | None


def window_out(window: Window, version: str, gaps: Gaps) -> dict[str, Any]:
    """Return the fields of a window's document."""
    fields = {name: getattr(window, name) for name in WindowOut.model_fields if name != "version"}
    if gaps.has(window.version_id, window.start, window.verdicts):
        fields["warnings"] = [*window.warnings, WARNING]
        fields["reason"] = f"{window.reason}; {SAID}"
    return {**fields, "version": version}


def explanation_out(measurements: Iterable[Measurement]) -> list[ContributionOut]:
    """Return what explains a window's loss, largest first."""
    return [
        ContributionOut(
            kind="slice" if row.slice else "feature" if row.subject else None,
            name=row.slice or row.subject,
            share=row.value,
            ci_low=row.ci_low,
            ci_high=row.ci_high,
            n=row.n,
            estimated=row.metric == ESTIMATED,
            sentence=row.reason or "",
        )
        for row in measurements
        if row.metric in CONTRIBUTIONS
    ]


def point_out(window: Window, version: str, measurement: Measurement) -> PointOut:
    """Return one point of a series."""
    fields = {name: getattr(measurement, name) for name in MeasurementOut.model_fields}
    return PointOut(
        **fields,
        start=window.start,
        end=window.end,
        version=version,
        revision=window.revision,
    )
