"""What is usual follows the week, and nobody is alarmed by what comes every week."""

from math import exp

import numpy as np
import pytest
from scipy import stats

from service.detection.volume import Usual, floor_tail, usual_rows, volume_tail

WEEK = [100, 90, 110, 100, 95, 20, 15]


def newest_first(days: list[int]) -> list[int]:
    return days[::-1]


@pytest.mark.parametrize("day", range(7))
def test_each_day_is_compared_with_the_same_day_of_earlier_weeks(day: int) -> None:
    usual = usual_rows(newest_first(WEEK * 3 + WEEK[:day]), lag=7, step=1, days=1.0)
    assert usual is not None
    assert usual.rows == pytest.approx(WEEK[day])
    assert volume_tail(WEEK[day], usual) == pytest.approx(1.0)
    assert volume_tail(0, usual) < 1e-3


def test_before_two_weeks_the_weekend_is_inside_the_spread() -> None:
    usual = usual_rows(newest_first([*WEEK, *WEEK[:5]]), lag=7, step=1, days=1.0)
    assert usual is not None
    assert volume_tail(20, usual) > 0.05


@pytest.mark.parametrize("windows", range(7))
def test_a_new_version_has_nothing_usual(windows: int) -> None:
    assert usual_rows([1000] * windows, lag=7, step=1, days=1.0) is None


def test_a_silence_that_goes_on_does_not_become_usual() -> None:
    before = newest_first(WEEK * 4)
    tails = []
    for silent in range(7):
        usual = usual_rows([0] * silent + before, lag=7, step=1, days=1.0)
        assert usual is not None
        tails.append(volume_tail(0, usual))
    assert max(tails) < 1e-6


def test_the_spread_of_steady_traffic_is_that_of_counting() -> None:
    rng = np.random.default_rng(1)
    usual = usual_rows(rng.poisson(400, 50).tolist(), lag=7, step=1, days=1.0)
    assert usual is not None
    assert usual.variance < 0.003
    assert exp(usual.mean) == pytest.approx(400, rel=0.1)


def test_students_tail_by_hand() -> None:
    usual = Usual(np.log(101), 4, 0.04 - 1 / 101, 6.0)
    t = np.log(101 / 51) / np.sqrt(0.04 * 1.25)
    assert volume_tail(50, usual) == pytest.approx(2 * stats.t.sf(t, 6))


@pytest.mark.parametrize(("rows", "floor"), [(0, 3.0), (190, 240.0), (240, 240.0)])
def test_a_floor_is_poissons(rows: int, floor: float) -> None:
    assert floor_tail(rows, floor) == pytest.approx(stats.poisson.cdf(rows, floor))


@pytest.mark.parametrize("shape", [3.0, 10.0])
def test_overdispersed_weeks_hardly_ever_alarm(shape: float) -> None:
    rng, alarms, windows = np.random.default_rng(6), 0, 300
    for _ in range(windows):
        expected = np.tile([1.0, 1.0, 1.0, 1.0, 0.9, 0.3, 0.2], 6) * 500
        rows = rng.poisson(expected * rng.gamma(shape, 1 / shape, 42)).tolist()
        now = rng.integers(14, 42)
        usual = usual_rows(rows[:now][::-1], lag=7, step=1, days=1.0)
        assert usual is not None
        alarms += volume_tail(rows[now], usual) < 0.01
    # At 1.7 % more than 13 of 300 have a probability of 1e-3.
    assert alarms <= 13
