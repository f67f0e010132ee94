"""Every method of the registry declares laws, and every law it declares holds."""

from collections.abc import Callable
from math import isfinite, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from service.detection.drift import (
    METHODS,
    DriftMethod,
    EmptyWindowError,
    Floats,
    jensen_shannon_distance,
    population_stability_index,
)
from service.evaluation.measurement import Direction

Law = Callable[[DriftMethod, Floats, Floats], None]

METHOD_NAMES = sorted(METHODS)


@st.composite
def windows(draw: st.DrawFn) -> tuple[Floats, Floats]:
    size = draw(st.integers(2, 12))
    rows = st.lists(st.integers(0, 1000), min_size=size, max_size=size).filter(any)
    return np.array(draw(rows), dtype=float), np.array(draw(rows), dtype=float)


def equal_proportions(method: DriftMethod, a: Floats, b: Floats) -> None:
    assert method.score(a, 7 * a) == pytest.approx(method.lower, abs=1e-7)


def symmetry(method: DriftMethod, a: Floats, b: Floats) -> None:
    assert method.score(a, b) == pytest.approx(method.score(b, a), abs=1e-7)


def order(method: DriftMethod, a: Floats, b: Floats) -> None:
    assert method.score(a[::-1], b[::-1]) == pytest.approx(method.score(a, b), abs=1e-7)


def in_range(method: DriftMethod, a: Floats, b: Floats) -> None:
    score = method.score(a, b)
    assert isfinite(score)
    assert score >= method.lower
    assert method.upper is None or score <= method.upper


def coarser(method: DriftMethod, a: Floats, b: Floats) -> None:
    merged = [np.append(x[2:], x[:2].sum()) for x in (a, b)]
    assert method.score(*merged) <= method.score(a, b) + 1e-7


def disjoint(method: DriftMethod, a: Floats, b: Floats) -> None:
    nothing = np.zeros(len(a))
    apart = np.concatenate((a, nothing)), np.concatenate((nothing, b))
    assert method.score(*apart) == pytest.approx(method.upper)


LAWS: dict[str, Law] = {
    "equal proportions score the lower bound": equal_proportions,
    "the two windows may change places": symmetry,
    "the order of the bins does not matter": order,
    "the score stays in its range": in_range,
    "merging two bins never raises the score": coarser,
    "disjoint windows score the upper bound": disjoint,
}


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_a_method_declares_laws_that_are_tested_its_direction_and_its_range(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert {"equal proportions score the lower bound", "the score stays in its range"} <= set(
        method.laws
    )
    assert set(method.laws) <= set(LAWS), "a law without a test is a wish"
    assert Direction(method.direction) is Direction.HIGHER_IS_WORSE
    assert method.upper is None or method.lower < method.upper
    assert method.default_min_effect > method.lower


@pytest.mark.parametrize(
    ("name", "law"), [(name, law) for name in METHOD_NAMES for law in METHODS[name].laws]
)
@given(pair=windows())
def test_a_law_holds(name: str, law: str, pair: tuple[Floats, Floats]) -> None:
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


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_an_empty_window_has_no_score(name: str) -> None:
    rows, nothing = np.array([1.0, 2.0]), np.zeros(2)
    with pytest.raises(EmptyWindowError, match="current"):
        METHODS[name].score(rows, nothing)
    with pytest.raises(EmptyWindowError, match="reference"):
        METHODS[name].score(nothing, rows)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_without_drift_the_score_is_what_the_declared_scale_says(name: str) -> None:
    # A small difference d per bin of equal bins: X2 = n d^2 B, whatever the method.
    method, n, bins, d = METHODS[name], 1e9, 10, 1e-4
    step = np.tile([d, -d], bins // 2)
    a, b = n * (1 / bins + step / 2), n * (1 / bins - step / 2)
    x2 = n * bins * d * d * bins / 2
    expected = (method.scale * x2 * (2 / n)) ** method.exponent
    assert method.score(a, b) == pytest.approx(expected, rel=1e-3)
