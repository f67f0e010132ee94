import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from service.detection.quality import beta_binomial_tail, binomial_tail, unseen_prior
from service.detection.rare import fisher_tail


@given(st.integers(0, 300), st.integers(1, 300), st.floats(0.3, 50), st.floats(0.3, 9000))
def test_the_beta_binomial_tail_is_that_of_scipy(count: int, rows: int, a: float, b: float) -> None:
    expected = stats.betabinom.sf(count - 1, rows, a, b)
    assert beta_binomial_tail(count, rows, a, b) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_far_tails_of_large_windows_are_small_positive_numbers() -> None:
    p_value = beta_binomial_tail(20_000, 10**6, 2, 4999)
    assert 0 < p_value < 1e-30


def test_a_count_far_below_the_mean_is_certain() -> None:
    assert beta_binomial_tail(5, 10**6, 5000, 5000) == 1.0


@given(st.integers(0, 200), st.integers(1, 200), st.floats(0, 1))
def test_the_binomial_tail_is_that_of_scipy(count: int, rows: int, p: float) -> None:
    expected = stats.binom.sf(count - 1, rows, p)
    assert binomial_tail(count, rows, p) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_without_singletons_good_and_turing_are_fisher() -> None:
    a, b = unseen_prior(500, 0, 0)
    ours = beta_binomial_tail(3, 100, a, b + 1)
    assert ours == pytest.approx(fisher_tail(3, 100, 0, 500), rel=1e-9)


def test_rows_beyond_a_continuous_reference_follow_the_beta_binomial() -> None:
    rng = np.random.default_rng(5)
    reference = rng.exponential(size=(4000, 50))
    window = rng.exponential(size=(4000, 30))
    low, high = reference.min(axis=1), reference.max(axis=1)
    outside = ((window < low[:, None]) | (window > high[:, None])).sum(axis=1)
    for count in (1, 2, 4):
        expected = beta_binomial_tail(count, 30, 2, 49)
        noise = 4 * (expected * (1 - expected) / 4000) ** 0.5
        assert np.mean(outside >= count) == pytest.approx(expected, abs=noise)
