"""The catalogue's documents: what is put, and what is answered."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from service.registry.classes import class_text
from service.registry.documents import PRINTABLE, Document, FeatureName
from service.registry.monitor import MonitorDocument
from service.registry.privacy import Policy
from service.registry.values import HASH, FeatureSpec, MonitorSpec, VersionSpec

__all__ = [
    "FeatureDocument",
    "ModelAnswer",
    "ModelDocument",
    "ModelList",
    "MonitorAnswer",
    "MonitorDocument",
    "VersionAnswer",
    "VersionDocument",
    "VersionList",
    "is_reserved",
]

RESERVED = frozenset(
    {
        *("prediction_id", "ts", "prediction", "score", "scores", "label", "weight"),
        *("subject", "tags", "attributions"),
    }
)
LONGEST_CLASS = 200
# Of a multiclass model; a profile holds a histogram of scores for each.
FEWEST_CLASSES, MOST_CLASSES = 3, 50
# Of an embedding; the bytes of a request are limited as well.
LONGEST_VECTOR = 4_096

MOST_TAGS = 32

TagName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=PRINTABLE)]
Text = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]


def is_reserved(name: str) -> bool:
    """Say whether a column of that name is one of ours and never a feature."""
    return name in RESERVED or name.startswith(("scores.", "tags.", "attributions."))


class ModelDocument(Document):
    """A monitored model."""

    task: Literal["binary", "multiclass", "regression"] = "binary"
    owner: Text = ""
    description: Text = ""
    auto_register: bool = False


Kind = Literal["numeric", "categorical", "boolean", "datetime", "text", "embedding"]


class FeatureDocument(Document):
    """One feature of a version."""

    part: ClassVar[str] = "features.*."

    name: FeatureName
    kind: Kind
    importance: float | None = Field(default=None, ge=0)
    min: float | None = None
    max: float | None = None
    length: Annotated[int, Field(ge=1, le=LONGEST_VECTOR)] | None = None
    pii: Policy | None = Field(default=None, description="keep, unless it was said before")

    @field_validator("name")
    @classmethod
    def _free(cls, value: str) -> str:
        if is_reserved(value):
            message = "the name is reserved; choose another"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.kind != "numeric" and (self.min is not None or self.max is not None):
            message = "only a numeric feature has a range"
            raise ValueError(message)
        if self.min is not None and self.max is not None and self.min > self.max:
            message = "min is larger than max"
            raise ValueError(message)
        if (self.kind == "embedding") != (self.length is not None):
            message = "an embedding has a length, and no other feature has one"
            raise ValueError(message)
        if self.pii == HASH and self.kind != "categorical":
            message = "only a categorical feature can be hashed; drop it, or declare it so"
            raise ValueError(message)
        return self


class VersionDocument(Document):
    """A version; what is left out is inferred from its reference."""

    features: tuple[FeatureDocument, ...] | None = None
    classes: tuple[str, ...] | None = None
    positive_class: str | None = None
    stage: Literal["live", "shadow", "retired"] = "live"
    attributions: bool = False
    tags: dict[TagName, Policy] = Field(
        default={}, max_length=MOST_TAGS, description="tags that are not kept as they are"
    )

    @field_validator("classes", mode="before")
    @classmethod
    def _class_texts(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        words = {str(each).lower() for each in value if isinstance(each, bool)}
        return [class_text(each, words) for each in value]

    @field_validator("classes")
    @classmethod
    def _different_classes(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (
            len(set(value)) != len(value) or not all(is_class(name) for name in value)
        ):
            message = "classes are different names of at most 200 printable characters"
            raise ValueError(message)
        return value

    @field_validator("positive_class", mode="before")
    @classmethod
    def _class_text(cls, value: object) -> object:
        return (
            class_text(value, ("true", "false")) if isinstance(value, bool) else (class_text(value))
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [feature.name for feature in self.features or ()]
        if len(set(names)) != len(names):
            message = "a feature is listed twice"
            raise ValueError(message)
        if self.positive_class is not None and self.classes is None:
            message = "positive_class needs classes beside it"
            raise ValueError(message)
        return self


class ModelAnswer(BaseModel):
    """A model as it is stored."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(serialization_alias="model")
    task: str
    owner: str
    description: str
    auto_register: bool
    created_at: datetime


class ModelList(BaseModel):
    """All models, ordered by name."""

    models: list[ModelAnswer]


class FeatureAnswer(BaseModel):
    """A feature as it is stored."""

    name: str
    kind: str
    importance: float | None
    min: float | None
    max: float | None
    length: int | None
    pii: str

    @classmethod
    def of(cls, feature: FeatureSpec) -> Self:
        """Build the answer from the stored feature."""
        return cls(
            name=feature.name,
            kind=feature.kind,
            importance=feature.importance,
            min=feature.minimum,
            max=feature.maximum,
            length=feature.length,
            pii=feature.pii,
        )


class VersionAnswer(BaseModel):
    """A version as it is stored; ``view`` is the table of its rows in the database."""

    model: str
    version: str
    stage: str
    features: list[FeatureAnswer]
    classes: list[str]
    positive_class: str | None
    inferred: bool
    attributions: bool
    tags: dict[str, str]
    view: str

    @classmethod
    def of(cls, version: VersionSpec, view: str) -> Self:
        """Build the answer from the stored version."""
        return cls(
            model=version.model,
            version=version.version,
            stage=version.stage,
            features=[FeatureAnswer.of(own) for own in (*version.features, *version.dropped)],
            classes=list(version.classes),
            positive_class=version.positive_class,
            inferred=version.inferred,
            attributions=version.attributed,
            tags=dict(version.tags),
            view=view,
        )


class VersionList(BaseModel):
    """A model's versions, oldest first."""

    versions: list[VersionAnswer]


class MonitorAnswer(MonitorDocument):
    """The monitor document in force, all its defaults filled in, and its revision."""

    revision: int

    @classmethod
    def of(cls, monitor: MonitorSpec) -> Self:
        """Build the answer from the stored revision."""
        content: dict[str, Any] = monitor.document.model_dump()
        return cls.model_validate({**content, "revision": monitor.revision})


def is_class(name: str) -> bool:
    """Say whether a class may have that name: short, printable and not empty."""
    return 0 < len(name) <= LONGEST_CLASS and name.isprintable()
