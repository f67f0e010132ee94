"""The struct of a version's records, which only what is right in every type decodes into."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec

from service.ingest import limits
from service.ingest.examine import LARGEST_REAL
from service.registry.values import FeatureSpec

Number = Annotated[float, msgspec.Meta(gt=-float(1 << 63), lt=float(1 << 63))]
Text = Annotated[str, msgspec.Meta(max_length=limits.SAFE_TEXT)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.MAX_ID)]
_KINDS: dict[str, Any] = {
    "numeric": Number | None,
    "attribution": Number | None,
    "boolean": bool | None,
    "categorical": Text | None,
    "text": Text | None,
    "datetime": Time | None,
}
Element = Annotated[float, msgspec.Meta(ge=-LARGEST_REAL, le=LARGEST_REAL)]
_OUTPUTS: dict[str, tuple[tuple[str, Any, Any], ...]] = {
    "binary": (
        ("prediction", str | int | float | bool | None, None),
        ("score", Annotated[float, msgspec.Meta(ge=0, le=1)] | None, None),
    ),
    "multiclass": (
        ("prediction", str | int | float | bool | None, None),
        ("scores", dict[str, Annotated[float, msgspec.Meta(ge=0, le=1)]] | None, None),
    ),
    "regression": (("prediction", Number, msgspec.NODEFAULT),),
}
_COMMON: tuple[tuple[str, Any, Any], ...] = (
    ("weight", Annotated[float, msgspec.Meta(ge=0, lt=float(1 << 63))] | None, None),
    ("subject", Text | None, None),
    ("tags", dict[str, str] | None, None),
    ("model", str | None, None),
    ("version", str | None, None),
)
_OPTIONS: dict[str, Any] = {"forbid_unknown_fields": True, "gc": False}


def typed_decoder(
    columns: tuple[FeatureSpec, ...], inputs: tuple[str, ...], task: str, dropped: tuple[str, ...]
) -> Any:
    """Build the decoder of a version's records; ``None`` if a name has no struct field.

    Nor if there are more features than a record may have, for a struct does not count them.
    What is ``dropped`` comes last and is not looked at.
    """
    if len(columns) + len(dropped) > limits.MAX_FEATURES:
        return None
    skipped = dict.fromkeys(dropped, msgspec.Raw | None)
    try:
        features = _struct({own.name: _type(own) for own in columns} | skipped)
        attributions = _struct(dict.fromkeys(inputs, _KINDS["attribution"]) | skipped)
    except ValueError:
        return None
    required = [("prediction_id", Identifier), ("ts", Time), ("features", features)]
    default = msgspec.field(default_factory=attributions)
    later = [("attributions", attributions, default)] if inputs else []
    fields: list[Any] = [*required, *_OUTPUTS[task], *_COMMON, *later]
    row = msgspec.defstruct("Row", fields, kw_only=True, **_OPTIONS)
    return msgspec.json.Decoder(row).decode


def _type(feature: FeatureSpec) -> Any:
    if feature.kind == "embedding":
        size = msgspec.Meta(min_length=feature.length, max_length=feature.length)
        return Annotated[list[Element], size] | None
    return _KINDS[feature.kind]


def _struct(types: Mapping[str, Any]) -> Any:
    """Return a class with these fields, all of them optional, whatever they are called."""
    fields = [(f"f{i}", kind, None) for i, kind in enumerate(types.values())]
    renames = {f"f{i}": name for i, name in enumerate(types)}
    return msgspec.defstruct("Values", fields, rename=renames, **_OPTIONS)
