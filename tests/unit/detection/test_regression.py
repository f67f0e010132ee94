"""Regression metrics against scikit-learn, a published table, and by simulation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from service.detection.regression import REGRESSION_METRICS, measure_regression
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.performance import PerformancePolicy, judge_performance
from service.profiles.binning import Binning
from service.profiles.build import profile_performance
from service.profiles.columns import Quantity
from service.profiles.freeze import freeze_binning
from service.profiles.profile import RegressionProfile

CAR_PRICE = Path(__file__).resolve().parents[4] / "shared" / "data" / "nannyml_car_price"
CHUNK = 6000


def to_profile(
    label: Any, predicted: Any, weight: Any = None, binning: Binning | None = None
) -> RegressionProfile:
    table = pa.table(
        {"label": np.asarray(label, float), "prediction": np.asarray(predicted, float)}
    )
    if weight is not None:
        table = table.append_column("weight", pa.array(weight))
    profile = profile_performance(table, binning or freeze_binning(table, [], Quantity()))
    assert isinstance(profile, RegressionProfile)
    return profile


def by_sklearn(label: Any, predicted: Any, weight: Any) -> dict[str, float]:
    given = {"sample_weight": weight}
    return {
        "mae": metrics.mean_absolute_error(label, predicted, **given),
        "rmse": metrics.root_mean_squared_error(label, predicted, **given),
        "rmsle": metrics.root_mean_squared_log_error(label, predicted, **given),
        "mape": metrics.mean_absolute_percentage_error(label, predicted, **given),
        "r2": metrics.r2_score(label, predicted, **given),
        "mean_error": float(np.average(predicted - label, weights=weight)),
    }


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("n", [40, 5000])
def test_every_metric_agrees_with_scikit_learn(n: int, offset: float, weighted: bool) -> None:
    rng = np.random.default_rng(n)
    label = rng.gamma(2.0, 50.0, n) + offset
    predicted = np.abs(label + rng.normal(3, 10, n))
    weight = rng.gamma(2.0, size=n) if weighted else np.ones(n)
    measured = measure_regression(to_profile(label, predicted, weight))
    expected = by_sklearn(label, predicted, weight)
    assert set(expected) == set(REGRESSION_METRICS), "a metric without an independent oracle"
    for name, value in measured.items():
        assert value.value == pytest.approx(expected[name], rel=1e-9), name


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.floats(allow_nan=True, allow_infinity=True)] * 2), max_size=8))
def test_whatever_the_rows_every_value_is_finite_or_has_a_reason(rows: Any) -> None:
    label, predicted = ([row[i] for row in rows] for i in range(2))
    for name, value in measure_regression(to_profile(label, predicted)).items():
        assert (value.value is None) == (value.reason is not None), name
        if value.value is not None:
            assert value.ci_low is not None
            assert value.ci_high is not None
            assert np.isfinite([value.value, value.ci_low, value.ci_high, value.error]).all()
            assert value.ci_low <= value.value <= value.ci_high


@pytest.mark.parametrize(
    ("label", "predicted", "reasons"),
    [
        ([], [], dict.fromkeys(REGRESSION_METRICS, "no_rows")),
        ([5.0, 5.0], [4.0, 6.0], {"r2": "constant_labels"}),
        ([0.0, 0.0], [1.0, 2.0], {"r2": "constant_labels", "mape": "zero_labels"}),
        ([-3.0, 1.0], [1.0, 1.0], {"rmsle": "negative_values"}),
        ([1e300, -1e300], [-1e300, 1e300], {"rmsle": "negative_values"}),
    ],
)
def test_what_cannot_be_measured_has_a_reason(
    label: list[float], predicted: list[float], reasons: dict[str, str]
) -> None:
    measured = measure_regression(to_profile(label, predicted))
    assert {n: v.reason for n, v in measured.items() if v.reason} == reasons


def test_rows_whose_label_is_zero_have_no_part_in_mape() -> None:
    value = measure_regression(to_profile([0.0, 2.0, -4.0], [1.0, 3.0, -5.0]))["mape"]
    assert (value.value, value.n) == (0.375, 2)


@pytest.fixture(scope="module")
def car_prices() -> tuple[RegressionProfile, list[RegressionProfile], list[RegressionProfile]]:
    if not CAR_PRICE.is_dir():
        pytest.skip("the data set nannyml_car_price is not beside the project")
    tables = {
        name: pq.read_table(
            CAR_PRICE / f"{name}.parquet", columns=["y_true", "y_pred"]
        ).rename_columns(["label", "prediction"])
        for name in ("reference", "analysis")
    }
    binning = freeze_binning(tables["reference"], [], Quantity())

    def profile(table: pa.Table) -> RegressionProfile:
        return to_profile(table["label"], table["prediction"], None, binning)

    whole = profile(tables["reference"])
    parts = [
        [profile(tables[name].slice(i * CHUNK, CHUNK)) for i in range(10)]
        for name in ("reference", "analysis")
    ]
    return whole, parts[0], parts[1]


def test_nannyml_car_price_has_its_published_figures(car_prices: Any) -> None:
    document = json.loads((CAR_PRICE / "expected.json").read_text())
    for profile, chunk in zip(car_prices[2], document["chunks"], strict=True):
        measured = measure_regression(profile)
        for name in ("mae", "rmse", "r2", "rmsle"):
            assert measured[name].value == pytest.approx(chunk[name], abs=0.006), name
        assert measured["mean_error"].value == pytest.approx(chunk["me"], abs=1e-3)
        for name in ("mae", "rmse", "rmsle", "mape"):
            published = chunk["published"][f"{name}.value"]
            assert measured[name].value == pytest.approx(published, rel=1e-5)


def judged(profiles: Any, *names: str) -> list[dict[str, Measurement]]:
    reference, chunks, windows = profiles
    policy = PerformancePolicy(metrics=names)
    return [
        {m.metric: m for m in judge_performance(reference, chunks, window, CHUNK, policy)}
        for window in windows
    ]


def test_nannyml_car_price_gets_worse_in_logarithms_alone(car_prices: Any) -> None:
    windows = judged(car_prices, "rmse", "rmsle", "mae", "r2")
    alerts = [{n for n, m in w.items() if m.verdict is Verdict.ALERT} for w in windows]
    assert alerts == [set()] * 5 + [{"rmsle"}] * 5
    assert all(w["mean_error"].verdict is None for w in windows)


def test_the_tolerance_of_an_error_is_a_share_of_its_baseline(car_prices: Any) -> None:
    window = judged(car_prices, "rmse", "r2")[0]
    rmse, r2 = window["rmse"], window["r2"]
    assert rmse.reference_value is not None
    assert r2.reference_value is not None
    assert rmse.threshold == pytest.approx(1.01 * rmse.reference_value)
    assert r2.threshold == pytest.approx(r2.reference_value - 0.01)
    bias, mae = window["mean_error"], window["mae"]
    assert bias.threshold is not None
    assert bias.reference_value is not None
    assert mae.reference_value is not None
    margin = abs(bias.threshold - bias.reference_value)
    assert margin == pytest.approx(0.01 * mae.reference_value)


@pytest.mark.parametrize("shift", [-2.0, 2.0])
def test_a_bias_alerts_on_either_side_and_says_which(shift: float) -> None:
    rng = np.random.default_rng(1)
    label, noise = rng.normal(0, 50, 9000), rng.normal(0, 10, 9000)
    before = to_profile(label[:6000], (label + noise)[:6000])
    policy = PerformancePolicy(metrics=("mean_error",))
    for moved, verdict in ((0.0, Verdict.OK), (shift, Verdict.ALERT)):
        now = to_profile(label[6000:], (label + noise + moved)[6000:])
        found = judge_performance(before, [], now, 3000, policy)
        bias = next(m for m in found if m.metric == "mean_error")
        assert bias.verdict is verdict
        assert bias.direction is Direction.EITHER_IS_WORSE
        assert bias.value is not None
        assert bias.threshold is not None
        if moved:
            assert bias.value < bias.threshold if moved < 0 else bias.value > bias.threshold


def test_a_bias_within_the_tolerance_or_within_chance_is_no_alert() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 10, 200_000)
    before = to_profile(np.zeros(100_000), noise[:100_000])
    for rows, moved, tolerance in ((100_000, 0.5, 0.1), (300, 0.5, 0.01)):
        now = to_profile(np.zeros(rows), noise[100_000 : 100_000 + rows] + moved)
        policy = PerformancePolicy(metrics=("mean_error",), tolerance=tolerance)
        found = judge_performance(before, [], now, rows, policy)
        assert {m.verdict for m in found if m.metric == "mean_error"} == {Verdict.OK}


def test_a_bias_rarely_alarms_without_a_change() -> None:
    policy = PerformancePolicy(metrics=("mean_error",), alpha=0.05, tolerance=0.0)
    alarms, runs = 0, 400
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        before, now = (to_profile(np.zeros(n), rng.normal(0, 10, n)) for n in (2000, 400))
        found = judge_performance(before, [], now, 400, policy)
        alarms += any(m.verdict is Verdict.ALERT for m in found)
    assert 0.02 * runs <= alarms <= 0.05 * 1.7 * runs
