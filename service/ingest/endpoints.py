"""``GET /v1/models/{model}/predictions/{prediction_id}``: one logged row with its labels."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict

from service.errors import NotFoundError
from service.ingest.repository import find_labels, find_prediction
from service.registry.repository import find_model, find_version, list_versions
from service.web import ReadSession

router = APIRouter(prefix="/v1/models", tags=["ingest"])


class UnknownPredictionError(NotFoundError):
    """The model has no prediction of that id."""

    code = "unknown-prediction"
    title = "Unknown prediction"

    def __init__(self) -> None:
        super().__init__("the model has no prediction of that id")


class PredictionAnswer(BaseModel):
    """One logged row, as one version of the model made it."""

    model_config = ConfigDict(from_attributes=True)

    prediction_id: str
    version: str
    ts: datetime
    received_at: datetime
    prediction: str | float | None
    score: float | None
    scores: dict[str, float] | None
    weight: float | None
    subject: str | None
    tags: dict[str, str] | None
    features: dict[str, bool | float | str | list[float] | None]
    attributions: dict[str, float | None] | None


class LabelAnswer(BaseModel):
    """One label; of several the newest ``label_ts`` counts."""

    model_config = ConfigDict(from_attributes=True)

    label: str | float | None
    label_ts: datetime
    received_at: datetime


class LoggedAnswer(BaseModel):
    """A prediction with its labels, the one that counts first."""

    model: str
    prediction_id: str
    label: str | float | None
    predictions: list[PredictionAnswer]
    labels: list[LabelAnswer]


@router.get("/{model}/predictions/{prediction_id:path}")
def get_prediction(
    session: ReadSession,
    model: str,
    prediction_id: Annotated[str, Path(max_length=128, pattern="^[^\x00]+$")],
    version: str | None = None,
) -> LoggedAnswer:
    """Return what was logged under an id, by every version or by the one that is named."""
    owner = find_model(session, model)
    specs = (
        list_versions(session, model)
        if version is None
        else [find_version(session, model, version)]
    )
    found = [find_prediction(session, spec, prediction_id) for spec in specs]
    labels = find_labels(session, owner.id, prediction_id)
    answers = [PredictionAnswer.model_validate(row) for row in found if row is not None]
    if not answers:
        raise UnknownPredictionError
    return LoggedAnswer(
        model=model,
        prediction_id=prediction_id,
        label=labels[0].label if labels else None,
        predictions=answers,
        labels=[LabelAnswer.model_validate(label) for label in labels],
    )
