"""A sketch of rows' contents is the same however the rows come, and counts without error."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.profiles.contents import KEPT, merge_contents, profile_contents
from service.profiles.profile import Contents

NUMBERS = st.none() | st.sampled_from([0.0, -0.0, 1.0, 2.5, 1e300])
WORDS = st.none() | st.sampled_from(["", "a", "b", "ab", "a longer word", "a longer work"])
ROWS = st.lists(st.tuples(NUMBERS, WORDS, st.none() | st.booleans()), max_size=60)


def table(rows: list[tuple[object, ...]]) -> pa.Table:
    kinds = {"x": pa.float64(), "k": pa.string(), "b": pa.bool_()}
    return pa.table(
        {
            name: pa.array([row[i] for row in rows], kind)
            for i, (name, kind) in enumerate(kinds.items())
        }
    )


def same(one: Contents, two: Contents) -> bool:
    pairs = (one.hashes, two.hashes), (one.counts, two.counts)
    return one.rows == two.rows and all(np.array_equal(*pair) for pair in pairs)


@settings(deadline=None)
@given(ROWS)
def test_each_content_is_counted(rows: list[tuple[object, ...]]) -> None:
    found = profile_contents(table(rows), ["x", "k", "b"])
    # -0.0 equals 0.0 as a key of a dictionary, too.
    assert sorted(found.counts.tolist()) == sorted(Counter(rows).values())
    assert found.rows == len(rows)


@settings(deadline=None)
@given(ROWS)
def test_neither_the_order_of_rows_nor_of_columns_matters(
    rows: list[tuple[object, ...]],
) -> None:
    shuffled = sorted(rows, key=repr)
    one = profile_contents(table(rows), ["x", "k", "b"])
    assert same(one, profile_contents(table(shuffled), ["b", "x", "k"]))


@settings(deadline=None)
@given(ROWS, ROWS)
def test_a_merge_is_the_sketch_of_all_rows(
    one: list[tuple[object, ...]], two: list[tuple[object, ...]]
) -> None:
    names = ["x", "k", "b"]
    parts = [profile_contents(table(rows), names) for rows in (one, two)]
    assert same(merge_contents(parts), profile_contents(table(one + two), names))


@pytest.mark.parametrize("rows", [100, KEPT, 4 * KEPT, 20_000])
def test_large_merges_are_exact_too(rows: int) -> None:
    draw = np.random.default_rng(rows)
    values = draw.integers(0, rows, 3 * rows).astype(float)
    whole = profile_contents(pa.table({"x": values}), ["x"])
    parts = [profile_contents(pa.table({"x": part}), ["x"]) for part in np.split(values, 3)]
    assert same(merge_contents(parts), whole)
    assert same(merge_contents([merge_contents(parts[1:]), parts[0]]), whole)
    assert len(whole.hashes) == min(KEPT, len(np.unique(values)))


def test_a_column_that_is_not_there_is_one_without_values() -> None:
    with_nulls = pa.table({"x": [1.0, 2.0], "k": pa.nulls(2, pa.string())})
    one = profile_contents(with_nulls, ["x", "k"])
    assert same(one, profile_contents(pa.table({"x": [1.0, 2.0]}), ["x", "k"]))


def test_the_same_value_in_another_column_is_another_content() -> None:
    rows = pa.table({"x": [1.0, None], "y": [None, 1.0]})
    assert profile_contents(rows, ["x", "y"]).counts.tolist() == [1, 1]


def test_slices_of_texts_hash_like_the_texts() -> None:
    words = pa.array(["zero", "one", "", "a word of more than eight bytes", "one"])
    whole, part = (pa.table({"k": array}) for array in (words, words.slice(1)))
    assert profile_contents(part, ["k"]).counts.sum() == 4
    kept = set(profile_contents(whole, ["k"]).hashes.tolist())
    assert set(profile_contents(part, ["k"]).hashes.tolist()) < kept


def test_times_and_vectors_have_contents() -> None:
    times = pa.array([1, 2, 2, None], pa.timestamp("us", tz="UTC"))
    assert sorted(profile_contents(pa.table({"t": times}), ["t"]).counts) == [1, 1, 2]
    for kind in (pa.list_(pa.float32()), pa.list_(pa.float32(), 2)):
        vectors = pa.array([[1.0, 2.0], None, [3.0, 4.0], [1.0, 2.0]], kind)
        assert sorted(profile_contents(pa.table({"v": vectors}), ["v"]).counts) == [1, 1, 2]
