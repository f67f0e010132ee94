"""The binary COPY format, read back by a decoder of the test's own."""

import json
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ingest import copy
from service.ingest.examine import Fields
from service.ingest.rows import Layout
from service.ingest.times import microseconds
from service.ingest.verdicts import Verdicts
from tests.unit.ingest.conftest import SPEC


def cells(stream: Any, count: Any) -> Any:
    """Split one tuple into its fields."""
    fields: list[bytes | None] = []
    at = 0
    for _ in range(count):
        [length] = struct.unpack_from(">i", stream, at)
        at += 4
        if length == -1:
            fields.append(None)
            continue
        fields.append(stream[at : at + length])
        at += length
    assert at == len(stream)
    return fields


def to_time(cell: Any) -> Any:
    [value] = struct.unpack(">q", cell)
    return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)


def to_float(cell: Any) -> Any:
    return None if cell is None else struct.unpack(">d", cell)[0]


def to_text(cell: Any) -> Any:
    return None if cell is None else cell.decode()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.datetimes(
    datetime(1, 1, 2),
    datetime(9999, 12, 30),
    timezones=st.just(UTC),
)


@st.composite
def fields(draw: Any) -> Any:
    tags = draw(st.none() | st.dictionaries(TEXT, TEXT, min_size=1, max_size=3))
    return Fields(
        draw(TEXT),
        microseconds(draw(TIMES)),
        draw(st.none() | st.sampled_from(["0", "1"])),
        draw(st.none() | FINITE),
        None,
        draw(st.none() | FINITE),
        draw(st.none() | TEXT),
        None if tags is None else msgspec.json.encode(tags),
        (draw(st.none() | FINITE), draw(st.none() | st.sampled_from([0.0, 1.0]))),
        (draw(st.none() | TEXT),),
    )


@given(fields(), st.integers(0, 5))
def test_a_row_is_read_back_as_it_was_encoded(given_fields: Any, repeats: Any) -> None:
    layout = Layout(SPEC)
    for _ in range(repeats + 1):
        row = layout.encode(3, given_fields, Verdicts())
    [count] = struct.unpack_from(">h", row.cells)
    assert count == len(layout.columns)
    got = cells(row.cells[2:], count)
    assert struct.unpack(">qq", got[0] + got[1]) == (SPEC.model_id, SPEC.version_id)
    assert got[2].decode() == row.prediction_id == given_fields.prediction_id
    assert microseconds(to_time(got[3])) == row.ts == given_fields.ts
    assert to_text(got[4]) == given_fields.prediction
    assert [to_float(cell) for cell in got[5:7]] == [given_fields.score, given_fields.weight]
    assert to_text(got[7]) == given_fields.subject
    if given_fields.tags is not None:
        assert got[8][:1] == b"\x01"
        assert json.loads(got[8][1:]) == json.loads(given_fields.tags)
    assert tuple(map(to_float, got[9:11])) == given_fields.numbers
    assert (to_text(got[11]),) == given_fields.texts
    identity = cells(row.key + row.tail, 5)
    assert identity[:4] == got[:4]
    assert len(identity[4]) == 8


@given(fields(), fields())
def test_rows_say_the_same_exactly_when_their_fields_are_equal(one: Any, other: Any) -> None:
    layout = Layout(SPEC)
    first, second = (layout.encode(0, f, Verdicts()) for f in (one, other))
    assert layout.encode(9, one, Verdicts()).tail == first.tail
    if first.cells != second.cells:
        assert (first.key, first.tail) != (second.key, second.tail)


@pytest.mark.parametrize("count", [0, 1, 499, 1_001])
def test_a_stream_has_its_frame(count: Any) -> None:
    one = copy.pack_count(1) + copy.int4_field(7)
    assert one == b"\0\1" + b"\0\0\0\4" + b"\0\0\0\7"
    frame = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
    assert b"".join(copy.copy_stream([one] * count)) == (one * count).join(frame)
