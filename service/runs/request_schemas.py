"""Retraining requests with their evidence, as they are answered."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.retraining.schemas import RequestState
from service.runs.evidence import WindowEvidence
from service.runs.schemas import ContributionOut, MeasurementOut, explanation_out
from service.webhooks.schemas import DeliveryDocument


class EvidenceWindow(BaseModel):
    """A window that asked for the retraining, as it is judged today."""

    model_config = ConfigDict(from_attributes=True)

    start: datetime
    end: datetime
    revision: int
    rows: int
    labelled: int
    label_coverage: float | None
    verdicts: dict[str, Any]
    drifted_features: list[str]
    alerting_metrics: list[str]
    action: str
    reason: str
    reference_revision: int | None = Field(description="what it was compared with")
    config_revision: int = Field(description="the monitor document that it was judged by")
    measurements: list[MeasurementOut] = []
    explanation: list[ContributionOut] = []

    @classmethod
    def of(cls, evidence: WindowEvidence) -> "EvidenceWindow":
        """Describe a window, what alerts in it, and what explains its loss."""
        document = cls.model_validate(evidence.window)
        alerting = [MeasurementOut.model_validate(row) for row in evidence.alerting]
        explanation = explanation_out(evidence.explaining)
        return document.model_copy(update={"measurements": alerting, "explanation": explanation})


class EvidenceAlert(BaseModel):
    """An alert of Prometheus, as Alertmanager last told of it.

    That it is resolved may only mean that nothing was scraped.  ``annotations`` are measured,
    description, runbook_url, dashboard_url and generator_url, its query, as far as it has them.
    """

    model_config = ConfigDict(from_attributes=True)

    fingerprint: str
    name: str
    state: Literal["firing", "resolved"]
    summary: str
    labels: dict[str, str] = Field(validation_alias="metric_labels")
    annotations: dict[str, str] | None
    starts_at: datetime
    ends_at: datetime | None


class Evidence(BaseModel):
    """Why, and on which data; ``incidents`` ask for retraining in these windows."""

    windows: list[EvidenceWindow]
    incidents: list[int]
    alerts: list[EvidenceAlert]
    labelled_rows_per_class: dict[str, int] | None


class RequestDocument(BaseModel):
    """A retraining request."""

    id: int
    model: str
    version: str
    state: RequestState
    action: str
    reason: str
    opened_at: datetime
    closed_at: datetime | None
    handled_by: str | None
    note: str | None
    evidence: Evidence
    deliveries: list[DeliveryDocument]


class RequestList(BaseModel):
    """A page of retraining requests; ``next`` is the cursor of the page that follows, or null."""

    requests: list[RequestDocument]
    next: str | None
