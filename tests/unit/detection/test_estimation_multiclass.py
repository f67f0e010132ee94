"""CBPE of many classes, from histograms: by hand, by laws and against a published table."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.detection.estimates import (
    calibrators_from_bytes,
    calibrators_to_bytes,
    estimate_profile,
    fit_calibrators,
    scored_rows,
)
from service.detection.estimation_multiclass import ESTIMATED_OVERALL, ManyCalibrators, fit_many
from service.detection.metrics import measure
from service.profiles.arrays import score_representatives
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import ManyClasses, Quantity
from service.profiles.freeze import freeze_binning

CREDIT_CARD = Path(__file__).resolve().parents[4] / "shared" / "data" / "nannyml_credit_card"
NAMES = ("a", "b", "c")


def some_rows(n: int, seed: int, spread: float = 1.0) -> pa.Table:
    """Draw labels from the probabilities that are the scores."""
    rng = np.random.default_rng(seed)
    logits = rng.normal([0.4, 0.0, -0.4], spread, (n, 3))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random((n, 1)) > np.cumsum(scores, axis=1)).sum(axis=1)
    names = np.array(NAMES)
    return pa.table(
        {
            "label": names[labels],
            "prediction": names[scores.argmax(axis=1)],
            **{f"scores.{name}": scores[:, i] for i, name in enumerate(NAMES)},
        }
    )


def test_estimates_come_close_to_what_the_labels_show() -> None:
    reference = some_rows(6000, 0)
    binning = freeze_binning(reference, [], ManyClasses(NAMES))
    calibrators = fit_calibrators(reference, binning.output)
    assert isinstance(calibrators, ManyCalibrators)
    held, total = 0, 0
    for seed in range(1, 13):
        window = some_rows(2000, seed, spread=0.7)
        at = score_representatives(binning.score_edges)
        estimated = estimate_profile(calibrators, profile_features(window, [], binning), at)
        realised = measure(profile_performance(window, binning))
        assert {name for name, label in estimated if label is None} == set(ESTIMATED_OVERALL)
        for key, value in estimated.items():
            truth = realised[key].value
            assert truth is not None
            assert value.ci_low is not None
            assert value.ci_high is not None
            assert value.value == pytest.approx(truth, abs=0.06), key
            held += value.ci_low <= truth <= value.ci_high
            total += 1
    assert held / total >= 0.93


def test_accuracy_by_hand() -> None:
    """Certain calibrators: a row is right with the probability of the class it is predicted as."""
    reference = some_rows(3000, 0)
    binning = freeze_binning(reference, [], ManyClasses(NAMES))
    calibrators = fit_calibrators(reference, binning.output)
    assert isinstance(calibrators, ManyCalibrators)
    window = some_rows(500, 5)
    features = profile_features(window, [], binning)
    at = score_representatives(binning.score_edges)
    value = estimate_profile(calibrators, features, at)["accuracy", None].value
    predicted = window["prediction"].to_pylist()
    hits = 0.0
    for i, part in enumerate(calibrators.parts):
        own = np.array([name == NAMES[i] for name in predicted])
        probabilities = part.calibrate(window[f"scores.{NAMES[i]}"].to_numpy())
        hits += probabilities[own].sum() - len(predicted) * part.optimism["hits"]
    assert value == pytest.approx(hits / len(predicted), abs=2e-3)


def test_calibrators_survive_serialisation() -> None:
    reference = some_rows(300, 0)
    calibrators = fit_calibrators(reference, ManyClasses(NAMES))
    assert isinstance(calibrators, ManyCalibrators)
    again = calibrators_from_bytes(calibrators_to_bytes(calibrators))
    assert isinstance(again, ManyCalibrators)
    assert again.names == NAMES
    for left, right in zip(calibrators.parts, again.parts, strict=True):
        np.testing.assert_array_equal(left.replicates, right.replicates)
        assert dict(left.optimism) == dict(right.optimism)


def test_a_class_without_labels_has_no_calibrator_and_so_nobody_has() -> None:
    rows = some_rows(300, 0)
    assert fit_calibrators(rows, ManyClasses((*NAMES, "d"))) is None
    assert fit_calibrators(rows, Quantity()) is None
    assert fit_many((), np.empty((0, 0)), np.empty(0, int)) is None


def test_rows_without_scores_have_no_estimate() -> None:
    reference = some_rows(300, 0)
    binning = freeze_binning(reference, [], ManyClasses(NAMES))
    calibrators = fit_calibrators(reference, binning.output)
    assert calibrators is not None
    bare = profile_features(reference.select(["prediction"]), [], binning)
    assert scored_rows(bare) == 0
    estimated = estimate_profile(calibrators, bare, score_representatives(binning.score_edges))
    assert {value.reason for value in estimated.values()} == {"no_scores"}


@pytest.mark.skipif(not CREDIT_CARD.is_dir(), reason="nannyml_credit_card is not there")
def test_estimates_are_the_published_ones_in_every_chunk() -> None:
    names = ("highstreet_card", "prepaid_card", "upmarket_card")
    columns = {"y_true": "label", "y_pred": "prediction"}
    columns |= {f"y_pred_proba_{name}": f"scores.{name}" for name in names}
    tables = [
        pq.read_table(CREDIT_CARD / f"{name}.parquet", columns=list(columns)).rename_columns(
            list(columns.values())
        )
        for name in ("reference", "analysis")
    ]
    binning = freeze_binning(tables[0], [], ManyClasses(names))
    calibrators = fit_calibrators(tables[0], binning.output)
    assert calibrators is not None
    with (CREDIT_CARD / "published" / "cbpe_estimated.csv").open() as file:
        published = [row for row in csv.DictReader(file) if row["chunk.period"] == "analysis"]
    assert len(published) == 10
    for row in published:
        window = tables[1].slice(int(row["chunk.start_index"]), 6000)
        features = profile_features(window, [], binning)
        at = score_representatives(binning.score_edges)
        estimated = estimate_profile(calibrators, features, at)
        for name in ("roc_auc", "f1"):
            value = estimated[name, None].value
            assert value == pytest.approx(float(row[f"{name}.value"]), abs=5e-3)
