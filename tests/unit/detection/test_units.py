"""Another unit is told from drift by the shape that it leaves alone."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.detection.units import UnitChange, find_unit_change
from service.profiles.binning import NumericBins
from service.profiles.build import profile_features
from service.profiles.columns import Classes, Column, Kind
from service.profiles.freeze import freeze_binning

COLUMNS = [Column("x", Kind.NUMERIC)]


def find(old: object, new: object) -> UnitChange | None:
    tables = [pa.table({"x": pa.array(values)}) for values in (old, new)]
    binning = freeze_binning(tables[0], COLUMNS, Classes("0", "1"))
    before, after = (profile_features(t, COLUMNS, binning).columns["x"] for t in tables)
    bins = binning.columns["x"]
    assert isinstance(bins, NumericBins)
    return find_unit_change(bins, before, after)


@settings(deadline=None, max_examples=40)
@given(st.floats(1.55, 1e6), st.booleans(), st.integers(0, 1000))
def test_any_factor_is_found_again(factor: float, inverse: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    factor = 1 / factor if inverse else factor
    found = find(rng.gamma(9, 3, 4000), factor * rng.gamma(9, 3, 2000))
    assert found is not None
    assert found.factor == pytest.approx(factor, rel=0.08)
    assert found.move == 0.0


@settings(deadline=None, max_examples=40)
@given(st.floats(-1e4, 1e4), st.integers(0, 1000))
def test_a_move_is_one_from_three_standard_deviations_on(move: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = find(rng.normal(0, 1, 4000), move + rng.normal(0, 1, 2000))
    if abs(move) > 3.2:
        assert found is not None
        assert found.move == pytest.approx(move, abs=0.15)
    elif abs(move) < 2.8:
        assert found is None


@settings(deadline=None, max_examples=40)
@given(st.floats(-1.5, 1.5), st.floats(0.8, 1.25), st.integers(0, 1000))
def test_level_and_spread_that_drift_are_none(shift: float, stretch: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert find(rng.normal(5, 1, 4000), rng.normal(5 + shift, stretch, 2000)) is None


@pytest.mark.parametrize("values", [[], [None], [1.0], [1.0] * 200, [0.0, 1.0] * 100])
def test_without_a_shape_there_is_no_unit(values: list[float | None]) -> None:
    usual = np.linspace(1, 2, 300)
    assert find(pa.array(values, pa.float64()), usual) is None
    assert find(usual, pa.array(values, pa.float64())) is None
