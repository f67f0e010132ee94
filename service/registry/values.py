"""What the rest of the service knows of the catalogue: frozen values, no rows."""

from dataclasses import dataclass

from service.registry.monitor import MonitorDocument


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature, and the slot that holds it; ``minimum`` and ``maximum`` are declared."""

    name: str
    kind: str
    slot: str
    importance: float | None
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True, slots=True)
class VersionSpec:
    """One version of a model with its schema; no classes are known before they are declared."""

    model_id: int
    model: str
    task: str
    version_id: int
    version: str
    stage: str
    classes: tuple[str, ...]
    positive_class: str | None
    features: tuple[FeatureSpec, ...]
    inferred: bool
    auto_register: bool


@dataclass(frozen=True, slots=True)
class MonitorSpec:
    """A revision of a monitor document; revision 0 means that none has been stored."""

    revision: int
    document: MonitorDocument


@dataclass(frozen=True, slots=True)
class ReferenceSpec:
    """A revision of a version's reference, without its content."""

    id: int
    revision: int
    binning_id: int
    rows: int
    labelled: int
    chunks: int
