"""A version of three features."""

from service.registry.values import FeatureSpec, VersionSpec


def a_feature(name: str, kind: str, slot: str) -> FeatureSpec:
    return FeatureSpec(name, kind, slot, None, None, None)


SPEC = VersionSpec(
    model_id=3,
    model="loans",
    task="binary",
    version_id=5,
    version="7",
    stage="live",
    classes=("0", "1"),
    positive_class="1",
    features=(
        a_feature("income", "numeric", "n1"),
        a_feature("region", "categorical", "c1"),
        a_feature("owner", "boolean", "n2"),
    ),
    inferred=False,
    auto_register=False,
)
