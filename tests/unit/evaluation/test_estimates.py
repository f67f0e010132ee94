"""An estimate that rests on next to nothing is no verdict."""

import numpy as np
import pyarrow as pa

from service.detection.calibrator import fit_calibrator
from service.evaluation.measurement import Verdict
from service.evaluation.performance import PerformancePolicy, judge_estimate
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Classes
from service.profiles.freeze import freeze_binning


def _rows(draw: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, labels and predictions of rare positives, as probable as scored."""
    score = 1 / (1 + np.exp(-draw.normal(-5, 2, n)))
    return score, (draw.random(n) < score).astype(int), (score > 0.3).astype(int)


def _table(score: np.ndarray, label: np.ndarray, predicted: np.ndarray) -> pa.Table:
    texts = {"label": label.astype(str), "prediction": predicted.astype(str)}
    return pa.table({"score": score, **texts})


def test_three_expected_positives_are_too_few_for_an_estimate_of_recall() -> None:
    draw = np.random.default_rng(0)
    reference = _rows(draw, 5000)
    calibrator = fit_calibrator(reference[0], reference[1], None, reference[2])
    binning = freeze_binning(_table(*reference), [], Classes("0", "1"))
    before = profile_performance(_table(*reference), binning)
    score = np.full(100, 0.03)
    window = _table(score, np.zeros(100, int), np.zeros(100, int))
    current = profile_features(window, [], binning)
    policy = PerformancePolicy(metrics=("recall", "f1", "roc_auc"))
    measured = judge_estimate(before, calibrator, current, binning, policy)
    judged = {m.metric: (m.verdict, m.reason) for m in measured if m.verdict is not None}
    few = (Verdict.INSUFFICIENT_DATA, "few_in_denominator")
    assert judged == {
        "estimated_recall": few,
        "estimated_f1": few,
        "estimated_roc_auc": few,
    }


def test_rows_without_weight_fit_no_calibrator() -> None:
    score, label, predicted = _rows(np.random.default_rng(0), 5000)
    assert fit_calibrator(score, label, np.zeros(5000), predicted) is None
