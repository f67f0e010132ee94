"""Personal fields are hashed or dropped before a row is encoded, on either way to a row."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ingest.codec import Codec
from service.ingest.times import Horizon
from service.ingest.verdicts import Verdicts
from service.registry.privacy import KeyMissingError, Pseudonyms, treat_record
from tests.unit.ingest.conftest import SPEC, a_feature

HORIZON = Horizon.at(datetime(2026, 6, 1, tzinfo=UTC))
KEY = Pseudonyms("a key of sixteen characters")
EMAIL = replace(a_feature("email", "categorical", "c2"), pii="hash")
IBAN = replace(a_feature("iban", "numeric", ""), pii="drop")
PRIVATE = replace(
    SPEC,
    features=(*SPEC.features, EMAIL),
    dropped=(IBAN,),
    tags=(("device", "hash"), ("ip", "drop")),
)
PLANTED = ("ann@example.org", "DE4450", "device-5", "10.1.2.3", "customer-17")
RECORD: dict[str, Any] = {
    "prediction_id": "a",
    "ts": "2026-01-02T03:04:05Z",
    "features": {"income": 1.5, "region": "north", "email": PLANTED[0], "iban": PLANTED[1]},
    "prediction": "1",
    "tags": {"device": PLANTED[2], "ip": PLANTED[3], "channel": "web"},
    "subject": PLANTED[4],
}


def cells(record: Any, *, escapes: bool = False, spec: Any = PRIVATE) -> bytes:
    verdicts = Verdicts(model="loans", version="7")
    # An escape is what makes a record be read field by field.
    raw = json.dumps(record).replace("north", "\\u006eorth" if escapes else "north").encode()
    row = Codec(spec, KEY).read(raw, 0, HORIZON, verdicts, escapes=escapes)
    assert not verdicts.warnings
    return row.cells


@pytest.mark.parametrize("escapes", [False, True])
def test_nothing_that_is_hashed_or_dropped_is_in_a_row(*, escapes: bool) -> None:
    stored = cells(RECORD, escapes=escapes)
    for value in PLANTED:
        assert value.encode() not in stored
    assert b"north" in stored
    assert b"web" in stored
    assert KEY.of("email", PLANTED[0]).encode() in stored
    assert KEY.of("subject", PLANTED[4]).encode() in stored
    assert stored == cells(RECORD, escapes=not escapes)


def test_a_dropped_feature_may_have_any_type_and_is_no_fault() -> None:
    for value in (None, 1, "x", True, [1, {"a": []}], {"b": 2}):
        record = {**RECORD, "features": {**RECORD["features"], "iban": value}}
        assert cells(record) == cells(record, escapes=True) == cells(RECORD)


def test_without_a_key_nothing_is_read_that_must_be_hashed() -> None:
    with pytest.raises(KeyMissingError):
        Codec(PRIVATE)
    with pytest.raises(KeyMissingError):
        treat_record(RECORD, PRIVATE, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=3,
)
FIELDS = st.dictionaries(st.sampled_from(["income", "email", "iban", "device", "ip", "x"]), JSON)
RECORDS = st.fixed_dictionaries(
    {}, optional={"features": FIELDS | JSON, "tags": FIELDS | JSON, "subject": JSON, "ts": JSON}
)


@given(RECORDS)
def test_treating_a_record_twice_is_treating_it_once(record: dict[str, Any]) -> None:
    once = treat_record(record, PRIVATE, KEY)
    assert treat_record(once, PRIVATE, KEY) == once


def test_a_record_that_was_put_aside_becomes_the_same_row() -> None:
    aside = treat_record(RECORD, PRIVATE, KEY)
    assert not any(value in json.dumps(aside) for value in PLANTED)
    assert cells(aside) == cells(RECORD)


def test_a_row_that_the_database_refuses_is_put_aside_without_what_is_personal() -> None:
    raw = json.dumps(RECORD).encode()
    verdicts = Verdicts(model="loans", version="7")
    row = Codec(PRIVATE, KEY).read(raw, 0, HORIZON, verdicts, escapes=False)
    aside = bytes(row.aside(raw))
    assert not [value for value in PLANTED if value.encode() in aside]
    assert cells(json.loads(aside)) == row.cells
    assert Codec(SPEC).layout.pseudonyms is None


def test_another_key_and_another_field_give_another_hash() -> None:
    assert KEY.of("email", "a") != KEY.of("subject", "a")
    assert KEY.of("email", "a") != Pseudonyms("a key of other characters").of("email", "a")
    assert KEY.fingerprint != Pseudonyms("a key of other characters").fingerprint
