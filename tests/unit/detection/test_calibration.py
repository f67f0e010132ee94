import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from service.detection.calibration import chi2_quantile, chi2_tail, homogeneity, pearson_x2
from service.detection.trend import order_bins, rank_statistic
from service.detection.variability import (
    STEADY,
    Variability,
    critical_statistic,
    measure_variability,
    variable_tail,
)
from service.profiles.binning import NumericBins

tables = st.integers(2, 6).flatmap(
    lambda bins: st.lists(
        st.lists(st.integers(0, 60), min_size=bins, max_size=bins).filter(any),
        min_size=2,
        max_size=5,
    ).map(np.array)
)


@given(tables)
def test_x2_is_that_of_scipy_on_the_bins_that_have_rows(table: np.ndarray) -> None:
    x2, df = pearson_x2(table)
    kept = table[:, table.sum(axis=0) > 0]
    expected = stats.chi2_contingency(kept, correction=False)
    assert x2 == pytest.approx(expected.statistic, abs=1e-9)
    assert df == expected.dof


@given(tables)
def test_the_rank_statistic_is_kruskals_on_the_rows_written_out(table: np.ndarray) -> None:
    statistic, df = rank_statistic(table)
    rows = [np.repeat(np.arange(table.shape[1]), counts) for counts in table]
    if len(np.unique(np.concatenate(rows))) == 1:
        assert (statistic, df) == (0.0, 0)
        return
    assert statistic == pytest.approx(stats.kruskal(*rows).statistic, rel=1e-9, abs=1e-9)
    assert df == len(table) - 1


def test_atoms_are_ordered_among_the_fine_bins() -> None:
    bins = NumericBins(np.array([1.0, 2.0, 4.0]), np.array([-5.0, 1.4, 3.9]), -5.0, 4.0)
    # below, atom -5, atom 1.4, [1, 2), [2, 4], atom 3.9, above
    assert order_bins(bins).tolist() == [0, 4, 5, 1, 2, 6, 3]


def test_both_statistics_agree_where_bins_are_full_and_the_smaller_counts() -> None:
    compared = homogeneity(np.array([5000, 5000]), np.array([4950, 5050]))
    assert compared.x2 == pytest.approx(0.5, abs=1e-3)
    assert compared.jsd == pytest.approx(compared.x2, rel=1e-3)
    assert compared.statistic == min(compared.jsd, compared.x2)


@given(st.floats(1e-12, 0.5), st.integers(1, 40))
def test_tail_and_quantile_are_inverse(tail: float, df: int) -> None:
    assert chi2_tail(chi2_quantile(tail, df), df) == pytest.approx(tail, rel=1e-6)


def test_chunks_that_agree_have_no_variability() -> None:
    assert measure_variability(np.full((10, 4), 25)) == Variability(0.0, 10)


def test_no_chunk_and_one_chunk_say_nothing() -> None:
    assert measure_variability(np.zeros((0, 4), dtype=int)) is STEADY
    assert measure_variability(np.array([[5, 5], [0, 0]])) is STEADY


def test_rho_by_hand() -> None:
    # Two chunks of 100 in two bins, 70/30 and 30/70: X2 = 32 on 1 degree of freedom.
    found = measure_variability(np.array([[70, 30], [30, 70]]))
    assert found.chunks == 2
    assert found.rho == pytest.approx(31 / 100)


def test_rho_finds_a_known_variance_between_chunks() -> None:
    rng = np.random.default_rng(3)
    n, p, sd = 1000, 0.5, 0.05
    ones = rng.binomial(n, (p + sd * rng.standard_normal(400)).clip(0, 1))
    rho = measure_variability(np.stack((ones, n - ones), axis=1)).rho
    # Var(share) = p(1-p)/n + sd^2, so that X2/df = 1 + n sd^2 / (p(1-p)).
    assert rho == pytest.approx(sd**2 / (p * (1 - p)), rel=0.2)


def test_a_variable_reference_raises_the_bar_as_the_formula_says() -> None:
    tail, df, spread, k, rho = 0.001, 7, 0.0012, 12, 0.002
    f = stats.f.isf(tail, 1, k - 1)
    expected = stats.chi2.isf(tail, df) + df * rho * (1 + 1 / k) / spread * f
    assert critical_statistic(tail, df, spread, Variability(rho, k)) == pytest.approx(expected)


@given(st.floats(1e-12, 0.4), st.integers(1, 31), st.floats(0, 0.01), st.integers(2, 60))
def test_the_p_value_inverts_the_critical_statistic(
    tail: float, df: int, rho: float, k: int
) -> None:
    variability = Variability(rho, k)
    critical = critical_statistic(tail, df, 0.002, variability)
    assert variable_tail(critical, df, 0.002, variability) == pytest.approx(tail, rel=1e-4)


def test_no_statistic_has_a_negative_or_undefined_p_value() -> None:
    for statistic in (0.0, 1e-9, 1e9, 1e300):
        assert 0 <= variable_tail(statistic, 3, 1e-6, Variability(0.1, 2)) <= 1
