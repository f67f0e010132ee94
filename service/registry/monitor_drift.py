"""The part of a monitor document that tells when a moved input is an alert."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, field_validator

from service.registry.documents import Document, FeatureName, hint
from service.registry.monitor_values import Alpha, Effect, one_of

DRIFT_METHODS = ("jensen_shannon", "psi", "total_variation", "hellinger", "ks", "wasserstein")

_BOTH = ("psi", "jensenshannon", "kl_div", "hellinger")
EVIDENTLY_NUMERIC = (
    "wasserstein",
    *_BOTH,
    "ks",
    "anderson",
    "cramer_von_mises",
    "ed",
    "es",
    "mannw",
    "t_test",
    "empirical_mmd",
)
EVIDENTLY_CATEGORICAL = (*_BOTH, "chisquare", "z", "g_test", "fisher_exact", "TVD")


EVIDENTLY_METHODS = tuple(
    f"evidently.{name}" for name in dict.fromkeys(EVIDENTLY_NUMERIC + EVIDENTLY_CATEGORICAL)
)


def _method(value: str) -> str:
    known = DRIFT_METHODS + EVIDENTLY_METHODS
    if value not in known:
        said = ", ".join((*DRIFT_METHODS, "evidently.<test>"))
        message = f"a drift method is one of {said}{hint(value, known)}"
        raise ValueError(message)
    return value


Method = Annotated[str, AfterValidator(_method)]
METHOD_MEANING = (
    "ks and wasserstein (in reference standard deviations) need numbers: categories get"
    " total_variation in their stead, and so do constants instead of wasserstein;"
    " evidently.<test> alerts where Evidently's score is beyond its threshold and chance, by our"
    " own test, does not explain it; the window waits for the score"
)
MIN_EFFECT_MEANING = (
    "the smallest score that matters, whatever the method; null: 0.1, for wasserstein 0.2;"
    " tests of Evidently that give a p-value keep its own threshold"
)


class FeatureDrift(Document):
    """What differs for one feature; ``null`` is what holds for all of them."""

    part: ClassVar[str] = "drift.features.*."

    method: Method | None = None
    min_effect: Effect | None = None
    ignore: bool = False


class Drift(Document):
    """When a moved input is an alert."""

    part: ClassVar[str] = "drift."

    method: Method = Field(default="jensen_shannon", description=METHOD_MEANING)
    alpha: Alpha = 0.01
    min_effect: Effect | None = Field(default=None, description=MIN_EFFECT_MEANING)
    features: dict[FeatureName, FeatureDrift] = Field(default_factory=dict)

    @property
    def waits_for_rows(self) -> bool:
        """Say whether anything is watched by a score that rows are needed for."""
        methods = (self.method, *(own.method for own in self.features.values()))
        return any(method in EVIDENTLY_METHODS for method in methods)


class EvidentlyMethods(Document):
    """Evidently's test for the columns of each kind."""

    part: ClassVar[str] = "evidently.methods."

    numeric: str = "wasserstein"
    categorical: str = "jensenshannon"

    @field_validator("numeric")
    @classmethod
    def _known_for_numbers(cls, value: str) -> str:
        return one_of(EVIDENTLY_NUMERIC, value, "Evidently's methods for numeric columns")

    @field_validator("categorical")
    @classmethod
    def _known_for_categories(cls, value: str) -> str:
        return one_of(EVIDENTLY_CATEGORICAL, value, "Evidently's methods for categorical columns")


class Evidently(Document):
    """What the second instrument measures."""

    part: ClassVar[str] = "evidently."

    methods: EvidentlyMethods = Field(default_factory=EvidentlyMethods)
    max_rows: int = Field(default=50_000, ge=100, le=1_000_000)
