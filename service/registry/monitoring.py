"""Changing what is monitored, in the caller's transaction: a document names what there is."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.db.visibility import visible_models
from service.errors import ConflictError, InvalidDocumentError
from service.registry.documents import hint, printable
from service.registry.monitor import MonitorDocument, fit_to_task
from service.registry.repository import (
    find_monitor,
    next_revision,
)
from service.registry.service import lock_model
from service.registry.slicing import OF_ROW, TAG
from service.registry.tables import Feature, Monitor, Version, Webhook
from service.registry.values import (
    DROP,
    PARTS,
    MonitorSpec,
    part_names,
)


def put_monitor(
    session: Session, model: str, document: MonitorDocument, *, read_at: int | None = None
) -> MonitorSpec:
    """Store a monitor document as the next revision, unless it is the one in force.

    ``read_at`` is the revision that the caller has edited; another one in force is a conflict.
    """
    owner = lock_model(session, model)
    if document.model != model:
        message = "the document names another model than the address"
        raise InvalidDocumentError(message)
    document = fit_to_task(document, owner.task)
    _require_features(session, owner.id, document)
    _require_version(session, owner.id, document.reference.version)
    current = find_monitor(session, owner.id)
    named = current.document.retraining.webhooks or ()
    _require_webhooks(session, document.retraining.webhooks or (), named)
    if current.revision and current.document == document:
        return current
    if read_at is not None and read_at != current.revision:
        message = f"the monitor is at revision {current.revision} by now; read it again"
        raise ConflictError(message)
    revision = next_revision(session, Monitor, owner.id)
    session.add(
        Monitor(model_id=owner.id, revision=revision, document=document.model_dump(mode="json"))
    )
    return MonitorSpec(revision, document)


def _require_features(session: Session, model_id: int, document: MonitorDocument) -> None:
    # A model without features yet may be configured before its first version.
    query = select(Feature.name, Feature.kind).where(
        Feature.model_id == model_id, Feature.pii != DROP
    )
    kinds = {row.name: row.kind for row in session.execute(query)}
    known = list(kinds)
    parts = [part for name, kind in kinds.items() for part in part_names(name, kind)]
    for name in document.drift.features:
        if known and name not in (*known, *parts):
            message = f"drift.features: no version has {printable(name)}{hint(name, known)}"
            raise InvalidDocumentError(message)
    for part, columns in (
        *(("slices", declared.reads() - set(OF_ROW)) for declared in document.slices),
        *(("fairness", {declared.column}) for declared in document.fairness),
    ):
        for name in sorted(columns):
            if known and name not in known and not name.startswith(TAG):
                message = f"{part}: no version has {printable(name)}{hint(name, known)}"
                raise InvalidDocumentError(message)
    grouped = {name for declared in document.slices for name in declared.column or ()}
    for name in sorted(grouped | {declared.column for declared in document.fairness}):
        if kinds.get(name) in PARTS:
            message = f"{printable(name)} is {kinds[name]}, which has no groups; write a where"
            raise InvalidDocumentError(message)


def _require_version(session: Session, model_id: int, version: str | None) -> None:
    # As with features: a model may be configured before its first version.
    known = list(session.scalars(select(Version.name).where(Version.model_id == model_id)))
    if version is not None and known and version not in known:
        message = f"reference: the model has no version {version}{hint(version, known)}"
        raise InvalidDocumentError(message)


def _require_webhooks(session: Session, names: Sequence[str], named: Sequence[str]) -> None:
    """Refuse webhooks that are not there; ``named`` are those of the monitor in force."""
    if visible_models() is not None:
        # Whoever has a few models of many learns neither which webhooks there are nor their names.
        if not set(names) <= set(named):
            message = "retraining.webhooks: only a key that is bound to no models may name others"
            raise InvalidDocumentError(message)
        return
    known = list(session.scalars(select(Webhook.name)))
    for name in names:
        if name not in known:
            message = f"retraining.webhooks: there is no {printable(name)}{hint(name, known)}"
            raise InvalidDocumentError(message)
