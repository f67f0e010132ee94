"""The minimum detectable effect: its laws, and its power by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from service.detection.comparison import Test, compare_column
from service.detection.methods import METHODS, Sample
from service.detection.power import detectable_effect, noncentrality
from service.detection.variability import STEADY, Variability
from service.profiles.binning import CategoricalBins

LEVEL = 1e-3
CATEGORIES = 10
OF_CATEGORIES = [name for name, method in METHODS.items() if not method.ordered]


def a_test(n: int, df: int = 9, variability: Variability = STEADY) -> Test:
    return Test(0.0, df, 1 / 5000 + 1 / n, variability)


@given(df=st.integers(1, 260), tail=st.floats(1e-12, 0.7), power=st.floats(0.5, 0.99))
def test_the_noncentral_chi2_passes_the_critical_statistic_with_the_power(
    df: int, tail: float, power: float
) -> None:
    critical = stats.chi2.isf(tail, df)
    found = noncentrality(critical, df, power)
    if tail >= power:
        assert found == pytest.approx(0, abs=1e-9)
    else:
        assert stats.ncx2.sf(critical, df, found) == pytest.approx(power, abs=1e-6)


@pytest.mark.parametrize("name", METHODS)
@given(n=st.integers(1, 10**7), more=st.integers(2, 100), effect=st.floats(0, 0.3))
def test_more_rows_detect_less_and_never_less_than_what_matters(
    name: str, n: int, more: int, effect: float
) -> None:
    method = METHODS[name]
    few = detectable_effect(a_test(n), LEVEL, method, effect)
    many = detectable_effect(a_test(n * more), LEVEL, method, effect)
    if few is not None:
        assert many is not None
        assert effect < many <= few
        assert method.upper is None or few <= method.upper
    unsteady = a_test(n, variability=Variability(0.01, 20))
    hidden = detectable_effect(unsteady, LEVEL, method, effect)
    assert hidden is None or (few is not None and hidden > few)


def test_a_window_in_which_nothing_could_be_found_has_no_detectable_effect() -> None:
    method = METHODS["jensen_shannon"]
    assert detectable_effect(a_test(2), LEVEL, method, 0.0) is None
    unsteady = a_test(1000, variability=Variability(1e9, 2))
    assert detectable_effect(unsteady, LEVEL, method, 0.0) is None
    assert detectable_effect(a_test(1000), LEVEL, method, 1.0) is None


def changed(name: str, score: float, rng: np.random.Generator) -> np.ndarray:
    """Return shares of which the method's score against equal ones is the one given."""
    equal = np.full(CATEGORIES, 1 / CATEGORIES)
    # The same factor on either side is what every method finds last.
    step = rng.permutation(np.repeat([1.0, -1.0], CATEGORIES // 2)) / CATEGORIES
    rows = 10**9
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        pair = (np.rint(shares * rows).astype(int) for shares in (equal, equal + middle * step))
        low, high = (
            (middle, high)
            if METHODS[name].score(*map(Sample, pair)) < score
            else (
                low,
                middle,
            )
        )
    return equal + high * step


@pytest.mark.parametrize("name", OF_CATEGORIES)
@pytest.mark.parametrize(("n", "matters"), [(1_000, False), (1_000, True), (100_000, True)])
def test_the_detectable_effect_is_found_in_about_four_of_five_windows(
    name: str, n: int, matters: bool
) -> None:
    method, rng, windows, reference = METHODS[name], np.random.default_rng(7), 400, 5_000
    min_effect = method.default_min_effect if matters else 0.0
    bins = CategoricalBins(tuple(map(str, range(CATEGORIES))), frozenset())
    equal = np.full(CATEGORIES, 1 / CATEGORIES)

    def draw(rows: int, shares: np.ndarray) -> Sample:
        return Sample(np.append(rng.multinomial(rows, shares), [0, 0]))

    # The common cell of rare categories is empty here, and no degree of freedom.
    effect = detectable_effect(a_test(n, CATEGORIES - 1), LEVEL, method, min_effect)
    assert effect is not None
    shares = changed(name, effect, rng)
    found = 0
    for _ in range(windows):
        compared = compare_column(bins, draw(reference, equal), [], draw(n, shares), method)
        assert compared.score is not None
        assert compared.tests[0].df == CATEGORIES - 1
        found += compared.tests[0].p_value < LEVEL and compared.score >= min_effect
    # Four standard errors below, to the second order; min_effect counts noise as for it.
    assert 0.7 <= found / windows <= 0.97
