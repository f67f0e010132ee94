"""A version's columns as the pure packages know them."""

from service.profiles.columns import Classes, Column, Kind, ManyClasses, Output, Quantity
from service.registry.values import VersionSpec

SAMPLE_ELEMENTS = 1 << 24


def columns_of(version: VersionSpec) -> tuple[Column, ...]:
    """Return the version's features."""
    return tuple(
        Column(feature.name, Kind(feature.kind), feature.minimum, feature.maximum)
        for feature in version.features
    )


def profiled_columns(version: VersionSpec) -> tuple[Column, ...]:
    """Return all that a profile holds: the version's features, and their attributions."""
    attributions = (Column(own.name, Kind.NUMERIC) for own in version.attributions)
    return (*columns_of(version), *attributions)


def output_of(version: VersionSpec) -> Output:
    """Return what the version predicts: a number or classes, of two 0 and 1 if none are known."""
    if version.task == "regression":
        return Quantity()
    if version.task == "multiclass":
        return ManyClasses(version.classes)
    positive = version.positive_class or "1"
    negative = next((name for name in version.classes if name != positive), "0")
    return Classes(negative, positive)


def most_rows(elements: int) -> int:
    """Return how many rows a sample may have whose rows hold vectors of so many numbers."""
    return SAMPLE_ELEMENTS // max(elements, 1)
