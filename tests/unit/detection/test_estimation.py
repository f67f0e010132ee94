import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from service.detection.calibrator import (
    Calibrator,
    calibrator_from_bytes,
    calibrator_to_bytes,
    fit_calibrator,
)
from service.detection.estimation import Estimate, estimate, estimate_performance
from service.detection.expectation import ESTIMATED, HITS

CAR_LOAN = Path(__file__).resolve().parents[4] / "shared" / "data" / "nannyml_car_loan"
GRID = np.linspace(0.0, 1.0, 1001)


def some_scores(n: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw scores that are overconfident, and labels."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(shift, 1.3, n)
    label = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    return np.round(1 / (1 + np.exp(-1.5 * logit)), 3), label


def histogram(scores: np.ndarray) -> np.ndarray:
    index = (scores >= 0.5) * len(GRID) + np.round(scores * 1000).astype(int)
    return np.bincount(index, minlength=2 * len(GRID)).reshape(2, -1)


def fitted(n: int, seed: int) -> Calibrator:
    scores, labels = some_scores(n, seed)
    calibrator = fit_calibrator(scores, labels, predicted=scores >= 0.5)
    assert calibrator is not None
    return calibrator


def certain(probabilities: np.ndarray) -> Calibrator:
    """Calibrate without noise or optimism."""
    return Calibrator(GRID, probabilities, np.array([probabilities, probabilities]), {})


def test_the_calibrator_is_scikit_learns_isotonic_regression() -> None:
    scores, labels = some_scores(3000, 0)
    calibrator = fit_calibrator(scores, labels)
    assert calibrator is not None
    expected = IsotonicRegression(out_of_bounds="clip").fit(scores, labels).predict(GRID)
    np.testing.assert_allclose(calibrator.calibrate(GRID), expected, atol=1e-12)


def test_an_estimate_by_hand() -> None:
    """Four rows: two predicted positive at P = .9 and .6, two negative at P = .2 and .4."""
    counts = histogram(np.array([0.9, 0.6, 0.2, 0.4]))
    estimates = estimate_performance(certain(GRID), counts, counts.astype(float), GRID)
    assert estimates["accuracy"].value == pytest.approx((0.9 + 0.6 + 0.8 + 0.6) / 4)
    assert estimates["precision"].value == pytest.approx(1.5 / 2)
    assert estimates["recall"].value == pytest.approx(1.5 / 2.1)
    assert estimates["f1"].value == pytest.approx(3.0 / (3.0 + 0.5 + 0.6))
    won = 0.9 * (0.4 + 0.6 + 0.8) + 0.6 * (0.6 + 0.8) + 0.4 * 0.8
    tied = 0.9 * 0.1 + 0.6 * 0.4 + 0.2 * 0.8 + 0.4 * 0.6
    assert estimates["roc_auc"].value == pytest.approx((won + tied / 2) / (2.1 * 1.9))


def test_the_error_of_accuracy_is_that_of_the_labels_to_come() -> None:
    """Σ p(1 - p) / n² when the calibrator is certain."""
    counts = histogram(np.repeat([0.9, 0.6, 0.2, 0.4], 100))
    accuracy = estimate_performance(certain(GRID), counts, counts.astype(float), GRID)["accuracy"]
    variance = 100 * (0.09 + 0.24 + 0.16 + 0.24) / 400**2
    assert accuracy.ci_high is not None
    assert accuracy.value is not None
    assert accuracy.ci_high - accuracy.value == pytest.approx(1.959963984540054 * variance**0.5)
    assert accuracy.error == pytest.approx((0.725 * 0.275 / 400) ** 0.5)


def test_weights_count_as_rows_do() -> None:
    counts = histogram(np.array([0.9, 0.9, 0.6, 0.2, 0.4]))
    once = histogram(np.array([0.9, 0.6, 0.2, 0.4]))
    by_weight = estimate_performance(certain(GRID), once, counts.astype(float), GRID)
    by_rows = estimate_performance(certain(GRID), counts, counts.astype(float), GRID)
    for name in ESTIMATED:
        assert by_weight[name].value == pytest.approx(by_rows[name].value)


def test_subtracting_the_optimism_leaves_less_bias_than_the_fit_has() -> None:
    raw, corrected = [], []
    for seed in range(40):
        calibrator = fitted(400, seed)
        scores, labels = some_scores(4000, 1000 + seed)
        counts = histogram(scores)
        value = estimate_performance(calibrator, counts, counts.astype(float), GRID)[
            "roc_auc"
        ].value
        assert value is not None
        realised = roc_auc_score(labels, scores)
        corrected.append(value - realised)
        raw.append(value + calibrator.optimism["roc_auc"] - realised)
    assert abs(np.mean(corrected)) < abs(np.mean(raw)) / 2


def test_the_realised_value_lies_in_the_interval_of_its_estimate() -> None:
    held = dict.fromkeys(ESTIMATED, 0)
    for seed in range(60):
        calibrator = fitted(2000, seed)
        scores, labels = some_scores(1000, 1000 + seed, shift=0.5)
        counts = histogram(scores)
        estimates = estimate_performance(calibrator, counts, counts.astype(float), GRID)
        realised = {
            "roc_auc": roc_auc_score(labels, scores),
            "accuracy": np.mean((scores >= 0.5) == labels),
            "recall": np.mean(scores[labels == 1] >= 0.5),
        }
        for name, truth in realised.items():
            value = estimates[name]
            assert value.ci_low is not None
            assert value.ci_high is not None
            held[name] += value.ci_low <= truth <= value.ci_high
    assert min(held["roc_auc"], held["accuracy"], held["recall"]) >= 52


def test_too_few_of_a_class_give_no_calibrator() -> None:
    assert fit_calibrator(GRID, np.arange(1001) < 9) is None
    assert fit_calibrator([np.nan] * 100, [0, 1] * 50) is None
    assert fit_calibrator([], []) is None


def test_no_scores_give_a_reason() -> None:
    empty = np.zeros((2, len(GRID)), dtype=np.int64)
    for value in estimate_performance(certain(GRID), empty, empty.astype(float), GRID).values():
        assert (value.value, value.reason) == (None, "no_scores")


def test_a_calibrator_survives_serialisation() -> None:
    calibrator = fitted(500, 0)
    copy = calibrator_from_bytes(calibrator_to_bytes(calibrator))
    assert copy.scores.tobytes() == calibrator.scores.tobytes()
    assert copy.probabilities.tobytes() == calibrator.probabilities.tobytes()
    assert copy.replicates.tobytes() == calibrator.replicates.tobytes()
    assert copy.replicates.shape == calibrator.replicates.shape
    assert dict(copy.optimism) == dict(calibrator.optimism)


@pytest.mark.skipif(not CAR_LOAN.exists(), reason="the car loan data is not on this machine")
def test_car_loan_agrees_with_the_published_estimates() -> None:
    reference = pq.read_table(CAR_LOAN / "reference.parquet")
    analysis = pq.read_table(CAR_LOAN / "analysis.parquet")

    def array(rows: pa.Table, name: str) -> np.ndarray:
        values: np.ndarray = rows[name].to_numpy()
        return values

    calibrator = fit_calibrator(
        array(reference, "y_pred_proba"),
        array(reference, "repaid"),
        predicted=array(reference, "y_pred"),
    )
    assert calibrator is not None
    chunks = json.loads((CAR_LOAN / "expected.json").read_text())["chunks"]
    for i, chunk in enumerate(chunks):
        window = analysis.slice(i * 5000, 5000)
        index = array(window, "y_pred") * 1001 + np.round(array(window, "y_pred_proba") * 1000)
        counts = np.bincount(index.astype(int), minlength=2002).reshape(2, -1)
        estimates = estimate_performance(calibrator, counts, counts.astype(float), GRID)
        for name, published in chunk["cbpe_isotonic"].items():
            assert estimates[name].value == pytest.approx(published, abs=5e-3)
        cbpe_auc = chunk["published"]["cbpe_auc"]
        assert estimates["roc_auc"].value == pytest.approx(cbpe_auc, abs=5e-3)


def test_rows_that_weigh_nothing_calibrate_nothing() -> None:
    scores, labels = some_scores(200, 3)
    one = np.zeros(200)
    one[0] = 1.0

    assert fit_calibrator(scores, labels, np.zeros(200)) is None
    assert fit_calibrator(scores, labels, one) is None


@pytest.mark.skipif(not CAR_LOAN.is_dir(), reason="nannyml_car_loan is not there")
def test_the_shares_of_the_confusion_matrix_are_the_published_ones() -> None:
    reference = pq.read_table(CAR_LOAN / "reference.parquet")
    analysis = pq.read_table(CAR_LOAN / "analysis.parquet")
    score, label, predicted = (
        reference[name].to_numpy() for name in ("y_pred_proba", "repaid", "y_pred")
    )
    calibrator = fit_calibrator(score, label, predicted=predicted)
    assert calibrator is not None
    with (CAR_LOAN / "published" / "cbpe_confusion.csv").open() as file:
        published = [row for row in csv.DictReader(file) if row["chunk.period"] == "analysis"]
    assert len(published) == 10
    for row in published:
        window = analysis.slice(int(row["chunk.start_index"]), 5000)
        at = np.round(window["y_pred_proba"].to_numpy() * 1000).astype(int)
        index = window["y_pred"].to_numpy().astype(int) * len(GRID) + at
        weights = np.bincount(index, minlength=2 * len(GRID)).reshape(2, -1).astype(float)
        found = estimate(calibrator, weights, GRID, 5000.0, (HITS, "precision", "recall"))
        hits, precision, recall = (
            part.value for part in found.values() if isinstance(part, Estimate)
        )
        shares = {
            "true_positive": hits,
            "false_positive": hits / precision - hits,
            "false_negative": hits / recall - hits,
        }
        shares["true_negative"] = 1 - sum(shares.values())
        for name, share in shares.items():
            assert share == pytest.approx(float(row[f"{name}.value"]), abs=5e-3), name
