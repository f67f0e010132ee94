import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from service.detection.rare import find_changed_cells, fisher_tail, smallest_p_values

sides = st.tuples(st.integers(1, 400), st.integers(0, 400)).map(lambda t: (min(t[1], t[0]), t[0]))


@given(sides, sides)
def test_the_tail_is_fishers(one: tuple[int, int], other: tuple[int, int]) -> None:
    (x, n), (y, m) = one, other
    expected = stats.fisher_exact([[x, n - x], [y, m - y]], alternative="greater").pvalue
    assert fisher_tail(x, n, y, m) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_the_tail_of_large_windows_is_fishers_too() -> None:
    table = [[30_600, 969_400], [30_000, 970_000]]
    expected = stats.fisher_exact(table, alternative="greater").pvalue
    assert fisher_tail(30_600, 10**6, 30_000, 10**6) == pytest.approx(expected, rel=1e-6)


def test_no_other_outcome_is_less_probable_than_the_smallest_p_value() -> None:
    pooled, n, m = 5, 40, 25
    smallest = smallest_p_values(np.array([pooled]), n, m)[0]
    tails = [
        2 * fisher_tail(x, size, pooled - x, other)
        for size, other in ((m, n), (n, m))
        for x in range(pooled + 1)
    ]
    assert smallest == pytest.approx(min(tails))


def test_one_to_three_percent_is_found_and_one_to_two_of_another_is_not() -> None:
    reference = np.array([4700, 50, 50, 200])
    current = np.array([922, 31, 18, 29])
    found = find_changed_cells(reference, current, np.arange(4))
    assert [(cell.bin, cell.reference_share, cell.current_share) for cell in found] == [
        (1, 0.01, 0.031)
    ]
    table = [[31, 969], [50, 4950]]
    one_sided = stats.fisher_exact(table, alternative="greater").pvalue
    assert found[0].p_value == pytest.approx(2 * one_sided)


def test_a_rare_cell_that_vanishes_is_found() -> None:
    found = find_changed_cells(np.array([9700, 300]), np.array([10_000, 0]), np.arange(2))
    assert [cell.bin for cell in found] == [1]
    assert found[0].p_value < 1e-80


def test_a_frequent_cell_is_left_to_the_distance() -> None:
    assert not find_changed_cells(np.array([900, 100]), np.array([500, 500]), np.arange(2))


def test_a_tiny_share_is_nobodys_concern() -> None:
    reference, current = np.array([10**7 - 1000, 1000]), np.array([10**7 - 9000, 9000])
    assert not find_changed_cells(reference, current, np.arange(2))


@given(st.lists(st.integers(0, 60), min_size=8, max_size=8))
def test_the_level_leaves_out_only_what_exceeds_it(rows: list[int]) -> None:
    reference, current = np.array([2000, *rows[:4]]), np.array([500, *rows[4:]])
    cells = np.arange(5)
    every = find_changed_cells(reference, current, cells)
    some = find_changed_cells(reference, current, cells, level=0.01)
    assert [c for c in every if c.p_value <= 0.01] == [c for c in some if c.p_value <= 0.01]
