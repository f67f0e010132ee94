"""What the audit log says of a model or a version, before a change and after it."""

from typing import Any

from sqlalchemy.orm import Session

from service.errors import NotFoundError
from service.registry.repository import find_version
from service.registry.schemas import ModelDocument
from service.registry.service import lock_model
from service.registry.tables import Model
from service.registry.values import KEEP, VersionSpec


def facts_of_model(model: Model) -> dict[str, Any]:
    """Return what a document says of it."""
    return {name: getattr(model, name) for name in ModelDocument.model_fields}


def facts_of_version(version: VersionSpec) -> dict[str, Any]:
    """Return what matters of it later: whether it is watched, and how it treats personal data."""
    policies = (
        *((own.name, own.pii) for own in (*version.features, *version.dropped)),
        *((f"tags.{tag}", policy) for tag, policy in version.tags),
    )
    return {
        "stage": version.stage,
        "features": len(version.features) + len(version.dropped),
        "classes": len(version.classes),
        "positive_class": version.positive_class,
        "pii": {name: policy for name, policy in policies if policy != KEEP},
    }


def known_model(session: Session, name: str) -> dict[str, Any] | None:
    """Return the facts of a model before it is changed, which nobody else does meanwhile."""
    try:
        return facts_of_model(lock_model(session, name))
    except NotFoundError:
        return None


def known_version(session: Session, model: str, version: str) -> dict[str, Any] | None:
    """Return the facts of a version before it is changed, which nobody else does meanwhile."""
    try:
        lock_model(session, model)
        return facts_of_version(find_version(session, model, version))
    except NotFoundError:
        return None
