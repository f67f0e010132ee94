"""What the rest of the service knows of the catalogue: frozen values, no rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from service.registry.monitor import MonitorDocument

# Both the kind and the prefix of the name of what a feature contributed to a prediction.
ATTRIBUTION = "attribution"
ATTRIBUTIONS = "attributions"

# What becomes of a value before it is stored.
KEEP, HASH, DROP = "keep", "hash", "drop"

# What is measured of a feature in its stead; profiles derives them, and lies above in the house.
PARTS: Mapping[str, tuple[str, ...]] = {
    "datetime": ("hour", "weekday", "month", "age"),
    "text": ("length", "non_letters", "oov"),
    "embedding": ("norm",),
}


def part_names(name: str, kind: str) -> tuple[str, ...]:
    """Return the names of the columns that are derived from a feature."""
    return tuple(f"{name}.{part}" for part in PARTS.get(kind, ()))


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature, and the slot that holds it; ``minimum`` and ``maximum`` are declared.

    ``length`` is how many numbers an embedding has.  A feature that is dropped has no slot.
    """

    name: str
    kind: str
    slot: str
    importance: float | None
    minimum: float | None
    maximum: float | None
    length: int | None = None
    position: int = 0
    pii: str = KEEP


@dataclass(frozen=True, slots=True)
class VersionSpec:
    """One version of a model with its schema; no classes are known before they are declared.

    ``attributions`` are stored like features, under ``attributions.<feature>``, but are none;
    an ``attributed`` version has one for every feature.  ``dropped`` features may be sent and are
    never stored; ``tags`` are the policies of tags that are not kept as they are.  Rows before
    ``rows_since`` have been dropped, and what was profiled of them stays as it is.
    """

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
    attributions: tuple[FeatureSpec, ...] = ()
    attributed: bool = False
    dropped: tuple[FeatureSpec, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    rows_since: datetime | None = None

    @property
    def hashes(self) -> bool:
        """Say whether anything of it is hashed, which takes a key."""
        policies = (*(own.pii for own in self.features), *(policy for _, policy in self.tags))
        return HASH in policies


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
