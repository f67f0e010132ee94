"""Times, texts, vectors and attributions in a record."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.ingest import copy
from service.ingest.codec import Codec
from service.ingest.times import Horizon
from service.ingest.verdicts import RowError, Verdicts
from service.registry.values import ATTRIBUTION, FeatureSpec
from tests.unit.ingest.conftest import SPEC, a_feature

HORIZON = Horizon.at(datetime(2026, 6, 1, tzinfo=UTC))
FEATURES = (
    a_feature("signup", "datetime", "n1"),
    a_feature("comment", "text", "c1"),
    a_feature("income", "numeric", "n2"),
    FeatureSpec("vector", "embedding", "v1", None, None, None, 3),
)
ATTRIBUTIONS = (
    a_feature("attributions.signup", ATTRIBUTION, "n3"),
    a_feature("attributions.income", ATTRIBUTION, "n4"),
)
KINDS = replace(SPEC, features=FEATURES, attributions=ATTRIBUTIONS, attributed=True)
RECORD: dict[str, Any] = {
    "prediction_id": "a",
    "ts": "2026-01-02T03:04:05Z",
    "prediction": "1",
    "features": {"signup": "2026-01-01T00:00:00Z", "comment": "hi there", "vector": [1, 2.5, -3]},
    "attributions": {"income": 0.25},
}
CODEC = Codec(KINDS)
CAREFUL = Codec(KINDS)
CAREFUL._decode = None


def judge(record: Any, codec: Codec = CODEC) -> Any:
    verdicts = Verdicts(model="loans", version="7")
    raw = json.dumps(record, ensure_ascii=False).encode()
    try:
        row = codec.read(raw, 0, HORIZON, verdicts, escapes=b"\\" in raw)
    except RowError as error:
        return error.code, []
    return (row.cells, row.tail), [warning["field"] for warning in verdicts.warnings]


def with_feature(name: str, value: Any) -> dict[str, Any]:
    return {**RECORD, "features": {**RECORD["features"], name: value}}


def test_every_kind_is_encoded_as_its_slot_is() -> None:
    (cells, _), warnings = judge(RECORD)
    assert warnings == []
    assert cells.endswith(
        copy.float8_field(1_767_225_600.0)
        + copy.NULL
        + copy.text_field("hi there")
        + copy.float4s_field([1.0, 2.5, -3.0])
        + copy.NULL
        + copy.float8_field(0.25)
    )


WRONG: dict[str, tuple[Any, ...]] = {
    "signup": (
        *(5, "soon", "2026-13-01", "2026-01-01T00:00:00", True, "20260101", "2026-W01-1"),
        "0001-01-01T00:00:00+14:00",
    ),
    "comment": (5, ["a"], {}),
    "vector": (
        *(5, "a", [1, 2], [1, 2, 3, 4], [1, 2, None], [1, 2, "3"], [1, 2, True]),
        *([[1, 2, 3]], [1, 2, 1e39], {"0": 1}),
    ),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_value_of_another_kind_costs_the_feature_and_is_told(name: str, value: Any) -> None:
    assert judge(with_feature(name, value)) == (judge(with_feature(name, None))[0], [name])


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-02", 86_400.0),
        ("1969-12-31T23:59:59.5Z", -0.5),
        ("1970-01-01T02:00:00+02:00", 0.0),
        ("9999-12-31", 253_402_214_400.0),
        ("0001-01-01", -62_135_596_800.0),
    ],
)
def test_times_near_and_far_are_seconds(text: str, at: float) -> None:
    (cells, _), warnings = judge(with_feature("signup", text))
    assert copy.float8_field(at) in cells
    assert warnings == []


@pytest.mark.parametrize(
    ("attributions", "code"),
    [([], "bad-features"), ({"comment": 1.0}, "unknown-feature"), (5, "bad-features")],
)
def test_attributions_are_to_features_of_the_version(attributions: Any, code: str) -> None:
    assert judge({**RECORD, "attributions": attributions})[0] == code


def test_an_attribution_that_is_no_number_is_told() -> None:
    row, warnings = judge({**RECORD, "attributions": {"income": "much", "signup": 1}})
    assert row == judge({**RECORD, "attributions": {"signup": 1.0}})[0]
    assert warnings == ["attributions.income"]


def test_a_version_that_declares_no_attributions_refuses_them() -> None:
    plain = Codec(replace(KINDS, attributions=(), attributed=False))
    assert judge(RECORD, plain)[0] == "unknown-field"
    assert judge({**RECORD, "attributions": None}, plain)[1] == []


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["2026-01-01", "2026-01-01T00:00:00Z", "9999-12-31T23:00:00-12:00", "a\n"]),
    ),
    lambda inner: st.lists(inner, min_size=2, max_size=4),
    max_leaves=5,
)
CHANGES = st.dictionaries(st.sampled_from([own.name for own in FEATURES]), VALUES, max_size=4)


@settings(max_examples=300)
@given(CHANGES, st.none() | VALUES | st.dictionaries(st.sampled_from(["income", "x"]), VALUES))
def test_the_fast_way_and_the_slow_way_cannot_disagree(features: Any, attributions: Any) -> None:
    record = {**RECORD, "features": features, "attributions": attributions}
    assert judge(record) == judge(record, CAREFUL)


def test_kinds_that_are_added_later_do_not_make_an_old_row_another() -> None:
    old = {name: RECORD[name] for name in ("prediction_id", "ts", "prediction")}
    before = Codec(replace(KINDS, features=FEATURES[:3], attributions=(), attributed=False))
    features = {"features": {"comment": "hi there", "signup": "2026-01-01"}}
    was, now = (judge({**old, **features}, codec)[0] for codec in (before, CODEC))
    assert was[1] == now[1]
    assert was[0] != now[0]
