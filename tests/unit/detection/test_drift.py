"""Every method of the registry declares laws, and every law it declares holds."""

from collections.abc import Callable
from dataclasses import replace
from math import isfinite, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cityblock, jensenshannon

from service.detection import methods
from service.detection.distances import hellinger_distance, total_variation_distance
from service.detection.drift import (
    EmptyWindowError,
    Floats,
    jensen_shannon_distance,
    population_stability_index,
)
from service.detection.methods import METHODS, DriftMethod, Sample, usable_method
from service.detection.ordered import kolmogorov_smirnov_distance, wasserstein_distance
from service.evaluation.measurement import Direction

Law = Callable[[DriftMethod, Sample, Sample], None]

METHOD_NAMES = sorted(METHODS)
DEVIATION = 2.5


def a_sample(rows: NDArray[np.int64] | list[int], places: Floats | None = None) -> Sample:
    """Return rows at the given places, by default at 0, 1, 2 and so on."""
    rows = np.asarray(rows, dtype=np.int64)
    places = np.arange(len(rows), dtype=float) if places is None else places
    return Sample(rows, rows * places, DEVIATION)


@st.composite
def windows(draw: st.DrawFn) -> tuple[Floats, Floats]:
    size = draw(st.integers(2, 12))
    rows = st.lists(st.integers(0, 1000), min_size=size, max_size=size).filter(any)
    return np.array(draw(rows), dtype=float), np.array(draw(rows), dtype=float)


@st.composite
def samples(draw: st.DrawFn) -> tuple[Sample, Sample]:
    """Two windows whose values lie somewhere in the same bins: 0 to 1, 1 to 2 and so on."""
    drawn = draw(windows())
    size = len(drawn[0])
    inside = st.lists(st.floats(0, 1), min_size=size, max_size=size)
    a, b = (a_sample(x.astype(int), np.arange(size) + np.array(draw(inside))) for x in drawn)
    return a, b


def equal_proportions(method: DriftMethod, a: Sample, _: Sample) -> None:
    assert a.sums is not None
    more = replace(a, rows=7 * a.rows, sums=7 * a.sums)
    assert method.score(a, more) == pytest.approx(method.lower, abs=1e-7)


def symmetry(method: DriftMethod, a: Sample, b: Sample) -> None:
    assert method.score(a, b) == pytest.approx(method.score(b, a), abs=1e-7)


def order(method: DriftMethod, a: Sample, b: Sample) -> None:
    mixed = np.random.default_rng(len(a.rows)).permutation(len(a.rows))
    assert method.score(a.take(mixed), b.take(mixed)) == pytest.approx(method.score(a, b), abs=1e-7)


def reverse(method: DriftMethod, a: Sample, b: Sample) -> None:
    back = np.arange(len(a.rows))[::-1]
    assert method.score(a.take(back), b.take(back)) == pytest.approx(method.score(a, b), abs=1e-7)


def in_range(method: DriftMethod, a: Sample, b: Sample) -> None:
    score = method.score(a, b)
    assert isfinite(score)
    assert score >= method.lower
    assert method.upper is None or score <= method.upper


def coarser(method: DriftMethod, a: Sample, b: Sample) -> None:
    merged = [Sample(np.append(x.rows[2:], x.rows[:2].sum())) for x in (a, b)]
    assert method.score(*merged) <= method.score(a, b) + 1e-7


def coarser_neighbours(method: DriftMethod, a: Sample, b: Sample) -> None:
    merged = [Sample(np.insert(x.rows[2:], 0, x.rows[:2].sum())) for x in (a, b)]
    assert method.score(*merged) <= method.score(a, b) + 1e-7


def disjoint(method: DriftMethod, a: Sample, b: Sample) -> None:
    nothing = np.zeros(len(a.rows), dtype=np.int64)
    apart = np.stack((a.rows, nothing), axis=1), np.stack((nothing, b.rows), axis=1)
    assert method.score(*(Sample(x.ravel()) for x in apart)) == pytest.approx(method.upper)


def above(method: DriftMethod, a: Sample, b: Sample) -> None:
    nothing = np.zeros(len(a.rows), dtype=np.int64)
    apart = np.concatenate((a.rows, nothing)), np.concatenate((nothing, b.rows))
    assert method.score(*map(Sample, apart)) == pytest.approx(method.upper)


def shift(method: DriftMethod, a: Sample, _: Sample) -> None:
    assert a.sums is not None
    for distance in (0.3, -700.0):
        moved = replace(a, sums=a.sums + distance * DEVIATION * a.rows)
        assert method.score(a, moved) == pytest.approx(abs(distance))


def unit(method: DriftMethod, a: Sample, b: Sample) -> None:
    feet = [replace(x, sums=3.28 * x.places * x.rows, deviation=3.28 * DEVIATION) for x in (a, b)]
    assert method.score(*feet) == pytest.approx(method.score(a, b), abs=1e-7)


LAWS: dict[str, Law] = {
    methods.EQUAL: equal_proportions,
    methods.RANGE: in_range,
    methods.SWAP: symmetry,
    methods.ORDER: order,
    methods.MERGE: coarser,
    methods.MERGE_NEIGHBOURS: coarser_neighbours,
    methods.DISJOINT: disjoint,
    methods.ABOVE: above,
    methods.REVERSE: reverse,
    methods.SHIFT: shift,
    methods.UNIT: unit,
}


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_a_method_declares_laws_that_are_tested_its_direction_and_its_range(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert {methods.EQUAL, methods.RANGE} < set(method.laws)
    assert set(method.laws) <= set(LAWS), "a law without a test is a wish"
    assert Direction(method.direction) is Direction.HIGHER_IS_WORSE
    assert method.upper is None or method.lower < method.upper
    assert method.default_min_effect > method.lower


@pytest.mark.parametrize(
    ("name", "law"), [(name, law) for name in METHOD_NAMES for law in METHODS[name].laws]
)
@given(pair=samples())
def test_a_law_holds(name: str, law: str, pair: tuple[Sample, Sample]) -> None:
    LAWS[law](METHODS[name], *pair)


@given(windows())
def test_the_distance_is_that_of_scipy(pair: tuple[Floats, Floats]) -> None:
    a, b = pair
    expected = jensenshannon(a, b, base=2)
    # scipy takes the root of a rounding error below zero; the distance of equals is 0.
    expected = 0.0 if np.isnan(expected) else expected
    assert jensen_shannon_distance(a, b) == pytest.approx(expected, abs=1e-7)


def test_psi_of_two_bins_by_hand() -> None:
    half, skewed = np.array([50.0, 50.0]), np.array([90.0, 10.0])
    by_hand = 0.4 * log(9)
    assert population_stability_index(half, skewed, pseudocount=0) == pytest.approx(by_hand)


def test_psi_with_pseudocount_by_hand() -> None:
    # One row per bin on either side, pooled shares 1/4 and 3/4: (0, 10) -> 0.5/12, 11.5/12 and
    # (5, 5) -> 5.5/12, 6.5/12.
    found = population_stability_index(np.array([0.0, 10]), np.array([5.0, 5]), pseudocount=1)
    assert found == pytest.approx(5 / 12 * log(5.5 / 0.5) - 5 / 12 * log(6.5 / 11.5))


@given(windows())
def test_total_variation_is_half_of_the_difference_of_the_shares(
    pair: tuple[Floats, Floats],
) -> None:
    a, b = pair
    by_scipy = cityblock(a / a.sum(), b / b.sum()) / 2
    assert total_variation_distance(a, b) == pytest.approx(by_scipy, abs=1e-9)


def test_total_variation_by_hand() -> None:
    # Shares 1/5, 3/10, 1/2 and 1/2, 3/10, 1/5.
    found = total_variation_distance(np.array([2.0, 3, 5]), np.array([50.0, 30, 20]))
    assert found == pytest.approx(0.3)


def test_hellinger_by_hand() -> None:
    # Shares 1/4, 3/4 and 3/4, 1/4: the coefficient is 2 sqrt(3/16).
    found = hellinger_distance(np.array([1.0, 3]), np.array([30.0, 10]))
    assert found == pytest.approx(sqrt(1 - sqrt(3) / 2), abs=1e-12)


@given(windows())
def test_the_ks_distance_is_that_of_scipy_for_the_binned_rows(pair: tuple[Floats, Floats]) -> None:
    a, b = (np.repeat(np.arange(len(x)), x.astype(int)) for x in pair)
    expected = stats.ks_2samp(a, b, method="asymp").statistic
    assert kolmogorov_smirnov_distance(*pair) == pytest.approx(expected, abs=1e-9)


@given(samples())
def test_the_wasserstein_distance_is_that_of_scipy(pair: tuple[Sample, Sample]) -> None:
    a, b = pair
    expected = stats.wasserstein_distance(a.places, b.places, a.rows, b.rows) / DEVIATION
    assert METHODS["wasserstein"].score(a, b) == pytest.approx(expected, abs=1e-9)


def test_the_wasserstein_distance_by_hand() -> None:
    # A quarter of the rows goes from 0 to 8, the rest stays; the deviation is 4.
    places = np.array([0.0, 8.0])
    found = wasserstein_distance(np.array([3.0, 1]), np.array([1.0, 1]), (places, places), 4.0)
    assert found == pytest.approx(0.5)


def test_a_wasserstein_distance_beyond_all_floats_is_the_largest() -> None:
    places = np.array([0.0]), np.array([1e150])
    one = np.array([1.0])
    assert isfinite(wasserstein_distance(one, one, places, 1e-300))


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_what_a_column_cannot_have_falls_back_to_total_variation(name: str) -> None:
    method = METHODS[name]
    assert usable_method(method, numeric=True, deviation=1.0) is method
    ordered = name in {"ks", "wasserstein"}
    assert method.ordered is ordered
    of_categories = usable_method(method, numeric=False, deviation=0.0).name
    assert of_categories == ("total_variation" if ordered else name)
    of_constants = usable_method(method, numeric=True, deviation=0.0).name
    assert of_constants == ("total_variation" if name == "wasserstein" else name)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_an_empty_window_has_no_score(name: str) -> None:
    rows, nothing = a_sample([1, 2]), a_sample([0, 0])
    with pytest.raises(EmptyWindowError, match="current"):
        METHODS[name].score(rows, nothing)
    with pytest.raises(EmptyWindowError, match="reference"):
        METHODS[name].score(nothing, rows)


def small_change(name: str, places: Floats) -> tuple[Sample, Sample, float]:
    """Return two windows that differ as the method sees best, and X² · (1/n + 1/n)."""
    n, bins, d = 1e12, 10, 1e-4
    profile = places - places.mean() if name == "wasserstein" else np.sign(places - places.mean())
    step = d * profile / np.abs(profile).max()
    rows = [np.rint(n * (1 / bins + sign * step / 2)).astype(np.int64) for sign in (1, -1)]
    deviation = float(places.std())
    a, b = (Sample(x, x * places, deviation) for x in rows)
    return a, b, float(np.square(step).sum() * bins)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_a_small_change_scores_what_the_declared_scale_says(name: str) -> None:
    method = METHODS[name]
    a, b, distance = small_change(name, np.arange(10.0) ** (2 if name == "wasserstein" else 1))
    assert method.score(a, b) == pytest.approx((method.scale * distance) ** method.exponent, 1e-3)


@pytest.mark.parametrize("name", METHOD_NAMES)
@given(seed=st.integers(0, 1000))
def test_no_small_change_scores_more_than_the_declared_scale_says(name: str, seed: int) -> None:
    method, rng = METHODS[name], np.random.default_rng(seed)
    share = rng.dirichlet(np.ones(8))
    step = share * rng.normal(0, 1e-3, 8)
    step -= share * step.sum()
    rows = [np.rint(1e12 * (share + sign * step / 2)).astype(np.int64) for sign in (1, -1)]
    places = np.sort(rng.normal(size=8))
    deviation = float(np.sqrt(np.average(np.square(places - places @ share), weights=share)))
    score = method.score(*(Sample(x, x * places, deviation) for x in rows))
    distance = float((np.square(step) / share).sum())
    assert score <= (method.scale * distance) ** method.exponent * 1.001
