"""Retraining requests with their evidence, as they are answered."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from service.retraining.schemas import DeliveryDocument, RequestState
from service.runs.evidence import WindowEvidence


class EvidenceMeasurement(BaseModel):
    """One number that alerts."""

    model_config = ConfigDict(from_attributes=True)

    metric: str
    subject: str | None
    slice: str | None
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    n_eff: float | None
    n_reference: int | None
    method: str
    engine: str
    direction: str
    reference_value: float | None
    threshold: float | None
    p_value: float | None
    verdict: str | None
    reason: str | None


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
    measurements: list[EvidenceMeasurement] = []

    @classmethod
    def of(cls, evidence: WindowEvidence) -> "EvidenceWindow":
        """Describe a window and what alerts in it."""
        document = cls.model_validate(evidence.window)
        alerting = [EvidenceMeasurement.model_validate(row) for row in evidence.alerting]
        return document.model_copy(update={"measurements": alerting})


class Evidence(BaseModel):
    """Why, and on which data."""

    windows: list[EvidenceWindow]
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
    evidence: Evidence
    deliveries: list[DeliveryDocument]


class RequestList(BaseModel):
    """A page of retraining requests; ``next`` is the cursor of the page that follows, or null."""

    requests: list[RequestDocument]
    next: str | None
