"""What labels show is held against what the scores of the very same rows promised."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from service.detection.calibrator import Calibrator, fit_calibrator
from service.detection.concept import (
    LabelledScores,
    Surprise,
    between_chunks,
    measure_surprises,
    mirrored,
    tail_of_loss,
)
from service.detection.miscalibration import (
    Miscalibration,
    between_miscalibrated,
    measure_miscalibration,
    tail_of_miscalibration,
)

GRID = np.linspace(0.0, 1.0, 101)


def certain(probabilities: np.ndarray) -> Calibrator:
    """Calibrate without noise or optimism."""
    return Calibrator(GRID, probabilities, np.array([probabilities, probabilities]), {})


def labelled(scores: np.ndarray, labels: np.ndarray) -> LabelledScores:
    index = (labels * 2 + (scores >= 0.5)) * len(GRID) + np.round(scores * 100).astype(int)
    counts = np.bincount(index, minlength=4 * len(GRID)).reshape(2, 2, -1)
    return LabelledScores(counts, counts.astype(float), float(len(scores)))


def some(rng: np.random.Generator, n: int, lift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw calibrated scores and their labels, a ``lift`` of which are wrong."""
    scores = np.round(1 / (1 + np.exp(-rng.normal(0, 1.5, n))), 2)
    labels = (rng.random(n) < scores).astype(int)
    return scores, np.where(rng.random(n) < lift, 1 - labels, labels)


def a_surprise(value: float, labels: float, **more: Any) -> Surprise:
    fields = {"third": 0.0, "jump": 0.0, "fit": 0.0, "replicas": 30, "support": 100.0, **more}
    return Surprise(value, 0.8 + value, 0.8, labels, **fields)


def test_a_surprise_by_hand() -> None:
    """Two rows predicted positive at .9 and .6, two negative at .2 and .4; one of each is wrong."""
    scores, labels = np.array([0.9, 0.6, 0.2, 0.4]), np.array([1, 0, 0, 1])
    found = measure_surprises(certain(GRID), labelled(scores, labels), GRID, ("accuracy",))
    accuracy = found["accuracy"]
    assert isinstance(accuracy, Surprise)
    assert accuracy.value == pytest.approx(0.5 - (0.9 + 0.6 + 0.8 + 0.6) / 4)
    assert accuracy.labels == pytest.approx((0.09 + 0.24 + 0.16 + 0.24) / 16)
    assert accuracy.jump == pytest.approx(1 / 4)
    errors = -(0.09 * 0.8 + 0.24 * 0.2) - (0.16 * 0.6 + 0.24 * 0.2)
    assert accuracy.third == pytest.approx(errors / 64)


def test_what_labels_do_not_have_is_no_surprise() -> None:
    scores, labels = np.full(20, 0.3), np.zeros(20, int)
    found = measure_surprises(certain(GRID), labelled(scores, labels), GRID)
    assert found["roc_auc"] == "single_class"
    assert found["precision"] == "no_predicted_positives"
    nothing = labelled(np.empty(0), np.empty(0, int))
    assert set(measure_surprises(certain(GRID), nothing, GRID).values()) == {"no_scores"}


@pytest.mark.parametrize(
    ("errors", "n", "rate"), [(8, 300, 0.01), (25, 1000, 0.01), (70, 200, 0.25)]
)
def test_the_tail_of_rare_errors_is_close_to_the_binomial_one(
    errors: int, n: int, rate: float
) -> None:
    scores = np.full(n, 1 - rate)
    labels = (np.arange(n) >= errors).astype(int)
    found = measure_surprises(certain(GRID), labelled(scores, labels), GRID, ("accuracy",))
    assert isinstance(found["accuracy"], Surprise)
    exact = binom.sf(errors - 1, n, rate)
    assert exact / 1.5 < tail_of_loss(found["accuracy"]) < exact * 1.5


def test_the_larger_the_loss_the_smaller_its_tail_and_a_gain_has_none() -> None:
    tails = [tail_of_loss(a_surprise(value, 0.01**2)) for value in (0.02, 0, -0.01, -0.02, -0.05)]
    assert tails == sorted(tails, reverse=True)
    assert tails[0] > 0.95
    loss = a_surprise(-0.03, 0.01**2, third=-1e-7)
    assert tail_of_loss(mirrored(mirrored(loss))) == tail_of_loss(loss)


def test_doubt_about_the_promise_makes_a_loss_more_probable() -> None:
    plain = tail_of_loss(a_surprise(-0.03, 0.01**2))
    assert tail_of_loss(a_surprise(-0.03, 0.01**2, fit=0.01**2)) > plain
    assert tail_of_loss(a_surprise(-0.03, 0.01**2), 0.01**2, 10) > plain


def test_chunks_that_agree_add_nothing_and_others_their_variance() -> None:
    rng = np.random.default_rng(0)
    steady = [a_surprise(value, 0.01**2) for value in rng.normal(0, 0.01, 20)]
    assert between_chunks(steady) == (0.0, 0)
    assert between_chunks(steady[:2]) == (0.0, 0)
    loose = [a_surprise(value, 0.01**2) for value in rng.normal(0, 0.05, 200)]
    variance, chunks = between_chunks(loose)
    assert chunks == 200
    assert variance**0.5 == pytest.approx(0.05, rel=0.2)


def test_a_changed_concept_surprises_and_moved_input_does_not() -> None:
    rng = np.random.default_rng(1)
    scores, labels = some(rng, 5000)
    calibrator = fit_calibrator(scores, labels, None, scores >= 0.5)
    assert calibrator is not None
    moved = np.round(1 / (1 + np.exp(-rng.normal(0.7, 1.0, 3000))), 2)
    same = labelled(moved, (rng.random(3000) < moved).astype(int))
    wrong = labelled(*some(rng, 3000, lift=0.25))
    for scored, surprised in ((same, False), (wrong, True)):
        for name, found in measure_surprises(calibrator, scored, GRID).items():
            assert isinstance(found, Surprise)
            assert (tail_of_loss(found) < 0.001) is surprised, name


def test_no_change_is_rarely_a_surprise() -> None:
    """A level of 5 % in 100 windows with fresh references: 13 are one in a thousand."""
    hits = np.zeros(3)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        scores, labels = some(rng, 1000)
        calibrator = fit_calibrator(scores, labels, None, scores >= 0.5)
        assert calibrator is not None
        mass = np.bincount(np.round(scores * 100).astype(int), minlength=len(GRID))
        current = labelled(*some(rng, 1000))
        found = measure_surprises(calibrator, current, GRID, ("roc_auc", "accuracy"))
        groups = measure_miscalibration(calibrator, mass, current, GRID)
        assert groups is not None
        tails = [tail_of_loss(f) for f in found.values() if isinstance(f, Surprise)]
        hits += np.array([*tails, tail_of_miscalibration(groups)]) < 0.05
    assert hits.max() < 13, hits


def test_the_groups_of_calibration_by_hand() -> None:
    """Every score promises half; in the upper half of the scores 80 % are positive."""
    scores = np.repeat([0.2, 0.8], 500)
    labels = np.concatenate([np.arange(500) % 2, np.arange(500) % 5 > 0]).astype(int)
    mass = np.bincount([20, 80], weights=[10**9, 10**9], minlength=len(GRID)).astype(np.int64)
    found = measure_miscalibration(
        certain(np.full(len(GRID), 0.5)), mass, labelled(scores, labels), GRID
    )
    assert found is not None
    assert found.sizes.tolist() == [500, 500]
    assert found.differences == pytest.approx([0, 150])
    assert found.labels == pytest.approx([125, 125])
    chance = np.sqrt(2 / np.pi * 125) * 2 / 1000
    assert found.excess == pytest.approx(0.15 - chance, abs=1e-4)
    assert tail_of_miscalibration(found) < 1e-20


def test_few_positives_are_tested_as_one_group_and_too_few_not_at_all() -> None:
    scores = np.full(150, 0.05)
    mass = np.bincount([5], weights=[10**9], minlength=len(GRID)).astype(np.int64)
    for positives, alert in ((7, False), (60, True)):
        labels = (np.arange(150) < positives).astype(int)
        found = measure_miscalibration(certain(GRID), mass, labelled(scores, labels), GRID)
        assert found is not None
        assert len(found.sizes) == 1
        assert (tail_of_miscalibration(found) < 1e-6) is alert
    few = labelled(scores[:50], np.zeros(50, int))
    assert measure_miscalibration(certain(GRID), mass, few, GRID) is None


def test_the_reference_s_own_unrest_excuses_as_much_of_a_window() -> None:
    rng = np.random.default_rng(2)
    mass = np.bincount(np.arange(10, 91), minlength=len(GRID)) * 10**6

    def a_window(lift: float) -> Miscalibration:
        scores, _ = some(rng, 2000)
        labels = (rng.random(2000) < np.clip(scores + lift, 0, 1)).astype(int)
        found = measure_miscalibration(certain(GRID), mass, labelled(scores, labels), GRID)
        assert found is not None
        return found

    chunks = [a_window(lift) for lift in rng.normal(0, 0.05, 30)]
    between = between_miscalibrated(chunks)
    assert between[0] ** 0.5 == pytest.approx(0.05, rel=0.4)
    window = a_window(0.06)
    assert tail_of_miscalibration(window) < 1e-4
    assert tail_of_miscalibration(window, *between) > 0.01
    assert tail_of_miscalibration(a_window(0.6), *between) < 0.01
