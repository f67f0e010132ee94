"""The parts of the monitor document that say for whom a model is judged."""

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from service.errors import InvalidDocumentError
from service.registry.documents import PRINTABLE, Document, FeatureName
from service.registry.monitor_performance import HIGHER_IS_WORSE, METRICS_OF
from service.registry.monitor_values import one_of
from service.registry.predicates import columns_of, parse

MOST_SLICES = 200
MOST_CROSSED = 4
JOIN = " & "
TAG = "tags."
# What every row has beside its features.
OF_ROW = ("prediction", "score", "label")

# What a slice may be held to, of any task; a bias has no better side.
LIMITED = tuple(name for name in dict.fromkeys(chain(*METRICS_OF.values())) if name != "mean_error")

_TAG = re.compile(r"tags\.[A-Za-z0-9_./:-]{1,64}")

Share = Annotated[float, Field(ge=0, le=1)]


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Columns = Annotated[
    tuple[FeatureName, ...],
    Field(min_length=1, max_length=MOST_CROSSED),
    BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...]),
]


class SliceDocument(Document):
    """One slice by a predicate, or the slices of a column's values, or of crossed columns."""

    part: ClassVar[str] = "slices.*."

    column: Columns | None = None
    name: Annotated[str, Field(min_length=1, max_length=200, pattern=PRINTABLE)] | None = None
    where: str | None = None
    critical: bool = False
    metric: str | None = None
    floor: Annotated[float, Field(gt=-1, lt=1)] | None = Field(
        default=None, description="of a metric where higher is better"
    )
    ceiling: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="instead of a floor, of a metric where lower is better: mae, rmse"
    )

    @field_validator("column")
    @classmethod
    def _columns_of_rows(cls, values: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for value in values or ():
            require_groupable(value)
        if values and len(set(values)) != len(values):
            message = "a column is crossed with itself"
            raise ValueError(message)
        return values

    @field_validator("where")
    @classmethod
    def _can_be_read(cls, value: str | None) -> str | None:
        if value is not None:
            for column in columns_of(parse(value)):
                if column.startswith(TAG):
                    require_tag(column)
        return value

    @field_validator("name")
    @classmethod
    def _is_no_value(cls, value: str | None) -> str | None:
        if value is not None and "=" in value:
            message = "'=' is for the slices of a column"
            raise ValueError(message)
        return value

    @field_validator("metric")
    @classmethod
    def _may_have_a_floor(cls, value: str | None) -> str | None:
        return None if value is None else one_of(LIMITED, value, "metrics with a limit")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.column is None) == (self.where is None):
            message = "a slice has either a column or a where"
            raise ValueError(message)
        if (self.where is None) != (self.name is None):
            message = "a where has a name, and a column has none"
            raise ValueError(message)
        limits = (self.floor is not None) + (self.ceiling is not None)
        if (self.metric is not None, limits) != (self.critical, int(self.critical)):
            message = "critical, metric and either floor or ceiling belong together"
            raise ValueError(message)
        if self.critical and (self.metric in HIGHER_IS_WORSE) != (self.ceiling is not None):
            fitting, other = ("ceiling", "lower") if self.ceiling is None else ("floor", "higher")
            message = f"{self.metric} has a {fitting}, for {other} is better"
            raise ValueError(message)
        return self

    @property
    def limit(self) -> float | None:
        """Return its floor or its ceiling."""
        return self.ceiling if self.floor is None else self.floor

    def reads(self) -> frozenset[str]:
        """Return the columns that it needs."""
        return frozenset(self.column) if self.column else columns_of(parse(self.where or ""))


class FairnessDocument(Document):
    """A protected column, and what its groups may differ by; ``null`` is recorded, not judged."""

    part: ClassVar[str] = "fairness.*."

    column: FeatureName
    reference_group: Annotated[str, Field(max_length=200, pattern=PRINTABLE)] | None = None
    favourable_class: Annotated[str, Field(max_length=200, pattern=PRINTABLE)] | None = None
    min_disparate_impact: Share | None = 0.8
    max_demographic_parity_difference: Share | None = None
    max_equal_opportunity_difference: Share | None = None
    max_equalized_odds_difference: Share | None = None

    @field_validator("column")
    @classmethod
    def _column_of_rows(cls, value: str) -> str:
        require_groupable(value)
        return value


def require_groupable(column: str) -> None:
    """Refuse what has no groups: the score, and what the model or the truth says."""
    if column in OF_ROW:
        message = f"{column} has no slices by value; write a where"
        raise ValueError(message)
    if column.startswith(TAG):
        require_tag(column)


def require_tag(column: str) -> None:
    """Refuse a tag of a name that nobody would give."""
    if _TAG.fullmatch(column) is None:
        message = "a tag's name here has letters, digits and . _ / : - only"
        raise ValueError(message)


def declaration_of(name: str, declared: Sequence[SliceDocument]) -> SliceDocument | None:
    """Return what declares a slice of that name: by its name, else by most columns."""
    for declaration in declared:
        if declaration.name == name:
            return declaration
    by_value = [declaration for declaration in declared if declaration.column]
    for declaration in sorted(by_value, key=lambda d: -len(d.column or ())):
        pattern = JOIN.join(f"{re.escape(column)}=.*" for column in declaration.column or ())
        if re.fullmatch(pattern, name, re.DOTALL):
            return declaration
    return None


def require_distinct(slices: Iterable[SliceDocument], fairness: Iterable[FairnessDocument]) -> None:
    """Refuse what is declared twice, and more than a model may have."""
    found: list[Any] = [declared.column or declared.name for declared in slices]
    protected = [declared.column for declared in fairness]
    for names in (found, protected):
        if len(set(names)) != len(names):
            message = "declared twice"
            raise ValueError(message)
    if len(found) + len(protected) > MOST_SLICES:
        message = f"a model has at most {MOST_SLICES} slices"
        raise ValueError(message)


def require_of_task(
    slices: Iterable[SliceDocument], fairness: Iterable[FairnessDocument], task: str
) -> None:
    """Refuse limits of another task's metrics, and fairness where no class is the good one.

    Raises
    ------
    InvalidDocumentError
        It says which metrics the task has, or what fairness needs.
    """
    known = METRICS_OF[task]
    for declared in slices:
        if declared.metric is not None and declared.metric not in known:
            message = f"slices: {declared.metric} is not of a {task} model; {', '.join(known)} are"
            raise InvalidDocumentError(message)
    for protected in fairness:
        if task == "regression":
            message = "fairness: rates are of classes, and a regression predicts numbers"
            raise InvalidDocumentError(message)
        if task == "multiclass" and protected.favourable_class is None:
            message = f"fairness: of many classes, {protected.column} needs its favourable_class"
            raise InvalidDocumentError(message)
