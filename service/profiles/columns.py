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

    @property
    def names(self) -> tuple[str, ...]:
        """Return both names, the negative one first."""
        return (self.negative, self.positive)


@dataclass(frozen=True, slots=True)
class ManyClasses:
    """The class names of a multiclass model, in the order of its scores."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quantity:
    """The output of a regression model: a number."""


Output = Classes | ManyClasses | Quantity
