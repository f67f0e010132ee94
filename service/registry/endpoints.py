"""Routes of the catalogue: models, versions and monitors."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from service.access.audit import audit, change
from service.access.scopes import Actor
from service.errors import InvalidDocumentError
from service.registry import facts, monitoring, repository, service
from service.registry.documents import read
from service.registry.privacy import KeyNeededError, pseudonyms_of
from service.registry.schemas import (
    ModelAnswer,
    ModelDocument,
    ModelList,
    MonitorAnswer,
    MonitorDocument,
    VersionAnswer,
    VersionDocument,
    VersionList,
)
from service.registry.values import VersionSpec
from service.registry.views import SCHEMA, quote, view_name
from service.web import Body, ReadSession, WriteSession, documented_body

router = APIRouter(prefix="/v1/models", tags=["registry"])

_LARGEST_REVISION = 2**31 - 1
_MODEL = {"task": "binary", "owner": "risk", "description": "Will the loan be repaid?"}
_VERSION = {
    "features": [
        {"name": "income", "kind": "numeric", "importance": 0.31, "min": 0},
        {"name": "region", "kind": "categorical", "importance": 0.02},
        {"name": "signup", "kind": "datetime"},
        {"name": "comment", "kind": "text"},
        {"name": "email", "kind": "categorical", "pii": "drop"},
        {"name": "image", "kind": "embedding", "length": 512},
    ],
    "classes": ["0", "1"],
    "positive_class": "1",
    "stage": "live",
}
_MONITOR = {
    "model": "loans",
    "window": "1d",
    "reference": {"seasonal": "same weekday of the last 4 weeks"},
    "drift": {"features": {"income": {"min_effect": 0.2}, "region": {"ignore": True}}},
    "performance": {"metrics": ["roc_auc", "accuracy", "recall"]},
    "slices": [
        {"column": "region"},
        {
            "name": "big-tickets",
            "where": "income > 50000 and tags.channel = 'web'",
            "critical": True,
            "metric": "recall",
            "floor": 0.95,
        },
    ],
    "fairness": [{"column": "region", "min_disparate_impact": 0.8}],
}


@router.get("")
def list_models(session: ReadSession) -> ModelList:
    """List the models."""
    models = repository.list_models(session)
    return ModelList(models=[ModelAnswer.model_validate(model) for model in models])


@router.put("/{model}", openapi_extra=documented_body(ModelDocument, _MODEL))
def put_model(model: str, body: Body, session: WriteSession, actor: Actor) -> ModelAnswer:
    """Register a model, or change what is said about it."""
    before = facts.known_model(session, model)
    stored = service.put_model(session, model, read(ModelDocument, body))
    details = change(before, facts.facts_of_model(stored))
    audit(session, actor, "model.put", f"model:{model}", details)
    return ModelAnswer.model_validate(stored)


@router.get("/{model}")
def get_model(model: str, session: ReadSession) -> ModelAnswer:
    """Return a model."""
    return ModelAnswer.model_validate(repository.find_model(session, model))


@router.get("/{model}/versions")
def list_versions(model: str, session: ReadSession) -> VersionList:
    """List a model's versions, oldest first."""
    found = repository.list_versions(session, model)
    return VersionList(versions=[_answer(version) for version in found])


@router.put("/{model}/versions/{version}", openapi_extra=documented_body(VersionDocument, _VERSION))
def put_version(
    request: Request, model: str, version: str, body: Body, session: WriteSession, actor: Actor
) -> VersionAnswer:
    """Register a version, or add features to it."""
    document = read(VersionDocument, body)
    pseudonyms = pseudonyms_of(request.app.state.settings)
    service.require_key(session, pseudonyms)
    before = facts.known_version(session, model, version)
    stored = service.put_version(session, model, version, document)
    if stored.hashes and pseudonyms is None:
        raise KeyNeededError
    details = change(before, facts.facts_of_version(stored))
    audit(session, actor, "version.put", f"version:{model}@{version}", details)
    return _answer(stored)


@router.get("/{model}/versions/{version}")
def get_version(model: str, version: str, session: ReadSession) -> VersionAnswer:
    """Return a version with its schema."""
    return _answer(repository.find_version(session, model, version))


@router.put("/{model}/monitor", openapi_extra=documented_body(MonitorDocument, _MONITOR))
def put_monitor(model: str, body: Body, session: WriteSession, actor: Actor) -> MonitorAnswer:
    """Store the monitor document; an unchanged one keeps its revision.

    What ``GET`` answers may be edited and put: its ``revision`` guards against lost updates.
    """
    content, read_at = body, None
    if isinstance(body, dict):
        # The address says which model it is; the document may leave it out.
        content = {"model": model, **body}
        read_at = content.pop("revision", None)
        if read_at is not None and type(read_at) is not int:
            message = "revision: must be a number"
            raise InvalidDocumentError(message)
    document = read(MonitorDocument, content)
    stored = monitoring.put_monitor(session, model, document, read_at=read_at)
    audit(session, actor, "monitor.put", f"model:{model}", {"revision": stored.revision})
    return MonitorAnswer.of(stored)


@router.get("/{model}/monitor")
def get_monitor(
    model: str,
    session: ReadSession,
    revision: Annotated[
        int | None,
        Query(ge=0, le=_LARGEST_REVISION, description="one that a window was judged by"),
    ] = None,
) -> MonitorAnswer:
    """Return the monitor document in force; the defaults as revision 0."""
    owner = repository.find_model(session, model)
    return MonitorAnswer.of(repository.find_monitor(session, owner.id, revision))


def _answer(version: VersionSpec) -> VersionAnswer:
    return VersionAnswer.of(version, f"{SCHEMA}.{quote(view_name(version))}")
