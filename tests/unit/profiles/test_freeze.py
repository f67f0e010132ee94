import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.profiles.arrays import numeric_index, score_index, score_representatives
from service.profiles.binning import CategoricalBins, NumericBins
from service.profiles.columns import Classes, Column, Kind
from service.profiles.freeze import (
    freeze_binning,
    freeze_categories,
    freeze_numeric,
    freeze_score_edges,
)


def counts(values: np.ndarray, bins: NumericBins) -> list[int]:
    found: list[int] = np.bincount(numeric_index(values, bins), minlength=bins.n_bins).tolist()
    return found


def test_a_continuous_column_has_32_equal_bins_and_no_atoms() -> None:
    values = np.random.default_rng(0).normal(size=3200)
    bins = freeze_numeric(values)
    assert len(bins.atoms) == 0
    assert counts(values, bins) == [0] + [100] * 32 + [0]


def test_edges_nest_because_every_other_edge_is_that_of_half_as_many_bins() -> None:
    values = np.sort(np.random.default_rng(0).normal(size=6400))
    edges = freeze_numeric(values).edges
    for groups in (4, 8, 16, 32):
        assert edges[:: 32 // groups][1:-1].tolist() == [
            values[k * 6400 // groups] for k in range(1, groups)
        ]


def test_a_constant_column_is_one_atom() -> None:
    bins = freeze_numeric(np.full(50, 7.0))
    assert (bins.atoms.tolist(), bins.edges.tolist()) == ([7.0], [])
    assert counts(np.array([6.0, 7.0, 7.0, 8.0]), bins) == [1, 1, 2]


def test_a_zero_inflated_column_keeps_its_zeros_apart() -> None:
    values = np.concatenate([np.zeros(900), np.linspace(1, 2, 100)])
    bins = freeze_numeric(values)
    assert bins.atoms.tolist() == [0.0]
    assert counts(values, bins)[-1] == 900
    fresh = counts(np.array([0.5]), bins)
    assert fresh[1] == 1, "between the atom and the rest is the first fine bin, not out of range"


def test_a_discrete_column_is_all_atoms_and_has_a_bin_for_what_lies_between() -> None:
    bins = freeze_numeric(np.repeat([1.0, 2.0, 3.0], 20))
    assert bins.atoms.tolist() == [1.0, 2.0, 3.0]
    assert counts(np.array([0.0, 1.0, 2.0, 2.5, 4.0]), bins) == [1, 1, 1, 1, 1, 0]


def test_an_outlier_next_to_a_constant_finds_its_bin() -> None:
    bins = freeze_numeric(np.array([5.0] * 99 + [9.0]))
    assert counts(np.array([4.0, 5.0, 9.0, 10.0]), bins) == [1, 1, 1, 1]


def test_a_column_without_values_has_neither_edges_nor_atoms() -> None:
    bins = freeze_numeric(np.array([np.nan, np.inf]))
    assert (bins.minimum, bins.maximum, bins.n_bins) == (None, None, 2)
    assert counts(np.array([1.0]), bins) == [0, 1]


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=200),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=50),
)
def test_any_value_falls_into_the_bin_that_its_definition_says(
    reference: list[float], values: list[float]
) -> None:
    bins = freeze_numeric(np.array(reference * 3))
    fine = max(len(bins.edges) - 1, 0)
    assert fine in {0, 1, 2, 4, 8, 16, 32}
    assert (bins.edges[1:] > bins.edges[:-1]).all()
    tested = [*values, *reference, *bins.edges.tolist()]
    found = numeric_index(np.array(tested), bins).tolist()
    atoms = bins.atoms.tolist()
    assert bins.minimum is not None
    assert bins.maximum is not None
    for value, index in zip(tested, found, strict=True):
        if value in atoms:
            assert index == fine + 2 + atoms.index(value)
        elif value < bins.minimum:
            assert index == 0
        elif value > bins.maximum:
            assert index == fine + 1
        else:
            low, high = bins.edges[index - 1], bins.edges[index]
            assert low <= value < high or (index == fine and value == high)


def test_categories_are_the_256_most_frequent_with_ties_by_name() -> None:
    names = [f"c{i:03}" for i in range(300)]
    bins = freeze_categories(pa.array([*names, "c299", "c299", "c298", None]))
    assert bins.categories[:3] == ("c299", "c298", "c000")
    assert len(bins.categories) == 256
    assert bins.rest == frozenset(names) - set(bins.categories)


def test_a_hundred_thousand_categories_freeze() -> None:
    bins = freeze_categories(pa.array([f"id-{i}" for i in range(100_000)]))
    assert (len(bins.categories), len(bins.rest)) == (256, 99_744)


def test_a_reference_without_rows_still_freezes() -> None:
    columns = [Column("x", Kind.NUMERIC), Column("c", Kind.CATEGORICAL), Column("b", Kind.BOOLEAN)]
    frozen = freeze_binning(pa.table({"x": pa.array([], pa.float64())}), columns, Classes("n", "y"))
    assert frozen.score_bins is None
    assert frozen.columns["prediction"] == CategoricalBins(("n", "y"), frozenset())
    assert frozen.columns["c"] == CategoricalBins((), frozenset())


def test_booleans_may_come_as_numbers() -> None:
    rows = pa.table({"b": [1.0, 0.0, 1.0]})
    frozen = freeze_binning(rows, [Column("b", Kind.BOOLEAN)], Classes("0", "1"))
    assert frozen.columns["b"] == CategoricalBins(("false", "true"), frozenset())


def test_scores_of_exactly_0_and_1_have_bins_of_their_own() -> None:
    edges = freeze_score_edges(np.array([0.0, 0.5, 1.0]))
    size = len(edges) + 1
    index = score_index(np.array([0.0, 5e-324, 1e-300, 1 - 1e-15, 1.0]), edges)
    assert index[0] == 0
    assert index[1] > 0
    assert index[-1] == size - 1
    assert index[-2] < size - 1


def test_rounded_scores_are_represented_exactly() -> None:
    rounded = np.round(np.linspace(0, 1, 101), 2)
    edges = freeze_score_edges(rounded)
    representatives = score_representatives(edges)
    assert representatives[score_index(rounded, edges)].tolist() == rounded.tolist()
    assert (np.diff(representatives) >= 0).all()


def test_a_dense_region_of_scores_is_refined_by_the_references_quantiles() -> None:
    dense = np.random.default_rng(0).uniform(0.5, 0.5001, 10_000)
    edges = freeze_score_edges(dense)
    largest = np.bincount(score_index(dense, edges)).max()
    assert largest <= 10_000 / 512 + 1


@pytest.mark.parametrize("width", [4, 8, 16])
def test_few_rows_still_give_a_power_of_two_of_fine_bins(width: int) -> None:
    assert len(freeze_numeric(np.arange(width, dtype=float)).edges) - 1 <= width
