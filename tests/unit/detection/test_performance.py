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

from service.detection.confusion import confusion_metric
from service.detection.metric_value import MetricValue, wilson
from service.detection.performance import METRICS, measure_performance
from service.profiles.binning import Binning
from service.profiles.build import profile_performance
from service.profiles.columns import Classes
from service.profiles.freeze import freeze_binning
from service.profiles.profile import MOST_RANKED, PerformanceProfile

CAR_LOAN = Path(__file__).resolve().parents[4] / "shared" / "data" / "nannyml_car_loan"
CONFUSION = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "matthews_corrcoef")
RATES = ("false_positive_rate", "false_negative_rate")


def some_rows(n: int, *, weighted: bool = False, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    logit = rng.normal(-0.5, 1.5, n)
    score = 1 / (1 + np.exp(-logit))
    return {
        "label": (rng.random(n) < score).astype(int),
        "prediction": (score > 0.5).astype(int),
        "score": score,
        "weight": rng.gamma(2.0, size=n) if weighted else np.ones(n),
    }


def to_table(rows: dict[str, Any]) -> pa.Table:
    return pa.table(
        {
            "label": pa.array(rows["label"]).cast(pa.string()),
            "prediction": pa.array(rows["prediction"]).cast(pa.string()),
            "score": pa.array(rows["score"]),
            "weight": pa.array(rows["weight"]),
        }
    )


def to_profile(rows: dict[str, Any]) -> PerformanceProfile:
    table = to_table(rows)
    return binary_profile(table, freeze_binning(table, [], Classes("0", "1")))


def measured_of(rows: dict[str, Any], names: list[str] | None = None) -> dict[str, MetricValue]:
    table = to_table(rows)
    binning = freeze_binning(table, [], Classes("0", "1"))
    return measure_performance(binary_profile(table, binning), names, binning.score_edges)


def binary_profile(table: pa.Table, binning: Binning) -> PerformanceProfile:
    profile = profile_performance(table, binning)
    assert isinstance(profile, PerformanceProfile)
    return profile


def by_sklearn(rows: dict[str, Any]) -> dict[str, float]:
    label, predicted, score = rows["label"], rows["prediction"], rows["score"]
    given = {"sample_weight": rows["weight"]}
    specificity = metrics.recall_score(label, predicted, pos_label=0, **given)
    recall = metrics.recall_score(label, predicted, **given)
    return {
        "roc_auc": metrics.roc_auc_score(label, score, **given),
        "accuracy": metrics.accuracy_score(label, predicted, **given),
        "balanced_accuracy": metrics.balanced_accuracy_score(label, predicted, **given),
        "precision": metrics.precision_score(label, predicted, **given),
        "recall": recall,
        "f1": metrics.f1_score(label, predicted, **given),
        "matthews_corrcoef": metrics.matthews_corrcoef(label, predicted, **given),
        "false_positive_rate": 1 - specificity,
        "false_negative_rate": 1 - recall,
        "brier_score": metrics.brier_score_loss(label, score, **given),
        "log_loss": metrics.log_loss(label, score, **given),
        "average_precision": metrics.average_precision_score(label, score, **given),
        "label_rate": np.average(label, weights=rows["weight"]),
        "expected_calibration_error": calibration_error_by_rows(label, score, rows["weight"]),
    }


def calibration_error_by_rows(label: Any, score: Any, weight: Any) -> float:
    group = np.minimum((score * 10).astype(int), 9)
    gaps = [abs((weight * (label - score))[group == i].sum()) for i in range(10)]
    return float(sum(gaps) / weight.sum())


def number(value: float | None) -> float:
    assert value is not None
    return value


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [40, 1000, 20_000])
def test_every_metric_agrees_with_scikit_learn(n: int, weighted: bool) -> None:
    rows = some_rows(n, weighted=weighted, seed=n)
    measured = measured_of(rows)
    expected = by_sklearn(rows)
    assert set(expected) == set(METRICS), "a metric without an independent oracle"
    for name, value in measured.items():
        # Scores are known to their bin.
        binned = {"roc_auc": 1e-4, "average_precision": 1e-4, "expected_calibration_error": 1e-3}
        tolerance = binned.get(name, 1e-12)
        assert value.value == pytest.approx(expected[name], rel=0, abs=tolerance), name


def test_auc_stays_exact_where_scores_leave_the_references_range() -> None:
    rows = some_rows(5000)
    table = pa.table({"score": rows["score"] * 1e-3 + 0.9})
    binning = freeze_binning(table, [], Classes("0", "1"))
    moved = pa.table(
        {
            "label": pa.array(rows["label"]).cast(pa.string()),
            "prediction": pa.array(rows["prediction"]).cast(pa.string()),
            "score": rows["score"] ** 3 / 10,
        }
    )
    value = measure_performance(binary_profile(moved, binning))["roc_auc"].value
    exact = metrics.roc_auc_score(rows["label"], rows["score"])
    assert value == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("digits", [1, 2])
def test_tied_scores_are_ties_for_average_precision(digits: int, weighted: bool) -> None:
    rows = some_rows(3000, weighted=weighted)
    rows["score"] = rows["score"].round(digits)
    expected = by_sklearn(rows)["average_precision"]
    value = measured_of(rows, ["average_precision"])["average_precision"].value
    assert value == pytest.approx(expected, abs=1e-12)


def test_average_precision_by_hand() -> None:
    # Ranked + - + -: precision 1 at the first positive, 2/3 at the second.
    rows = {"label": np.array([1, 0, 1, 0]), "prediction": np.ones(4, int), "weight": np.ones(4)}
    rows["score"] = np.array([0.9, 0.7, 0.4, 0.2])
    assert measured_of(rows)["average_precision"].value == pytest.approx((1 + 2 / 3) / 2)


def test_the_error_of_average_precision_is_that_of_many_samples() -> None:
    values = [measured_of(some_rows(500, seed=seed))["average_precision"] for seed in range(300)]
    spread = np.std([value.position for value in values])
    assert np.mean([value.error for value in values]) == pytest.approx(spread, rel=0.15)


def test_what_needs_the_scores_themselves_is_missing_without_their_edges() -> None:
    measured = measure_performance(to_profile(some_rows(MOST_RANKED + 10)))
    for name in ("average_precision", "expected_calibration_error"):
        assert (measured[name].value, measured[name].reason) == (None, "unknown_score_edges")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=4, max_size=4), st.sampled_from([*CONFUSION, *RATES]))
def test_gradients_are_the_derivatives(cells: list[int], name: str) -> None:
    confusion = np.array(cells, dtype=float).reshape(2, 2)
    result = confusion_metric(name, confusion)
    assert not isinstance(result, str)
    value, gradient = result
    assert (gradient * confusion).sum() == pytest.approx(0, abs=1e-9)
    for cell in np.ndindex(2, 2):
        moved = confusion.copy()
        moved[cell] += 1e-5
        changed = confusion_metric(name, moved)
        assert not isinstance(changed, str)
        assert gradient[cell] == pytest.approx((changed[0] - value) / 1e-5, rel=1e-3, abs=1e-7)


def test_wilson_by_hand() -> None:
    z = 1.959963984540054
    expected = ((0.8 + z * z / 20) - z * (0.016 + z * z / 400) ** 0.5) / (1 + z * z / 10)
    assert wilson(0.8, 10)[0] == pytest.approx(expected)


def test_the_delong_error_is_that_of_the_definition() -> None:
    rows = some_rows(300)
    positive = rows["score"][rows["label"] == 1]
    negative = rows["score"][rows["label"] == 0]
    wins = (positive[:, None] > negative[None, :]) + 0.5 * (positive[:, None] == negative[None, :])
    variance = wins.mean(axis=1).var(ddof=1) / len(positive)
    variance += wins.mean(axis=0).var(ddof=1) / len(negative)
    auc = wins.mean()
    measured = measure_performance(to_profile(rows))["roc_auc"]
    assert measured.error == pytest.approx(variance**0.5 / (auc * (1 - auc)), rel=0.01)


def test_weights_that_differ_shrink_the_effective_sample() -> None:
    rows = some_rows(2000, weighted=True)
    accuracy = measure_performance(to_profile(rows))["accuracy"]
    kish = rows["weight"].sum() ** 2 / (rows["weight"] ** 2).sum()
    assert accuracy.n_eff == pytest.approx(kish)
    assert accuracy.n == 2000


def test_a_single_class_has_no_auc_and_says_why() -> None:
    rows = some_rows(100)
    rows["label"] = np.zeros(100, dtype=int)
    measured = measure_performance(to_profile(rows))
    for name in ("roc_auc", "average_precision", "recall", "matthews_corrcoef"):
        assert (measured[name].value, measured[name].reason) == (None, "single_class"), name
    assert measured["false_positive_rate"].value is not None


def test_perfect_separation_is_not_certainty() -> None:
    label = np.repeat([0, 1], 50)
    measured = measure_performance(
        to_profile(
            {"label": label, "prediction": label, "score": label * 0.8 + 0.1, "weight": label + 1.0}
        )
    )
    for name in ("roc_auc", "accuracy", "f1", "matthews_corrcoef"):
        value = measured[name]
        assert value.value == 1.0
        assert number(value.ci_low) < 0.98 < number(value.ci_high) == 1.0, name


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.integers(0, 1),
            st.floats(-10, 10) | st.sampled_from([0.0, 1.0, float("nan"), 1e308]),
            st.sampled_from([0.0, 1.0, 1e-300, 1e300, 2.5]),
        ),
        max_size=25,
    )
)
def test_no_rows_ever_give_nan_or_an_interval_that_misses_its_value(
    drawn: list[tuple[int, int, float, float]],
) -> None:
    label, predicted, score, weight = (list(x) for x in zip(*drawn, strict=True)) if drawn else (
        [], [], [], []
    )  # fmt: skip
    rows = {
        "label": np.array(label, int),
        "prediction": np.array(predicted, int),
        "score": np.array(score, float),
        "weight": np.array(weight, float),
    }
    for name, value in measured_of(rows).items():
        assert_sound(name, value)


def assert_sound(name: str, value: MetricValue) -> None:
    if value.value is None:
        assert value.reason
        return
    assert np.isfinite([value.value, value.n_eff, value.position, value.error]).all()
    if name == "expected_calibration_error":
        assert value.ci_low is value.ci_high is None
        return
    assert number(value.ci_low) <= value.value + 1e-9
    assert number(value.ci_high) >= value.value - 1e-9


@pytest.mark.skipif(not CAR_LOAN.exists(), reason="the car loan data is not on this machine")
def test_car_loan_agrees_with_the_published_values() -> None:
    def read(name: str) -> pa.Table:
        rows = pq.read_table(CAR_LOAN / name)
        return pa.table(
            {
                "label": rows["repaid"].cast(pa.int64()).cast(pa.string()),
                "prediction": rows["y_pred"].cast(pa.string()),
                "score": rows["y_pred_proba"],
            }
        )

    binning = freeze_binning(read("reference.parquet"), [], Classes("0", "1"))
    analysis = read("analysis.parquet")
    chunks = json.loads((CAR_LOAN / "expected.json").read_text())["chunks"]
    for i, chunk in enumerate(chunks):
        window = binary_profile(analysis.slice(i * 5000, 5000), binning)
        measured = measure_performance(window, None, binning.score_edges)
        expected = chunk["realised"]
        for name in ("roc_auc", "average_precision"):
            assert measured[name].value == pytest.approx(expected[name], abs=1e-4)
        for name in ("accuracy", "f1", "precision", "recall"):
            assert measured[name].value == pytest.approx(expected[name], abs=1e-6)
        assert measured["brier_score"].value == pytest.approx(expected["brier"], abs=1e-6)
