"""Reading single predictions back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, select
from sqlalchemy.orm import Session

from service.ingest.limits import LETTER_AGE, MAX_LETTERS
from service.ingest.tables import DeadLetter, Label, PredictionIdentity, prediction
from service.ingest.times import to_datetime
from service.registry.tables import Model, Version
from service.registry.values import ATTRIBUTIONS, VersionSpec

Value = float | str | bool | list[float] | None


@dataclass(frozen=True, slots=True)
class LoggedPrediction:
    """One stored row under its real names."""

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
    features: dict[str, Value]
    attributions: dict[str, float | None] | None


@dataclass(frozen=True, slots=True)
class LoggedLabel:
    """One stored label."""

    label: str | float | None
    label_ts: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A row that only the database refused, as its JSON."""

    id: int
    model: str
    version: str | None
    kind: str
    prediction_id: str | None
    state: str
    received_at: datetime
    record: bytes


def find_prediction(
    session: Session, version: VersionSpec, prediction_id: str
) -> LoggedPrediction | None:
    """Return a version's prediction of that id; its identity says in which partition it is."""
    ts = session.scalar(
        select(PredictionIdentity.ts).where(
            PredictionIdentity.model_id == version.model_id,
            PredictionIdentity.prediction_id == prediction_id,
            PredictionIdentity.version_id == version.version_id,
        )
    )
    if ts is None:
        return None
    columns = prediction.c
    row = session.execute(
        select(
            *(columns.received_at, _said(version), columns.score, columns.scores),
            columns.weight,
            *(columns.subject, columns.tags),
            *(columns[own.slot] for own in (*version.features, *version.attributions)),
        ).where(
            columns.model_id == version.model_id,
            columns.version_id == version.version_id,
            columns.ts == ts,
            columns.prediction_id == prediction_id,
        )
    ).one_or_none()
    return None if row is None else _logged(version, prediction_id, ts, row)


def _logged(
    version: VersionSpec, prediction_id: str, ts: datetime, row: Sequence[Any]
) -> LoggedPrediction:
    received_at, said, score, scores, weight, subject, tags, *slots = row
    features = {
        feature.name: _feature(feature.kind, value)
        for feature, value in zip(version.features, slots, strict=False)
    }
    attributions = {
        own.name.removeprefix(f"{ATTRIBUTIONS}."): value
        for own, value in zip(version.attributions, slots[len(features) :], strict=True)
    }
    return LoggedPrediction(
        prediction_id,
        version.version,
        ts,
        received_at,
        said,
        score,
        None if scores is None else dict(zip(version.classes, scores, strict=False)),
        weight,
        subject,
        tags,
        features,
        attributions or None,
    )


def _said(version: VersionSpec) -> ColumnElement[Any]:
    columns = prediction.c
    return columns.predicted_value if version.task == "regression" else columns.prediction


def _feature(kind: str, value: Any) -> Value:
    if kind == "boolean" and value is not None:
        return bool(value)
    if kind == "datetime" and value is not None:
        at = to_datetime(round(value * 1_000_000))
        return at.isoformat().replace("+00:00", "Z")
    found: Value = value
    return found


def find_labels(session: Session, model_id: int, prediction_id: str) -> list[LoggedLabel]:
    """Return a prediction's labels, the one that counts first."""
    rows = session.scalars(
        select(Label)
        .where(Label.model_id == model_id, Label.prediction_id == prediction_id)
        .order_by(Label.label_ts.desc())
    )
    return [
        LoggedLabel(
            row.label if row.label_value is None else row.label_value, row.label_ts, row.received_at
        )
        for row in rows
    ]


def list_letters(
    session: Session, model_id: int, after: int = 0, limit: int = MAX_LETTERS
) -> list[StoredLetter]:
    """Return a model's dead letters, oldest first."""
    found = _letters().where(DeadLetter.model_id == model_id, DeadLetter.id > after)
    rows = session.execute(found.order_by(DeadLetter.id).limit(limit))
    return [StoredLetter(*row) for row in rows]


def find_letter(session: Session, letter_id: int) -> StoredLetter | None:
    """Return a dead letter."""
    row = session.execute(_letters().where(DeadLetter.id == letter_id)).one_or_none()
    return None if row is None else StoredLetter(*row)


def _letters() -> Select[*tuple[Any, ...]]:
    """Select letters with the names of their models; what is too old only waits to be deleted."""
    return (
        select(
            DeadLetter.id,
            Model.name,
            Version.name,
            DeadLetter.kind,
            DeadLetter.prediction_id,
            DeadLetter.state,
            DeadLetter.received_at,
            DeadLetter.record,
        )
        .join(Model, Model.id == DeadLetter.model_id)
        .outerjoin(Version, Version.id == DeadLetter.version_id)
        .where(DeadLetter.received_at >= func.now() - LETTER_AGE)
    )


def delete_letters(session: Session, model_id: int) -> int:
    """Delete a model's dead letters; return how many there were."""
    found = delete(DeadLetter).where(DeadLetter.model_id == model_id).returning(DeadLetter.id)
    return len(session.scalars(found).all())


def delete_letter(session: Session, letter_id: int) -> None:
    """Delete a dead letter that was found."""
    session.execute(delete(DeadLetter).where(DeadLetter.id == letter_id))
