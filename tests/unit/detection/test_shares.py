"""Shares of predictions: a few buckets, the same for every window, that hold all predictions."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.detection.shares import MOST_BUCKETS, prediction_shares, value_buckets
from service.profiles.binning import NumericBins
from service.profiles.build import profile_features
from service.profiles.columns import Classes, Output, Quantity
from service.profiles.freeze import freeze_binning
from service.profiles.profile import FeatureProfile

BINARY = Classes("no", "yes")


def profiled(
    before: dict[str, Any], after: dict[str, Any], output: Output = BINARY
) -> tuple[Any, FeatureProfile, FeatureProfile]:
    tables = [pa.table(side) for side in (before, after)]
    binning = freeze_binning(tables[0], [], output)
    old, new = (profile_features(table, [], binning) for table in tables)
    return binning, old, new


def test_scores_lie_in_eight_buckets_of_the_reference_in_order() -> None:
    draw = np.random.default_rng(1)
    before, after = draw.random(4000), draw.random(1000) ** 2
    found = prediction_shares(*profiled({"score": before}, {"score": after}))
    assert len(found) == MOST_BUCKETS
    assert [share.reference_value for share in found] == [pytest.approx(1 / 8, abs=0.03)] * 8
    assert found[0].value == pytest.approx(0.35, abs=0.05)
    assert [share.bucket[0] for share in found] == list("12345678")
    assert (found[0].n, found[0].n_reference) == (1000, 4000)


def test_values_of_a_regression_beyond_the_reference_are_in_the_end_buckets() -> None:
    before, after = np.arange(1000.0), np.full(50, 5000.0)
    sides = [{"predicted_value": side, "prediction": side} for side in (before, after)]
    *_, last = prediction_shares(*profiled(sides[0], sides[1], Quantity()))
    assert last.value == 1


def test_without_scores_the_classes_are_the_buckets() -> None:
    before = {"prediction": ["no"] * 75 + ["yes"] * 25}
    after = {"prediction": ["no"] * 5 + ["yes"] * 5}
    found = prediction_shares(*profiled(before, after))
    assert [(s.bucket, s.value, s.reference_value) for s in found] == [
        ("no", 0.5, 0.75),
        ("yes", 0.5, 0.25),
    ]


def test_nothing_is_said_of_a_window_without_predictions() -> None:
    assert prediction_shares(*profiled({"score": [0.1, 0.9]}, {"prediction": []})) == []


@given(
    arrays(float, st.integers(0, 33), elements=st.floats(-1e6, 1e6), unique=True),
    arrays(float, st.integers(0, 40), elements=st.floats(-1e6, 1e6), unique=True),
)
def test_every_bin_has_a_bucket_and_their_values_ascend(edges: Any, atoms: Any) -> None:
    bins = NumericBins(np.sort(edges) if len(edges) > 1 else edges[:0], np.sort(atoms), None, None)
    names, groups = value_buckets(bins)
    assert 1 <= len(names) <= MOST_BUCKETS
    assert len(set(names)) == len(names)
    assert len(groups) == bins.n_bins
    assert set(groups) <= set(range(len(names)))
    fine = groups[: bins.n_bins - len(atoms)]
    assert (np.diff(fine) >= 0).all()
    assert (np.diff(groups[len(fine) :]) >= 0).all()
