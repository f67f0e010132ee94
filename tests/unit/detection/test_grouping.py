import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.detection.grouping import group_categorical, group_count, group_numeric
from service.profiles.arrays import numeric_index
from service.profiles.binning import CategoricalBins, NumericBins
from service.profiles.freeze import freeze_numeric


def a_column(values: np.ndarray) -> tuple[NumericBins, np.ndarray]:
    bins = freeze_numeric(values)
    return bins, np.bincount(numeric_index(values, bins), minlength=bins.n_bins)


@pytest.mark.parametrize(
    ("n", "groups"),
    [(1, 4), (159, 4), (160, 8), (319, 8), (320, 16), (639, 16), (640, 32), (10**6, 32)],
)
def test_the_smaller_window_sets_the_number_of_groups(n: int, groups: int) -> None:
    assert group_count(10**6, n) == group_count(n, 10**6) == groups


def test_a_continuous_column_falls_into_equal_groups() -> None:
    bins, counts = a_column(np.arange(3200.0))
    grouped = group_numeric(bins, counts, 100)
    assert grouped.apply(counts).tolist() == [800] * 4


def test_below_and_above_join_the_end_groups() -> None:
    bins, counts = a_column(np.arange(3200.0))
    window = np.bincount(numeric_index(np.array([-9.0, 9e9, 9e9]), bins), minlength=bins.n_bins)
    assert group_numeric(bins, counts, 100).apply(window).tolist() == [1, 0, 0, 2]


def test_a_heavy_atom_stays_alone_and_a_light_one_joins_its_neighbours() -> None:
    values = np.concatenate((np.linspace(1, 2, 800), np.zeros(300), np.full(100, 1.5)))
    bins, counts = a_column(values)
    grouped = group_numeric(bins, counts, 100)
    rows = grouped.apply(counts)
    heavy, light = grouped.groups[-2], grouped.groups[-1]
    assert bins.atoms.tolist() == [0.0, 1.5]
    assert rows[heavy] == 300
    near = numeric_index(np.array([1.4999]), bins)[0]
    assert light == grouped.groups[near]
    assert grouped.n_groups == 4, "one atom, and three quarters of the rest"


def test_a_constant_column_has_one_group_and_one_for_everything_else() -> None:
    bins, counts = a_column(np.full(50, 3.0))
    grouped = group_numeric(bins, counts, 100)
    assert grouped.apply(counts).tolist() == [50, 0]
    assert grouped.groups.tolist() == [1, 1, 0]


@given(
    st.lists(st.sampled_from([0.0, 1.0, 1.5, 2.0, 7.0, 1e9]) | st.floats(-1e6, 1e6), max_size=300),
    st.integers(1, 10_000),
)
def test_any_column_is_grouped_without_gaps_or_losses(values: list[float], n: int) -> None:
    bins, counts = a_column(np.array(values, dtype=float))
    grouped = group_numeric(bins, counts, n)
    assert sorted(set(grouped.groups.tolist())) == list(range(grouped.n_groups))
    assert grouped.apply(counts).sum() == counts.sum()


def test_categories_below_the_floor_share_the_cell_of_the_unseen() -> None:
    bins = CategoricalBins(("a", "b", "c"), frozenset("z"))
    reference, current = np.array([500, 480, 10, 10, 0]), np.array([50, 40, 5, 0, 5])
    grouped = group_categorical(bins, reference, current)
    assert grouped.floor == 0.1
    assert grouped.apply(current).tolist() == [50, 40, 10]


def test_the_floor_is_half_a_percent_for_large_windows() -> None:
    bins = CategoricalBins(("a", "b", "c"), frozenset())
    counts = np.array([9_900, 51, 49, 0, 0])
    assert group_categorical(bins, counts, counts).apply(counts).tolist() == [9_900, 51, 49]


def test_all_categories_too_small_leave_a_single_group() -> None:
    bins = CategoricalBins(tuple(map(str, range(250))), frozenset())
    counts = np.append(np.full(250, 4), [0, 0])
    assert group_categorical(bins, counts, counts).n_groups == 1
