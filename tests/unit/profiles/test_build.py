from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from service.profiles.binning import Binning
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Classes, Column, Kind
from service.profiles.freeze import freeze_binning
from service.profiles.merge import merge_features, merge_performance
from service.profiles.profile import PerformanceProfile
from service.profiles.serialise import features_from_bytes, performance_to_bytes

CLASSES = Classes("0", "1")


def frozen(rows: pa.Table, *columns: Column) -> Binning:
    return freeze_binning(rows, columns, CLASSES)


def test_numbers_by_hand() -> None:
    age = Column("age", Kind.NUMERIC)
    binning = frozen(pa.table({"age": [1.0, 2.0, 3.0, 4.0]}), age)
    rows = pa.table(
        {"age": [2.0, 4.0, 9.0, None, float("inf")], "weight": [1.0, 2.0, 3.0, 4.0, 5.0]}
    )
    column = profile_features(rows, [age], binning).columns["age"]
    assert column.counts.tolist() == [0, 1, 1, 1], "below, [1, 3), [3, 4], above"
    assert (column.missing, column.n, column.minimum, column.maximum) == (2, 3, 2.0, 9.0)
    assert (column.mean, column.m2) == (5.0, 26.0)
    assert column.weights.sum() == 6.0
    assert column.weights_squared.sum() == 14.0
    assert column.sums.sum() == 15.0
    assert column.out_of_range == 1


@pytest.mark.parametrize("weight", [5e-324, 1e-300, 1e300])
def test_weights_whose_squares_leave_the_numbers_keep_the_sums_consistent(weight: float) -> None:
    rows = pa.table({"score": [0.25, 0.75], "weight": [weight, weight]})
    column = profile_features(rows, [], frozen(rows)).columns["score"]
    sums, squares = column.weights.sum(), column.weights_squared.sum()
    assert np.isfinite(sums)
    assert (sums > 0) == (squares > 0), "Kish's n is the ratio of both"


@pytest.mark.parametrize("was", [Kind.NUMERIC, Kind.CATEGORICAL])
@pytest.mark.parametrize("now", list(Kind))
def test_a_feature_of_another_kind_than_its_edges_is_left_out(was: Kind, now: Kind) -> None:
    before = pa.array([1.0, 2.0] if was is Kind.NUMERIC else ["a", "b"])
    binning = frozen(pa.table({"x": before}), Column("x", was))
    given = {
        Kind.NUMERIC: pa.array([1.0, 2.0]),
        Kind.BOOLEAN: pa.array([True, False]),
        Kind.DATETIME: pa.array([1, 2], pa.timestamp("us", "UTC")),
        Kind.EMBEDDING: pa.array([[1.0], [2.0]]),
    }
    rows = pa.table({"x": given.get(now, pa.array(["a", "b"]))})
    profile = profile_features(rows, [Column("x", now)], binning)
    groups = {Kind.CATEGORICAL, Kind.BOOLEAN}
    assert ("x" in profile.columns) == (now is was or {was, now} <= groups)


def test_a_declared_range_replaces_the_references() -> None:
    age = Column("age", Kind.NUMERIC, minimum=0.0)
    binning = frozen(pa.table({"age": [1.0, 2.0]}), age)
    rows = pa.table({"age": [-1.0, 0.5, 100.0]})
    assert profile_features(rows, [age], binning).columns["age"].out_of_range == 1


def test_categories_by_hand() -> None:
    city = Column("city", Kind.CATEGORICAL)
    reference = pa.table({"city": [f"c{i:03}" for i in range(300)]})
    rows = pa.table({"city": ["c000", "c299", "new", "new", None], "weight": [None, 2, 3, 3, 1.0]})
    column = profile_features(rows, [city], frozen(reference, city)).columns["city"]
    assert column.counts[[0, -2, -1]].tolist() == [1, 1, 2]
    assert column.weights[[0, -2, -1]].tolist() == [1.0, 2.0, 6.0]
    assert (column.missing, column.n, column.unseen) == (1, 4, {"new": 2})


def test_unseen_names_keep_exact_counts_when_merged() -> None:
    city = Column("city", Kind.CATEGORICAL)
    binning = frozen(pa.table({"city": ["a"]}), city)
    names = [f"n{i % 500}" for i in range(2000)]
    parts = [pa.table({"city": names[i::3]}) for i in range(3)]
    merged = merge_features([profile_features(part, [city], binning) for part in parts])
    assert len(merged.columns["city"].unseen) == 64
    assert set(merged.columns["city"].unseen.values()) == {4}


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_text_may_come_in_any_arrow_type(kind: pa.DataType) -> None:
    city = Column("city", Kind.CATEGORICAL)
    rows = pa.table({"city": pa.array(["a", "b", None, "z"]).cast(kind)})
    column = profile_features(rows, [city], frozen(rows.slice(0, 3), city)).columns["city"]
    assert column.counts.tolist() == [1, 1, 0, 1]


def test_columns_without_any_value_are_missing() -> None:
    columns = [Column(kind.value, kind) for kind in Kind]
    reference = pa.table(
        {"numeric": [1.0, 2.0], "categorical": ["a", "b"], "boolean": [True, False]}
    )
    rows = pa.table({kind.value: pa.nulls(3) for kind in Kind})
    profile = profile_features(rows, columns, frozen(reference, *columns))
    assert [profile.columns[c.name].missing for c in columns] == [3] * len(Kind)


def test_a_column_that_the_rows_lack_is_absent_not_missing() -> None:
    age, city = Column("age", Kind.NUMERIC), Column("city", Kind.CATEGORICAL)
    binning = frozen(pa.table({"age": [1.0], "city": ["a"]}), age, city)
    old = profile_features(pa.table({"age": [1.0]}), [age], binning)
    new = profile_features(pa.table({"age": [1.0], "city": ["a"]}), [age, city], binning)
    merged = merge_features([old, new])
    assert (merged.columns["city"].n, merged.columns["city"].missing) == (1, 0)


def test_enormous_numbers_do_not_overflow() -> None:
    age = Column("age", Kind.NUMERIC)
    rows = pa.table({"age": [1.7e308, -1.7e308, 1.7e308]})
    column = profile_features(rows, [age], frozen(rows, age)).columns["age"]
    assert np.isfinite([column.mean, column.m2, *column.sums]).all()
    assert column.maximum == 1.7e308


def test_performance_by_hand() -> None:
    rows = pa.table(
        {
            "label": ["1", "0", "1", "?", None, "0"],
            "prediction": ["1", "1", "0", "1", "1", None],
            "score": [0.75, 0.5, None, 0.5, 0.5, 0.5],
            "weight": [2.0, 1.0, 3.0, 1.0, 1.0, 1.0],
        }
    )
    profile = profile_performance(rows, frozen(rows))
    assert isinstance(profile, PerformanceProfile)
    assert (profile.labelled, profile.unusable) == (3, 2)
    assert profile.confusion.tolist() == [[0, 1], [1, 1]]
    assert profile.confusion_weights.tolist() == [[0.0, 1.0], [3.0, 2.0]]
    assert profile.confusion_weights_squared.tolist() == [[0.0, 1.0], [9.0, 4.0]]
    assert profile.score_counts.sum(axis=-1).tolist() == [[0, 1], [0, 1]]
    assert profile.score_weights.sum(axis=-1).tolist() == [[0.0, 1.0], [0.0, 2.0]]
    assert profile.label_score_counts.sum(axis=-1).tolist() == [1, 1]
    log_4_3 = np.log(4 / 3)
    expected = [
        [0.25, 0.0625, np.log(2), np.log(2) ** 2],
        [2 * 0.0625, 2 * 0.0625**2, 2 * log_4_3, 2 * log_4_3**2],
    ]
    np.testing.assert_allclose(profile.losses, expected, rtol=1e-14)


def test_scores_of_0_and_1_have_finite_losses() -> None:
    rows = pa.table({"label": ["1", "0"], "prediction": ["0", "1"], "score": [0.0, 1.0]})
    profile = profile_performance(rows, frozen(rows))
    assert isinstance(profile, PerformanceProfile)
    np.testing.assert_allclose(profile.losses[:, 2], -np.log(1e-15), rtol=1e-2)


def test_merging_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        merge_features([])
    with pytest.raises(ValueError, match="at least one"):
        merge_performance([])


def test_bytes_of_another_kind_are_refused() -> None:
    rows = pa.table({"label": ["1"], "prediction": ["1"]})
    data = performance_to_bytes(profile_performance(rows, frozen(rows)))
    with pytest.raises(ValueError, match="kind F"):
        features_from_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        features_from_bytes(data[:4] + b"F" + b"garbage")


def test_an_unweighted_profile_is_small_in_bytes() -> None:
    rng = np.random.default_rng(0)
    label = np.where(rng.random(1000) < 0.5, "1", "0")
    rows = pa.table({"label": label, "prediction": label, "score": rng.random(1000)})
    profile = profile_performance(rows, frozen(rows))
    assert isinstance(profile, PerformanceProfile)
    assert len(performance_to_bytes(replace(profile, ranked=None))) < 8_000
    # A score of 8 bytes and a label: what keeps the AUC of few rows exact.
    assert len(performance_to_bytes(profile)) < 16_000


def test_few_labelled_rows_are_ranked_exactly_whatever_buckets_they_came_in() -> None:
    # One pair shares a bin: of 2 x 2 rows that is an eighth of the AUC.
    rows = pa.table(
        {
            "label": ["0", "1", "0", "1"],
            "prediction": ["0", "1", "0", "1"],
            "score": [0.5, 0.5000001, 0.4, 0.6],
        }
    )
    binning = frozen(pa.table({"score": [0.1, 0.9]}))
    parts = [profile_performance(rows.slice(i, 2), binning) for i in (2, 0)]
    merged = merge_performance(parts)
    assert isinstance(merged, PerformanceProfile)
    assert merged.label_score_weights.max(axis=0).tolist().count(1.0) == 3, "a shared bin"
    assert merged.ranked_weights.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]


def test_many_labelled_rows_are_ranked_by_their_bins() -> None:
    rows = pa.table(
        {"label": ["0", "1"] * 3_000, "prediction": ["0"] * 6_000, "score": [0.5] * 6_000}
    )
    binning = frozen(rows)
    profile = profile_performance(rows, binning)
    merged = merge_performance([profile, profile])
    assert isinstance(profile, PerformanceProfile)
    assert isinstance(merged, PerformanceProfile)
    assert profile.ranked is not None
    assert merged.ranked is None
    assert merged.ranked_weights.sum() == 12_000
