"""Storing a reference: its schema, the edges, its profiles, the calibrator and a sample."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from service.access.audit import audit
from service.errors import ConflictError
from service.registry.monitor import MonitorDocument
from service.registry.privacy import Pseudonyms
from service.registry.repository import find_monitor, find_version, latest_binning, next_revision
from service.registry.schemas import FeatureDocument
from service.registry.service import infer_schema, lock_model, require_key
from service.registry.tables import Binning, Reference
from service.registry.values import VersionSpec
from service.runs.planning import mark_version
from service.runs.reference_reading import Asked, Upload, Work, read_apart


@dataclass(frozen=True, slots=True)
class StoredReference:
    """What the sender of a reference is told."""

    version: VersionSpec
    revision: int
    binning_revision: int
    rows: int
    labelled: int
    chunks: int
    warnings: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Known:
    version: VersionSpec
    monitor: MonitorDocument
    binning_id: int | None
    edges: bytes | None


def store_reference(
    sessions: sessionmaker[Session],
    model: str,
    version: str,
    upload: Upload,
    pseudonyms: Pseudonyms | None = None,
    *,
    actor: str = "local",
) -> StoredReference:
    """Read, profile and store a reference; nothing of it is stored if anything is wrong."""
    with sessions.begin() as session:
        require_key(session, pseudonyms)
        known = _load(session, model, version)
    monitor = known.monitor
    work = read_apart(
        Asked(upload, known.version, monitor.window, monitor.timezone, known.edges, pseudonyms)
    )
    with sessions.begin() as session:
        stored = _record(session, known, work)
        details = {"revision": stored.revision, "rows": stored.rows}
        audit(session, actor, "reference.put", f"version:{model}@{version}", details)
    return stored


def require_version(
    sessions: sessionmaker[Session], model: str, version: str, pseudonyms: Pseudonyms | None
) -> None:
    """Raise what would be wrong with a reference whatever is in its file."""
    with sessions.begin() as session:
        require_key(session, pseudonyms)
        find_version(session, model, version)


def _load(session: Session, model: str, version: str) -> _Known:
    spec = find_version(session, model, version)
    monitor = find_monitor(session, spec.model_id).document
    stored = latest_binning(session, spec.model_id)
    # Edges that were frozen on a model's first rows make way for those of its first reference.
    referenced = session.scalar(
        select(func.count()).select_from(Reference).where(Reference.model_id == spec.model_id)
    )
    edges = stored.content if stored and referenced else None
    return _Known(spec, monitor, stored.id if stored else None, edges)


def _record(
    session: Session,
    known: _Known,
    work: Work,
) -> StoredReference:
    lock_model(session, known.version.model)
    current = latest_binning(session, known.version.model_id)
    if (current.id if current else None) != known.binning_id:
        message = "another reference of the model was stored meanwhile; send this one again"
        raise ConflictError(message)
    features = [FeatureDocument.model_validate(each) for each in work.features]
    version = infer_schema(
        session, known.version, features, work.classes, attributions=work.attributed
    )
    if work.edges is not None:
        current = _new_binning(session, version.model_id, work.edges)
    assert current is not None
    newest = _newest_revision(session, version.version_id)
    reference = Reference(
        model_id=version.model_id,
        version_id=version.version_id,
        revision=(newest or 0) + 1,
        binning_id=current.id,
        **work.values,
    )
    session.add(reference)
    session.flush()
    if newest is None:
        # What was judged with nothing to compare it with can be judged now.
        mark_version(session, version.model_id, version.version_id)
    return StoredReference(
        version,
        reference.revision,
        current.revision,
        reference.rows,
        reference.labelled,
        reference.chunks,
        reference.warnings,
    )


def _newest_revision(session: Session, version_id: int) -> int | None:
    return session.scalar(
        select(func.max(Reference.revision)).where(Reference.version_id == version_id)
    )


def _new_binning(session: Session, model_id: int, edges: bytes) -> Binning:
    row = Binning(
        model_id=model_id,
        revision=next_revision(session, Binning, model_id),
        content=edges,
    )
    session.add(row)
    session.flush()
    return row
