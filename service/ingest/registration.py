"""Registering a version from its first batch, for models that ask for it."""

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from service.access.audit import audit
from service.errors import UnknownVersionError
from service.ingest.limits import MAX_FEATURES
from service.registry.classes import class_text
from service.registry.repository import find_model
from service.registry.schemas import FeatureDocument, VersionDocument
from service.registry.service import infer_schema, put_version

_CLASSES = 2
_USUAL = (("0", "1"), ("false", "true"))


def register_version(session: Session, model: str, version: str, records: Iterable[Any]) -> None:
    """Register an unknown version, or raise that it is unknown if the model does not want that."""
    owner = find_model(session, model)
    if not owner.auto_register:
        raise UnknownVersionError
    first = [record for record in records if isinstance(record, dict)]
    features = infer_features(record.get("features") for record in first)
    classes = None
    if owner.task == "binary":
        classes = infer_classes(record.get("prediction") for record in first)
    spec = put_version(session, model, version, VersionDocument())
    infer_schema(session, spec, features, classes)
    details = {"stage": spec.stage, "features": len(features)}
    audit(session, "ingest", "version.register", f"version:{model}@{version}", details)


def infer_features(samples: Iterable[Any]) -> list[FeatureDocument]:
    """Return the features of a batch; the first value of each that is not null says its kind."""
    kinds: dict[str, str | None] = {}
    for sample in samples:
        if not isinstance(sample, dict) or len(sample) > MAX_FEATURES:
            continue
        for name, value in sample.items():
            if kinds.get(name) is None:
                kinds[name] = _kind(value)
    found: list[FeatureDocument] = []
    for name, kind in kinds.items():
        try:
            found.append(FeatureDocument.model_validate({"name": name, "kind": kind or "numeric"}))
        except ValidationError:
            # A name that cannot be registered: rows that use it are refused one by one.
            continue
    return found


def _kind(value: object) -> str | None:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "numeric"
    # A text may be a time, and a list a vector, but nobody said so: a reference or the owner does.
    return "categorical" if isinstance(value, str) else None


def infer_classes(predictions: Iterable[Any]) -> tuple[str, str] | None:
    """Return the two classes, negative first, if the predictions show which they are."""
    texts = {class_text(value) for value in predictions if isinstance(value, str | int | float)}
    for usual in _USUAL:
        if texts and texts <= set(usual):
            return usual
    known = sorted(text for text in texts if text is not None)
    return (known[0], known[1]) if len(known) == _CLASSES else None
