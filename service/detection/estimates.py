"""Estimates of a classifier of two or of many classes, by one call."""

import numpy as np
import pyarrow as pa

from service.detection.calibrator import (
    Calibrator,
    calibrator_from_bytes,
    calibrator_to_bytes,
    fit_calibrator,
)
from service.detection.estimation import estimate_performance
from service.detection.estimation_multiclass import (
    ManyCalibrators,
    estimate_performance_of_many,
    fit_many,
)
from service.detection.metric_value import MetricValue
from service.detection.multiclass import Key
from service.profiles.arrays import (
    LABEL,
    PREDICTION,
    SCORE,
    class_codes,
    find_floats,
    find_weights,
    score_column,
)
from service.profiles.columns import ManyClasses, Output, Quantity
from service.profiles.frames import pack, unpack
from service.profiles.profile import FeatureProfile, Floats

Calibrators = Calibrator | ManyCalibrators


def fit_calibrators(rows: pa.Table, output: Output) -> Calibrators | None:
    """Fit P(label | score) on a reference.

    Parameters
    ----------
    rows
        ``label``, ``prediction``, and ``score`` or ``scores.<class>``; ``weight`` where logged.
    output
        What the model predicts.

    Returns
    -------
    Calibrator, ManyCalibrators or None
        ``None`` if there are too few labels, or if the output is a number.
    """
    if isinstance(output, Quantity):
        return None
    many = isinstance(output, ManyClasses)
    names = [score_column(name) for name in output.names] if many else [SCORE]
    scores = np.stack([find_floats(rows, name) for name in names] or [np.empty(0)], axis=1)
    labels = class_codes(rows, LABEL, output)
    usable = (labels >= 0) & np.isfinite(scores).all(axis=1)
    if not usable.any():
        return None
    weights = find_weights(rows)
    weights = None if weights is None else weights[usable]
    codes = class_codes(rows, PREDICTION, output)[usable]
    # Without predictions only the optimism of the AUC can be known.
    predicted = codes if bool((codes >= 0).all()) else None
    scores, labels = scores[usable], labels[usable]
    if many:
        return fit_many(output.names, scores, labels, weights, predicted)
    return fit_calibrator(scores[:, 0], labels, weights, predicted)


def estimate_profile(
    calibrators: Calibrators, rows: FeatureProfile, representatives: Floats
) -> dict[Key, MetricValue]:
    """Estimate the metrics of rows without labels, assuming that P(label | score) has not changed.

    Parameters
    ----------
    calibrators
        Fitted on the reference.
    rows
        Of a model with as many classes.
    representatives
        The score that stands for each bin, shape ``(n_bins,)``.

    Returns
    -------
    dict
        By metric and class, which is ``None`` for what is not of a single one.
    """
    counts, weights = rows.score_counts, rows.score_weights
    if isinstance(calibrators, ManyCalibrators):
        squares = _squares(rows, score_column(calibrators.names[0]))
        n = scored_rows(rows)
        return estimate_performance_of_many(calibrators, n, weights, representatives, squares)
    squares = _squares(rows, SCORE)
    found = estimate_performance(calibrators, counts, weights, representatives, squares)
    return {(name, None): value for name, value in found.items()}


def scored_rows(rows: FeatureProfile) -> int:
    """Return how many rows have a prediction and its scores."""
    counts = rows.score_counts
    # Of many classes, every one has a histogram of the same rows.
    return int((counts[:1] if counts.ndim > len(("prediction", "bin")) else counts).sum())


def _squares(rows: FeatureProfile, column: str) -> float | None:
    score = rows.columns.get(column)
    return None if score is None else float(score.weights_squared.sum())


def calibrators_to_bytes(calibrators: Calibrators) -> bytes:
    """Serialise what estimates need: one calibrator, or those of many classes."""
    if isinstance(calibrators, Calibrator):
        return calibrator_to_bytes(calibrators)
    frames = [calibrator_to_bytes(part) for part in calibrators.parts]
    sizes = [len(frame) for frame in frames]
    head = pack(b"K", {"names": list(calibrators.names), "sizes": sizes}, [])
    return b"".join([head, *frames, len(head).to_bytes(4, "little")])


def calibrators_from_bytes(data: bytes) -> Calibrators:
    """Read what ``calibrators_to_bytes`` wrote; ``ValueError`` if the bytes are something else."""
    if data[4:5] == b"C":
        return calibrator_from_bytes(data)
    position = int.from_bytes(data[-4:], "little")
    head, _ = unpack(b"K", data[:position])
    parts = []
    for size in head["sizes"]:
        parts.append(calibrator_from_bytes(data[position : position + size]))
        position += size
    return ManyCalibrators(tuple(head["names"]), tuple(parts))
