"""What the pure packages know of a version's schema."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a column is binned."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class Column:
    """A feature by name and kind, with the range that its owner declared, if any."""

    name: str
    kind: Kind
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Classes:
    """The two class names of a binary model, and which of them ``score`` is the probability of."""

    negative: str
    positive: str
