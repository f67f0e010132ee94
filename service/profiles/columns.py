"""What the pure packages know of a version's schema."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class Kind(StrEnum):
    """How a column is binned; the last three are profiled by columns derived from them."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    TEXT = "text"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Column:
    """A feature by name and kind, with the range that its owner declared, if any.

    ``categories`` are all that there can be, where that is known without a reference.
    """

    name: str
    kind: Kind
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()


# Before the name of a feature: what it contributed to the prediction, as the client logs it.
ATTRIBUTIONS = "attributions."

HOURS = tuple(f"{hour:02d}" for hour in range(24))
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)

_PARTS: Mapping[str, tuple[Column, ...]] = {
    Kind.DATETIME: (
        Column("hour", Kind.CATEGORICAL, categories=HOURS),
        Column("weekday", Kind.CATEGORICAL, categories=WEEKDAYS),
        Column("month", Kind.CATEGORICAL, categories=MONTHS),
        Column("age", Kind.NUMERIC),
    ),
    Kind.TEXT: (
        Column("length", Kind.NUMERIC),
        Column("non_letters", Kind.NUMERIC),
        Column("oov", Kind.NUMERIC),
    ),
    Kind.EMBEDDING: (Column("norm", Kind.NUMERIC),),
}


def parts_of(name: str, kind: str) -> tuple[Column, ...]:
    """Return the columns that stand for a feature of that kind; none if it is binned itself.

    Examples
    --------
    >>> [part.name for part in parts_of("signup", "datetime")]
    ['signup.hour', 'signup.weekday', 'signup.month', 'signup.age']
    >>> parts_of("income", "numeric")
    ()
    """
    return tuple(replace(part, name=f"{name}.{part.name}") for part in _PARTS.get(kind, ()))


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
