"""Reading the catalogue."""

import re
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from service.errors import UnknownModelError, UnknownRevisionError, UnknownVersionError
from service.registry.documents import read_stored
from service.registry.monitor import MonitorDocument, default_document
from service.registry.monitor_values import read_duration
from service.registry.tables import Binning, Feature, Model, Monitor, Reference, Version
from service.registry.values import (
    ATTRIBUTION,
    DROP,
    FeatureSpec,
    MonitorSpec,
    ReferenceSpec,
    VersionSpec,
)

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def is_name(text: str) -> bool:
    """Say whether a model or version may have that name."""
    return NAME.fullmatch(text) is not None


def find_model(session: Session, name: str) -> Model:
    """Return the model of that name."""
    # What can be no name need not reach the database, where a NUL would be an error.
    row = session.scalar(select(Model).where(Model.name == name)) if is_name(name) else None
    if row is None:
        raise UnknownModelError
    return row


def list_models(session: Session) -> Sequence[Model]:
    """Return all models by name."""
    return session.scalars(select(Model).order_by(Model.name)).all()


def find_version(session: Session, model: str, version: str) -> VersionSpec:
    """Return a version by its names."""
    row = find_model(session, model)
    found = (
        _specs(session, _versions().where(Version.model_id == row.id, Version.name == version))
        if is_name(version)
        else []
    )
    if not found:
        raise UnknownVersionError
    return found[0]


def find_version_by_id(session: Session, version_id: int) -> VersionSpec:
    """Return a version by its id."""
    found = _specs(session, _versions().where(Version.id == version_id))
    if not found:
        raise UnknownVersionError
    return found[0]


def list_versions(session: Session, model: str) -> list[VersionSpec]:
    """Return a model's versions, oldest first."""
    return _specs(session, _versions().where(Version.model_id == find_model(session, model).id))


def live_versions(session: Session) -> list[VersionSpec]:
    """Return every version that is watched: live and shadow, oldest first."""
    return _specs(session, _versions().where(Version.stage != "retired"))


def _versions() -> Select[Version, Model]:
    return select(Version, Model).join(Model, Model.id == Version.model_id).order_by(Version.id)


def _specs(session: Session, statement: Select[Version, Model]) -> list[VersionSpec]:
    rows = session.execute(statement.execution_options(populate_existing=True)).all()
    ids = [version.id for version, _ in rows]
    features: dict[int, list[FeatureSpec]] = {version_id: [] for version_id in ids}
    for row in session.scalars(
        select(Feature)
        .where(Feature.version_id.in_(ids))
        .order_by(Feature.version_id, Feature.position)
        .execution_options(populate_existing=True)
    ):
        features[row.version_id].append(
            FeatureSpec(
                *(row.name, row.kind, row.slot or "", row.importance),
                *(row.minimum, row.maximum, row.length, row.position),
                pii=row.pii,
            )
        )
    return [_spec(version, model, features[version.id]) for version, model in rows]


def _spec(version: Version, model: Model, features: Sequence[FeatureSpec]) -> VersionSpec:
    policies: dict[str, str] = version.tag_policies or {}
    stored = [feature for feature in features if feature.pii != DROP]
    return VersionSpec(
        model_id=model.id,
        model=model.name,
        task=model.task,
        version_id=version.id,
        version=version.name,
        stage=version.stage,
        classes=tuple(version.classes),
        positive_class=version.positive_class,
        features=tuple(feature for feature in stored if feature.kind != ATTRIBUTION),
        inferred=version.inferred,
        auto_register=model.auto_register,
        attributions=tuple(feature for feature in stored if feature.kind == ATTRIBUTION),
        attributed=version.attributions,
        dropped=tuple(feature for feature in features if feature.pii == DROP),
        tags=tuple(sorted(policies.items())),
        rows_since=model.rows_since,
    )


def find_monitor(session: Session, model_id: int, revision: int | None = None) -> MonitorSpec:
    """Return the monitor document in force, or a revision; without any the defaults, as 0."""
    query = select(Monitor).where(Monitor.model_id == model_id)
    if revision is not None:
        query = query.where(Monitor.revision == revision)
    row = session.scalar(query.order_by(Monitor.revision.desc()).limit(1))
    if row is None:
        if revision:
            raise UnknownRevisionError
        found = session.execute(select(Model.name, Model.task).where(Model.id == model_id)).first()
        if found is None:
            raise UnknownModelError
        return MonitorSpec(0, default_document(found.name, found.task))
    return MonitorSpec(row.revision, read_stored(MonitorDocument, row.document))


def find_retention(session: Session, model_id: int) -> timedelta | None:
    """Return how long a model's rows are kept; ``None`` is for ever."""
    text = session.scalar(
        select(Monitor.document["retention"]["rows"].astext)
        .where(Monitor.model_id == model_id)
        .order_by(Monitor.revision.desc())
        .limit(1)
    )
    return None if text is None else read_duration(text)


def latest_reference(session: Session, version_id: int) -> ReferenceSpec | None:
    """Return the reference in force."""
    row = session.scalar(
        select(Reference)
        .where(Reference.version_id == version_id)
        .order_by(Reference.revision.desc())
        .limit(1)
    )
    return _reference(row)


def find_reference(session: Session, version_id: int, revision: int) -> ReferenceSpec | None:
    """Return one revision of a version's reference."""
    row = session.scalar(
        select(Reference).where(Reference.version_id == version_id, Reference.revision == revision)
    )
    return _reference(row)


def _reference(row: Reference | None) -> ReferenceSpec | None:
    if row is None:
        return None
    return ReferenceSpec(row.id, row.revision, row.binning_id, row.rows, row.labelled, row.chunks)


def load_binning(session: Session, binning_id: int) -> bytes:
    """Return a binning's content."""
    return session.scalars(select(Binning.content).where(Binning.id == binning_id)).one()


def latest_binning(session: Session, model_id: int) -> Binning | None:
    """Return the newest edges of a model."""
    return session.scalar(
        select(Binning)
        .where(Binning.model_id == model_id)
        .order_by(Binning.revision.desc())
        .limit(1)
    )


def reference_segments(session: Session, reference_id: int) -> bytes:
    """Return the profiles of a reference's pieces."""
    return session.scalars(select(Reference.segments).where(Reference.id == reference_id)).one()


def reference_calibrator(session: Session, reference_id: int) -> bytes | None:
    """Return a reference's calibrator; ``None`` where it has no labels or scores."""
    return session.scalars(select(Reference.calibrator).where(Reference.id == reference_id)).one()


def reference_sample(session: Session, reference_id: int) -> bytes:
    """Return a reference's sample, a Parquet file."""
    return session.scalars(select(Reference.sample).where(Reference.id == reference_id)).one()


def next_revision(session: Session, table: type[Monitor | Binning], model_id: int) -> int:
    """Return the revision that comes next; the caller holds the model's lock."""
    newest = session.scalar(select(func.max(table.revision)).where(table.model_id == model_id))
    return (newest or 0) + 1
