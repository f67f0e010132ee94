import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.evaluation.multiplicity import sidak_adjust, sidak_level, tarone_count


@given(st.floats(1e-9, 0.5), st.integers(1, 500))
def test_adjusting_the_level_gives_alpha(alpha: float, tests: int) -> None:
    assert sidak_adjust(sidak_level(alpha, tests), tests) == pytest.approx(alpha, rel=1e-9)


@given(st.floats(1e-15, 0.1), st.integers(1, 500))
def test_sidak_is_between_no_correction_and_bonferroni(alpha: float, tests: int) -> None:
    assert alpha / tests <= sidak_level(alpha, tests) * (1 + 1e-9)
    assert sidak_level(alpha, tests) <= alpha * (1 + 1e-9)


def test_no_test_counts_as_one() -> None:
    assert sidak_level(0.01, 0) == pytest.approx(0.01)
    assert tarone_count(np.empty(0), 0.005) == 1


@given(st.lists(st.floats(1e-12, 1), min_size=1, max_size=60), st.floats(1e-4, 0.1))
def test_tarones_count_is_the_smallest_that_fits(smallest: list[float], alpha: float) -> None:
    def reaching(count: int) -> int:
        return sum(p <= alpha / count for p in smallest)

    count = tarone_count(np.array(smallest), alpha)
    assert reaching(count) <= count
    assert all(reaching(k) > k for k in range(1, count))
