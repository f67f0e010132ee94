"""Merging, row order and serialisation, on arbitrary rows."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.profiles.arrays import RELABELLED
from service.profiles.binning import Binning
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Classes, Column, Kind
from service.profiles.freeze import freeze_binning
from service.profiles.merge import (
    empty_features,
    empty_performance,
    merge_features,
    merge_performance,
)
from service.profiles.profile import FeatureProfile
from service.profiles.segments import (
    chunk_segments,
    segment_reference,
    segments_from_bytes,
    segments_to_bytes,
)
from service.profiles.serialise import (
    binning_from_bytes,
    binning_to_bytes,
    features_from_bytes,
    features_to_bytes,
    performance_from_bytes,
    performance_to_bytes,
)

COLUMNS = [
    Column("x", Kind.NUMERIC),
    Column("limited", Kind.NUMERIC, minimum=0.0, maximum=0.5),
    Column("city", Kind.CATEGORICAL),
    Column("flag", Kind.BOOLEAN),
    Column("born", Kind.DATETIME),
    Column("comment", Kind.TEXT),
    Column("vector", Kind.EMBEDDING),
]
SCHEMA = pa.schema(
    [
        ("x", pa.float64()),
        ("limited", pa.float64()),
        ("city", pa.string()),
        ("flag", pa.bool_()),
        ("born", pa.timestamp("us", tz="UTC")),
        ("comment", pa.string()),
        ("vector", pa.list_(pa.float32())),
        ("prediction", pa.string()),
        ("score", pa.float64()),
        ("weight", pa.float64()),
        ("label", pa.string()),
        ("ts", pa.timestamp("us", tz="UTC")),
        (RELABELLED, pa.bool_()),
    ]
)
START = datetime(2026, 1, 1, tzinfo=UTC)
CLASSES = Classes("0", "1")


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


rows = st.fixed_dictionaries(
    {
        "x": maybe(st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 1.0]))),
        "limited": maybe(st.floats(-1, 1)),
        "city": maybe(st.one_of(st.sampled_from(["a", "b", ""]), st.text(max_size=3))),
        "flag": maybe(st.booleans()),
        "born": maybe(st.datetimes(timezones=st.just(UTC))),
        "comment": maybe(st.one_of(st.sampled_from(["Where is it?", "it is"]), st.text())),
        "vector": maybe(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=2)),
        "prediction": maybe(st.sampled_from(["0", "1", "?"])),
        "score": maybe(st.one_of(st.floats(0, 1), st.just(float("nan")))),
        "weight": maybe(st.floats(0, 100)),
        "label": maybe(st.sampled_from(["0", "1", "?"])),
        RELABELLED: maybe(st.booleans()),
        "ts": maybe(st.integers(0, 5000).map(lambda hour: START + timedelta(hours=hour))),
    }
)
tables = st.lists(rows, max_size=12).map(lambda drawn: pa.Table.from_pylist(drawn, SCHEMA))


def a_binning(reference: pa.Table) -> Binning:
    return freeze_binning(reference, COLUMNS, CLASSES)


def assert_same(left: Any, right: Any, tolerance: float = 0.0) -> None:
    """Compare exactly, or floats to a tolerance relative to the numbers that were summed."""
    if is_dataclass(left) and not isinstance(left, type):
        assert type(left) is type(right)
        for field in fields(left):
            assert_same(getattr(left, field.name), getattr(right, field.name), tolerance)
    elif isinstance(left, Mapping):
        assert set(left) == set(right)
        for key in left:
            assert_same(left[key], right[key], tolerance)
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        if left.dtype.kind == "i" or not tolerance:
            assert left.tobytes() == right.tobytes()
        else:
            np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)
    elif isinstance(left, float) and tolerance:
        assert left == pytest.approx(right, rel=tolerance, abs=tolerance)
    else:
        assert left == right


def bounded(table: pa.Table) -> pa.Table:
    """Keep the magnitudes in which 1e-12 is meant: sums of 1e300 - 1e300 lose what they will."""
    x = np.array(table["x"].to_pylist(), dtype=float)
    x = np.where(np.abs(x) <= 1, x, np.sign(x))
    return table.set_column(0, "x", pa.array(x, mask=np.isnan(x)))


@settings(max_examples=30, deadline=None)
@given(tables, tables, tables)
def test_the_profile_of_a_union_is_the_merge_of_the_profiles(
    reference: pa.Table, first: pa.Table, second: pa.Table
) -> None:
    binning = a_binning(reference)
    first, second = bounded(first), bounded(second)
    union = pa.concat_tables([first, second])
    merged = merge_features([profile_features(t, COLUMNS, binning) for t in (first, second)])
    assert_same(profile_features(union, COLUMNS, binning), merged, 1e-12)
    performance = merge_performance([profile_performance(t, binning) for t in (first, second)])
    assert_same(profile_performance(union, binning), performance, 1e-12)


@settings(max_examples=30, deadline=None)
@given(tables, tables, tables)
def test_merging_is_associative_and_commutative_with_a_neutral_element(
    first: pa.Table, second: pa.Table, third: pa.Table
) -> None:
    binning = a_binning(first)
    a, b, c = (profile_features(bounded(t), COLUMNS, binning) for t in (first, second, third))
    left = merge_features([merge_features([a, b]), c])
    right = merge_features([a, merge_features([b, c])])
    assert_same(left, right, 1e-12)
    assert_same(merge_features([a, b]), merge_features([b, a]), 1e-12)
    assert_same(merge_features([a, empty_features(binning)]), a, 1e-12)
    p, q, r = (profile_performance(t, binning) for t in (first, second, third))
    assert_same(
        merge_performance([merge_performance([p, q]), r]),
        merge_performance([p, merge_performance([q, r])]),
        1e-12,
    )
    assert_same(merge_performance([p, q]), merge_performance([q, p]))
    assert_same(merge_performance([p, empty_performance(binning)]), p)


@settings(max_examples=30, deadline=None)
@given(tables, tables, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(reference: pa.Table, table: pa.Table, rnd: Any) -> None:
    order = list(range(table.num_rows))
    rnd.shuffle(order)
    table = bounded(table)
    shuffled = table.take(pa.array(order, type=pa.int64()))
    binning = a_binning(reference)
    assert_same(
        profile_features(table, COLUMNS, binning),
        profile_features(shuffled, COLUMNS, binning),
        1e-12,
    )
    assert_same(profile_performance(table, binning), profile_performance(shuffled, binning), 1e-12)
    assert binning_to_bytes(a_binning(table)) == binning_to_bytes(a_binning(shuffled))


@settings(max_examples=30, deadline=None)
@given(tables, tables)
def test_serialisation_loses_nothing(reference: pa.Table, table: pa.Table) -> None:
    binning = a_binning(reference)
    assert_same(binning_from_bytes(binning_to_bytes(binning)), binning)
    features = profile_features(table, COLUMNS, binning)
    assert_same(features_from_bytes(features_to_bytes(features)), features)
    performance = profile_performance(table, binning)
    assert_same(performance_from_bytes(performance_to_bytes(performance)), performance)
    segments = segment_reference(table, COLUMNS, binning)
    assert_same(
        dict(enumerate(segments_from_bytes(segments_to_bytes(segments)))), dict(enumerate(segments))
    )


@settings(max_examples=30, deadline=None)
@given(tables, tables)
def test_every_row_is_counted_once_in_every_column(reference: pa.Table, table: pa.Table) -> None:
    profile = profile_features(table, COLUMNS, a_binning(reference))
    for column in profile.columns.values():
        assert column.counts.sum() == column.n
        assert column.n + column.missing == table.num_rows
        assert np.isfinite([column.mean, column.m2, *column.sums]).all()


@settings(max_examples=30, deadline=None)
@given(tables, st.integers(1, 40), st.sampled_from([1, 24, 24 * 7]))
def test_chunks_hold_every_row_and_are_large_enough(
    table: pa.Table, minimum: int, hours: int
) -> None:
    binning = a_binning(table)
    segments = segment_reference(table, COLUMNS, binning)

    def window(start: datetime) -> datetime:
        return START + (start - START) // timedelta(hours=hours) * timedelta(hours=hours)

    for key in (window, None):
        chunks = chunk_segments(segments, key, minimum)
        assert sum(chunk.features.rows for chunk in chunks) == table.num_rows
        if table.num_rows >= minimum:
            assert all(chunk.features.rows >= minimum for chunk in chunks)
    if segments:
        whole: FeatureProfile = merge_features([s.features for s in segments])
        counts = profile_features(table, COLUMNS, binning).score_counts
        assert (whole.score_counts == counts).all()
        labelled: Any = merge_performance([s.performance for s in segments])
        expected: Any = profile_performance(table, binning)
        assert (labelled.confusion == expected.confusion).all()
