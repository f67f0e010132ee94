"""Records to rows: the two ways agree, and every record has exactly one verdict."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.ingest.codec import Codec, WrongTargetError
from service.ingest.times import Horizon
from service.ingest.verdicts import Code, RowError, Verdicts
from tests.unit.ingest.conftest import SPEC

HORIZON = Horizon.at(datetime(2026, 6, 1, tzinfo=UTC))
CODEC = Codec(SPEC)
RECORD: dict[str, Any] = {
    "prediction_id": "a",
    "ts": "2026-01-02T03:04:05Z",
    "features": {"income": 1.5, "region": "north", "owner": True},
    "prediction": "1",
    "score": 0.5,
}


def judge(record: Any, *, escapes: Any = True) -> Any:
    """Return the row's bytes or the verdict, and the warnings."""
    verdicts = Verdicts(model="loans", version="7")
    raw = record if isinstance(record, bytes) else json.dumps(record, ensure_ascii=False).encode()
    try:
        row = CODEC.read(raw, 0, HORIZON, verdicts, escapes=escapes)
    except RowError as error:
        return error.code, verdicts.warnings
    except WrongTargetError:
        return "another target", verdicts.warnings
    return (row.cells, row.tail), verdicts.warnings


def verdict(**overrides: Any) -> Any:
    record = {name: v for name, v in {**RECORD, **overrides}.items() if v is not ...}
    return judge(record)[0]


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(["0", "1", 0, 1, 0.0, 1.0, True, "2026-01-02T03:04:05Z", "2026-01-02T03:04"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["income", "region", "owner", "x"]), inner, max_size=3)
    ),
    max_leaves=4,
)
NAMES = st.sampled_from([*RECORD, "scores", "weight", "subject", "tags", "model", "other"])
RECORDS = st.dictionaries(NAMES, VALUES, max_size=3).map(lambda changes: {**RECORD, **changes})


@settings(max_examples=600)
@given(RECORDS)
def test_the_fast_way_and_the_slow_way_cannot_disagree(record: Any) -> None:
    careful = Codec(SPEC)
    careful._decode = None
    verdicts = Verdicts(model="loans", version="7")
    raw = json.dumps(record, ensure_ascii=False).encode()
    try:
        row = careful.read(raw, 0, HORIZON, verdicts, escapes=True)
        expected: Any = (row.cells, row.tail)
    except RowError as error:
        expected = error.code
    except WrongTargetError:
        expected = "another target"
    assert judge(raw, escapes=b"\\" in raw) == (expected, verdicts.warnings)


@given(st.text(max_size=40).map(lambda text: text.encode(errors="replace")) | VALUES)
def test_anything_at_all_has_a_verdict(record: Any) -> None:
    judge(record)


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        ({"prediction_id": ...}, "missing-field"),
        ({"prediction_id": 7}, "bad-prediction-id"),
        ({"prediction_id": ""}, "bad-prediction-id"),
        ({"prediction_id": "x" * 129}, "bad-prediction-id"),
        ({"prediction_id": "a\0b"}, "bad-prediction-id"),
        ({"ts": ...}, "missing-field"),
        ({"ts": "2026-01-02T03:04:05"}, "timestamp-without-zone"),
        ({"ts": "2026-01-02T03:04:05\0Z"}, "bad-timestamp"),
        ({"ts": "2026-01-02T03:04:05.2\x005Z"}, "bad-timestamp"),
        ({"ts": "2026-01-02"}, "bad-timestamp"),
        ({"ts": 1767323045}, "bad-timestamp"),
        ({"ts": "0000-01-01T00:00:00Z"}, "bad-timestamp"),
        ({"ts": "10000-01-01T00:00:00Z"}, "bad-timestamp"),
        ({"ts": "0001-01-01T00:00:00+14:00"}, "timestamp-out-of-range"),
        ({"ts": "9999-12-31T23:00:00-12:00"}, "timestamp-out-of-range"),
        ({"ts": "2026-01-02T23:59:60Z"}, "bad-timestamp"),
        ({"ts": "2026-01-02T24:00:00Z"}, "bad-timestamp"),
        ({"ts": "2026-06-01T00:10:01Z"}, "timestamp-in-future"),
        ({"ts": "1970-01-01T00:00:00Z"}, "timestamp-too-old"),
        ({"features": []}, "bad-features"),
        ({"features": {"income\0": 1}}, "unknown-feature"),
        ({"features": {"__proto__": 1}}, "unknown-feature"),
        ({"features": {"x" * 1_000_000: 1}}, "unknown-feature"),
        ({"features": {str(i): 1 for i in range(10_000)}}, "too-many-features"),
        ({"features": {"income": 2**63}}, "number-out-of-range"),
        ({"features": {"region": "a\0"}}, "control-character"),
        ({"features": {"region": "x" * 1_000_000}}, "string-too-long"),
        ({"features": {"region": "\N{SNOWMAN}" * 2_731}}, "string-too-long"),
        ({"prediction": "2"}, "unknown-class"),
        ({"prediction": {}}, "bad-prediction"),
        ({"prediction": None, "score": None}, "missing-field"),
        ({"score": 1.01}, "bad-score"),
        ({"score": "0.5"}, "bad-score"),
        ({"score": True}, "bad-score"),
        ({"score": ..., "scores": {"1": 2}}, "bad-score"),
        ({"score": ..., "scores": {"2": 0.5}}, "unknown-class"),
        ({"weight": -1}, "bad-weight"),
        ({"subject": 17}, "bad-subject"),
        ({"tags": {"a": 1}}, "bad-tags"),
        ({"tags": {"a\0": "b"}}, "control-character"),
        ({"other": 1}, "unknown-field"),
        ({"model": "other"}, "another target"),
    ],
)
def test_each_fault_has_its_verdict(overrides: Any, code: Any) -> None:
    assert verdict(**overrides) == code


@pytest.mark.parametrize("text", ["<script>", "=1+1", "\u202e", "a\tb\nc", "x" * 8_192])
def test_text_that_only_looks_dangerous_is_stored_as_it_is(text: Any) -> None:
    cells, _ = verdict(features={"region": text})
    assert text.encode() in cells


@pytest.mark.parametrize("value", ["5", True, {"$ne": 1}, [1]])
def test_a_feature_of_the_wrong_type_costs_the_feature_and_is_told(value: Any) -> None:
    record = {**RECORD, "features": {**RECORD["features"], "income": value}}
    without = {**RECORD, "features": {**RECORD["features"], "income": None}}
    row, warnings = judge(record)
    assert row == judge(without)[0]
    assert warnings == [{"index": 0, "field": "income", "code": "wrong-type"}]


def test_classes_and_scores_have_one_meaning_in_every_spelling() -> None:
    rows = [verdict(prediction=value) for value in ("1", 1, 1.0, True)]
    assert len(set(rows)) == 1
    by_class = verdict(score=..., scores={"1": 0.75, "0": 0.25})
    assert by_class == verdict(score=0.75) == verdict(score=..., scores={"0": 0.25})


def test_equal_times_in_other_zones_are_one_time() -> None:
    assert verdict(ts="2026-01-02T05:04:05+02:00") == verdict(ts="2026-01-02 03:04:05z")


def test_a_feature_that_is_added_later_does_not_make_an_old_row_another() -> None:
    grown = Codec(
        SPEC.__class__(
            **{
                **{name: getattr(SPEC, name) for name in SPEC.__slots__},
                "features": (*SPEC.features, *_more_features()),
            }
        )
    )
    raw = json.dumps(RECORD).encode()
    before, after = (
        codec.read(raw, 0, HORIZON, Verdicts(model="loans", version="7"), escapes=False)
        for codec in (CODEC, grown)
    )
    assert before.tail == after.tail
    assert before.cells != after.cells


def _more_features() -> Any:
    feature = SPEC.features[0].__class__
    return (
        feature("age", "numeric", "n3", None, None, None),
        feature("plan", "categorical", "c2", None, None, None),
    )


@pytest.mark.parametrize(
    ("names", "field"),
    [
        (["incme"], "incme"),
        (["größe.m-2 "], "größe.m-2 "),
        (["incme", "regon"], "incme"),
        ([""], "features"),
        (["a" * 64], "a" * 64),
        (["a" * 65], "features"),
        (["<b>x"], "features"),
        (["a\x00b"], "features"),
        (["a\u202eb"], "features"),
        (["x'); DROP TABLE label; --"], "features"),
    ],
)
def test_a_feature_that_no_schema_has_is_named_if_it_is_a_plain_word(
    names: list[str], field: str
) -> None:
    record = {**RECORD, "features": {**RECORD["features"], **dict.fromkeys(names, 1)}}
    owner = Verdicts(model="loans", version="7")
    with pytest.raises(RowError) as refused:
        CODEC.read(json.dumps(record).encode(), 0, HORIZON, owner, escapes=True)
    assert (refused.value.code, refused.value.field) == (Code.UNKNOWN_FEATURE, field)
    assert ("nor 1 more" in refused.value.detail) == (len(names) > 1)
