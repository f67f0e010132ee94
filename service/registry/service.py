"""Changing the catalogue.  Each function is a step of the caller's transaction."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from service.errors import ConflictError, InvalidDocumentError, UnknownModelError
from service.registry.documents import printable
from service.registry.privacy import KeyMissingError, Pseudonyms, WrongKeyError
from service.registry.repository import (
    find_model,
    find_version_by_id,
    is_name,
)
from service.registry.schemas import (
    FEWEST_CLASSES,
    MOST_CLASSES,
    FeatureDocument,
    ModelDocument,
    VersionDocument,
)
from service.registry.slots import allocate
from service.registry.tables import Feature, Model, Monitor, PiiKey, Version
from service.registry.values import (
    ATTRIBUTION,
    ATTRIBUTIONS,
    DROP,
    KEEP,
    VersionSpec,
    part_names,
)
from service.registry.views import create_view

_BINARY = 2
# The positive one of two classes that need no explanation.
_POSITIVE = {frozenset({"0", "1"}): "1", frozenset({"false", "true"}): "true"}


class PolicyChangedError(ConflictError):
    """What has been stored was treated by the policy that it came under."""

    code = "policy-changed"
    title = "Policy changed"

    def __init__(self) -> None:
        super().__init__("the pii policy of a feature or tag cannot change; register a new version")


class BadNameError(InvalidDocumentError):
    """A model, a version or a webhook cannot have that name."""

    code = "bad-name"
    title = "Bad name"

    def __init__(self) -> None:
        super().__init__(
            "a name has 1 to 63 of the characters a-z 0-9 . _ - and begins with a letter or digit"
        )


def put_model(session: Session, name: str, document: ModelDocument) -> Model:
    """Register a model, or change what is said about it."""
    _require_name(name)
    content = document.model_dump()
    _require_same_task(session, name, document.task)
    statement = pg_insert(Model).values(name=name, **content)
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=content))
    return find_model(session, name)


def _require_same_task(session: Session, name: str, task: str) -> None:
    """Refuse another task for a model that has versions or a monitor: they are of the first."""
    row = session.scalar(select(Model).where(Model.name == name).with_for_update())
    if row is None or row.task == task:
        return
    for table in (Version, Monitor):
        if session.scalar(select(table.id).where(table.model_id == row.id).limit(1)) is not None:
            message = f"the model's task is {row.task}, and cannot change; register another model"
            raise ConflictError(message)


def put_version(
    session: Session, model: str, version: str, document: VersionDocument
) -> VersionSpec:
    """Register a version, or add to its schema; nothing is taken from a schema."""
    _require_name(version)
    owner = lock_model(session, model)
    row = session.scalar(
        select(Version).where(Version.model_id == owner.id, Version.name == version)
    )
    if row is None:
        row = Version(model_id=owner.id, name=version, classes=[], inferred=False)
        session.add(row)
    row.stage = document.stage
    row.attributions = row.attributions or document.attributions
    _declare_tags(row, document.tags)
    if document.classes is not None:
        declare_classes(row, owner.task, document.classes, document.positive_class)
    session.flush()
    add_features(session, row, document.features or ())
    return _finished(session, row)


def require_key(session: Session, pseudonyms: Pseudonyms | None) -> None:
    """Refuse any key but the one that personal data is hashed under; the first one becomes it."""
    query = select(PiiKey.fingerprint)
    known = session.scalar(query)
    if pseudonyms is None:
        if known is not None:
            raise KeyMissingError
        return
    if known is None:
        first = pg_insert(PiiKey).values(id=1, fingerprint=pseudonyms.fingerprint)
        session.execute(first.on_conflict_do_nothing())
        known = session.scalar(query)
    if known != pseudonyms.fingerprint:
        raise WrongKeyError


def _declare_tags(row: Version, policies: Mapping[str, str]) -> None:
    known: dict[str, str] = row.tag_policies or {}
    for name, policy in policies.items():
        if known.get(name, policy) != policy:
            raise PolicyChangedError
    if policies:
        row.tag_policies = {**known, **policies}


def declare_classes(
    row: Version, task: str, classes: tuple[str, ...], positive: str | None
) -> None:
    """Set a version's classes, which cannot change afterwards.

    Of two the negative comes first; more keep their order, which is that of the stored scores.
    """
    if task == "regression":
        message = "classes: the model's task is regression, which has none"
        raise InvalidDocumentError(message)
    if task == "multiclass":
        _declare_many(row, classes, positive)
        return
    if len(classes) != _BINARY:
        message = "classes: a binary model has two"
        raise InvalidDocumentError(message)
    chosen = positive if positive is not None else _POSITIVE.get(frozenset(classes))
    if chosen is None:
        message = "positive_class must say which of the classes the score is the probability of"
        raise InvalidDocumentError(message)
    if chosen not in classes:
        message = "positive_class must be one of the classes"
        raise InvalidDocumentError(message)
    ordered = sorted(classes, key=lambda name: name == chosen)
    _set_classes(row, ordered, chosen)


def _declare_many(row: Version, classes: tuple[str, ...], positive: str | None) -> None:
    if not FEWEST_CLASSES <= len(classes) <= MOST_CLASSES:
        message = f"classes: a multiclass model has {FEWEST_CLASSES} to {MOST_CLASSES}"
        raise InvalidDocumentError(message)
    if positive is not None:
        message = "positive_class: of more than two classes none is the positive one"
        raise InvalidDocumentError(message)
    _set_classes(row, list(classes), None)


def _set_classes(row: Version, classes: list[str], positive: str | None) -> None:
    if row.classes and (row.classes != classes or row.positive_class != positive):
        message = "the classes of a version cannot change; register another version"
        raise ConflictError(message)
    row.classes = classes
    row.positive_class = positive


def add_features(session: Session, row: Version, features: Sequence[FeatureDocument]) -> None:
    """Add features to a version, and update what is declared of those it has.

    The caller holds the model's lock, so no two features get one slot.
    """
    every = session.scalars(
        select(Feature).where(Feature.model_id == row.model_id).order_by(Feature.id)
    ).all()
    mine = {feature.name: feature for feature in every if feature.version_id == row.id}
    wanted: dict[str, str] = {
        feature.name: feature.kind for feature in features if feature.name not in mine
    }
    dropped = {feature.name for feature in features if feature.pii == DROP}
    _require_free_names({own.name: own.kind for own in every}, wanted)
    if row.attributions:
        inputs = [own.name for own in mine.values() if own.kind != ATTRIBUTION]
        dropped |= {own.name for own in mine.values() if own.pii == DROP}
        names = (f"{ATTRIBUTIONS}.{name}" for name in (*inputs, *wanted) if name not in dropped)
        wanted |= {name: ATTRIBUTION for name in names if name not in mine}
    slots = allocate(
        ((own.name, own.kind, own.slot) for own in every if own.slot is not None),
        ((name, kind) for name, kind in wanted.items() if name not in dropped),
    )
    for name, kind in wanted.items():
        mine[name] = Feature(
            model_id=row.model_id,
            version_id=row.id,
            position=len(mine),
            name=name,
            kind=kind,
            slot=slots.get(name),
        )
        session.add(mine[name])
    for feature in features:
        _declare(mine[feature.name], feature, fresh=feature.name in wanted)
    session.flush()


def _declare(stored: Feature, feature: FeatureDocument, *, fresh: bool) -> None:
    """Set what may change about a feature; its kind and its length may not."""
    if stored.kind != feature.kind or (stored.length != feature.length and not fresh):
        was, becomes = (_said(own.kind, own.length) for own in (stored, feature))
        message = (
            f"feature {feature.name!r} is {was} in this version, and cannot become {becomes}; "
            "register another version"
        )
        raise ConflictError(message)
    stored.importance = feature.importance
    stored.minimum = feature.min
    stored.maximum = feature.max
    stored.length = feature.length
    if fresh:
        stored.pii = feature.pii or KEEP
    elif feature.pii not in {None, stored.pii}:
        raise PolicyChangedError


def _said(kind: str, length: int | None) -> str:
    return kind if length is None else f"{kind} of {length}"


def _require_free_names(known: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Refuse features whose names are those of columns that are derived from others."""
    every = {**known, **wanted}
    for name, kind in every.items():
        for part in part_names(name, kind):
            if part in every and not {name, part}.isdisjoint(wanted):
                message = (
                    f"feature {printable(part)!r}: the {kind} feature {printable(name)!r} has "
                    "a column of that name; rename one of them"
                )
                raise InvalidDocumentError(message, code="derived-name")


def infer_schema(
    session: Session,
    version: VersionSpec,
    features: Sequence[FeatureDocument],
    classes: tuple[str, ...] | None,
    *,
    attributions: bool = False,
) -> VersionSpec:
    """Add what a reference says to a version's schema, marked as inferred."""
    lock_model(session, version.model)
    row = session.get_one(Version, version.version_id, populate_existing=True)
    stored = find_version_by_id(session, row.id)
    known = {feature.name for feature in (*stored.features, *stored.dropped)}
    added = [feature for feature in features if feature.name not in known]
    if classes is not None and not row.classes:
        positive = None if version.task == "multiclass" else classes[-1]
        declare_classes(row, version.task, classes, positive)
        row.inferred = True
    row.attributions = row.attributions or attributions
    if added or row.attributions:
        add_features(session, row, added)
        row.inferred = row.inferred or bool(added)
    return _finished(session, row)


def lock_model(session: Session, name: str) -> Model:
    """Return the model, locked until the end of the transaction."""
    statement = select(Model).where(Model.name == name).with_for_update()
    row = session.scalar(statement) if is_name(name) else None
    if row is None:
        raise UnknownModelError
    return row


def _finished(session: Session, row: Version) -> VersionSpec:
    session.flush()
    version = find_version_by_id(session, row.id)
    create_view(session, version)
    return version


def _require_name(name: str) -> None:
    if not is_name(name):
        raise BadNameError
