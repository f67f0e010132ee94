"""Times, texts and vectors become columns that can be binned."""

from datetime import UTC, datetime, timedelta, timezone
from math import sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.profiles.binning import CategoricalBins, Source
from service.profiles.build import profile_features
from service.profiles.columns import MONTHS, WEEKDAYS, Classes, Column, Kind
from service.profiles.derive import derive, learn
from service.profiles.freeze import freeze_binning
from service.profiles.serialise import binning_from_bytes, binning_to_bytes

TIME, TEXT, VECTOR = (
    Column("t", Kind.DATETIME),
    Column("comment", Kind.TEXT),
    Column("v", Kind.EMBEDDING),
)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CLASSES = Classes("0", "1")


def derived(rows: pa.Table, column: Column, *words: str) -> list[dict[str, Any]]:
    table, columns = derive(rows, [column], {column.name: Source(column.kind, words)})
    names = [name.name for name in columns]
    found: list[dict[str, Any]] = table.select(names).to_pylist()
    return [{name.partition(".")[2]: value for name, value in row.items()} for row in found]


times = st.datetimes(timezones=st.just(UTC))


@settings(max_examples=50, deadline=None)
@given(st.lists(times, max_size=5))
def test_the_parts_of_a_time_are_those_of_the_calendar_in_every_year(values: list[Any]) -> None:
    rows = pa.table(
        {
            "t": pa.array(values, pa.timestamp("us", "UTC")),
            "ts": pa.array([NOW] * len(values), pa.timestamp("us", "UTC")),
        }
    )
    for value, row in zip(values, derived(rows, TIME), strict=True):
        assert row["hour"] == f"{value.hour:02d}"
        assert row["weekday"] == WEEKDAYS[value.weekday()]
        assert row["month"] == MONTHS[value.month - 1]
        assert row["age"] == pytest.approx((NOW - value) / timedelta(days=1), abs=1e-9)


def test_a_time_without_a_value_or_a_clock_has_no_parts() -> None:
    rows = pa.table({"t": pa.array([None, NOW], pa.timestamp("ns", "Asia/Tokyo"))})
    none, one = derived(rows, TIME)
    assert set(none.values()) == {None}
    assert (one["hour"], one["age"]) == ("12", None)


def test_a_time_in_another_zone_is_read_in_utc() -> None:
    late = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=3)))
    [row] = derived(pa.table({"t": [late]}), TIME)
    assert (row["hour"], row["weekday"], row["month"]) == ("22", "wednesday", "december")


def test_texts_by_hand() -> None:
    texts = ["Where is it?", "WHERE  was that", "", "12", None, "naïve ☃"]
    rows = pa.table({"comment": texts})
    assert derived(rows, TEXT, "is", "it", "where") == [
        {"length": 12.0, "non_letters": 1 / 12, "oov": 0.0},
        {"length": 15.0, "non_letters": 0.0, "oov": pytest.approx(2 / 3)},
        {"length": 0.0, "non_letters": None, "oov": None},
        {"length": 2.0, "non_letters": 1.0, "oov": 1.0},
        {"length": None, "non_letters": None, "oov": None},
        {"length": 7.0, "non_letters": 1 / 7, "oov": 1.0},
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cn", "Cs"])), max_size=5))
def test_length_and_letters_are_those_of_python(texts: list[str]) -> None:
    rows = pa.table({"comment": pa.array(texts, pa.string())})
    for text, row in zip(texts, derived(rows, TEXT), strict=True):
        odd = sum(not char.isalpha() and char != " " for char in text)
        assert row["length"] == len(text)
        assert row["non_letters"] == (pytest.approx(odd / len(text)) if text else None)


def test_vectors_have_their_norm_and_half_a_vector_has_none() -> None:
    vectors = [[3.0, 4.0], None, [0.0, 0.0], [1.0, None], [1.0, 1.0], []]
    rows = pa.table({"v": pa.array(vectors, pa.list_(pa.float32()))})
    norms = [row["norm"] for row in derived(rows, VECTOR)]
    assert norms == [5.0, None, 0.0, None, pytest.approx(sqrt(2)), None]


@pytest.mark.parametrize("kind", [pa.list_(pa.float64(), 2), pa.large_list(pa.float32())])
def test_vectors_may_come_as_any_list(kind: pa.DataType) -> None:
    rows = pa.table({"v": pa.array([[3, 4], None, [6, 8]], kind)}).slice(1)
    assert [row["norm"] for row in derived(rows, VECTOR)] == [None, 10.0]


def test_rows_with_nothing_to_derive_are_the_same_rows() -> None:
    rows, columns = pa.table({"x": [1.0]}), [Column("x", Kind.NUMERIC)]
    assert derive(rows, columns, {}) == (rows, columns)
    assert derive(rows, columns, {})[0] is rows


def test_the_words_that_a_reference_teaches_are_not_asked_of_the_rows_that_taught_them() -> None:
    """Otherwise the reference would know all of its words, and every window fewer."""
    rng = np.random.default_rng(1)

    def window(rows: int) -> pa.Table:
        ranks = rng.zipf(1.3, (rows, 8)).clip(max=100_000)
        letters = np.array(list("abcdefghij"))
        words = [
            " ".join("".join(letters[int(digit)] for digit in str(rank)) for rank in row)
            for row in ranks
        ]
        return pa.table({"comment": words})

    reference, fresh = window(4000), window(4000)
    sources = learn(reference, [TEXT])
    naive = derive(reference, [TEXT], sources)[0]["comment.oov"].to_numpy().mean()
    fitted = derive(reference, [TEXT], sources, learnt=sources)[0]["comment.oov"].drop_null()
    live = derive(fresh, [TEXT], sources)[0]["comment.oov"].to_numpy()
    assert len(fitted) == pytest.approx(2000, abs=200)
    error = live.std() / sqrt(2000) + live.std() / sqrt(4000)
    assert abs(live.mean() - fitted.to_numpy().mean()) < 3 * error
    assert live.mean() - naive > 3 * error


def test_a_word_of_one_row_is_not_kept() -> None:
    rows = pa.table({"comment": ["thank you"] * 50 + ["my name is Ismael"]})
    assert learn(rows, [TEXT])["comment"].words == ("thank", "you")


def test_edges_of_derived_columns_survive_as_bytes() -> None:
    rows = pa.table(
        {"t": [NOW] * 8, "comment": ["a b"] * 8, "v": [[1.0, 2.0]] * 8, "ts": [NOW] * 8}
    )
    frozen = freeze_binning(rows, [TIME, TEXT, VECTOR], CLASSES)
    read = binning_from_bytes(binning_to_bytes(frozen))
    assert read.sources == frozen.sources
    assert read.columns["t.hour"] == CategoricalBins(
        tuple(f"{hour:02d}" for hour in range(24)), frozenset()
    )
    assert set(read.parts) == {name for name in read.columns if name != "prediction"}


def test_a_feature_is_counted_as_there_and_its_parts_as_they_are() -> None:
    rows = pa.table(
        {"t": [NOW, None, NOW], "ts": [NOW] * 3, "weight": [2.0, 1.0, 1.0], "v": pa.nulls(3)}
    )
    profile = profile_features(rows, [TIME, VECTOR], freeze_binning(rows, [TIME, VECTOR], CLASSES))
    time = profile.columns["t"]
    assert (time.counts.tolist(), time.weights.tolist(), time.missing) == ([2], [3.0], 1)
    assert time.weights_squared.tolist() == [5.0]
    assert profile.columns["t.hour"].counts[12] == 2
    assert (profile.columns["v"].missing, profile.columns["v.norm"].missing) == (3, 3)
