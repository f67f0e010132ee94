"""Labelled rows of a binary classifier: confusion, scores by bin, losses, and few rows' ranks."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from service.profiles.arrays import (
    LABEL,
    PREDICTION,
    SCORE,
    Index,
    class_codes,
    find_array,
    find_floats,
    find_weights,
)
from service.profiles.binning import Binning, Floats
from service.profiles.columns import Classes
from service.profiles.profile import MOST_RANKED, PerformanceProfile
from service.profiles.sums import SCORE_CLIP, score_histogram, sums_of, weigh


def profile_binary(rows: pa.Table, binning: Binning, classes: Classes) -> PerformanceProfile:
    """Summarise the labelled rows of a classifier with two classes."""
    label = class_codes(rows, LABEL, classes)
    predicted = class_codes(rows, PREDICTION, classes)
    usable = (label >= 0) & (predicted >= 0)
    labels = find_array(rows, LABEL)
    present = 0 if labels is None else rows.num_rows - labels.null_count
    label, predicted = label[usable], predicted[usable]
    scores, weights = find_floats(rows, SCORE)[usable], find_weights(rows)
    weights = None if weights is None else weights[usable]
    cell = label * 2 + predicted
    confusion = sums_of(cell, weights, 4)
    score_counts, score_weights = score_histogram(cell, scores, weights, binning.score_edges, 4)
    return PerformanceProfile(
        labelled=len(label),
        unusable=present - len(label),
        confusion=confusion[0].reshape(2, 2),
        confusion_weights=confusion[1].reshape(2, 2),
        confusion_weights_squared=confusion[2].reshape(2, 2),
        score_counts=score_counts.reshape(2, 2, -1),
        score_weights=score_weights.reshape(2, 2, -1),
        losses=_losses(label, scores, weights),
        ranked=keep_ranked([_ranked(label, scores, weights)]),
    )


def keep_ranked(parts: Sequence[Floats | None]) -> Floats | None:
    """Join scored rows in ascending order, or keep none where they are too many."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or sum(map(len, known)) > MOST_RANKED:
        return None
    joined = np.concatenate(known)
    ordered: Floats = joined[np.lexsort(joined.T[::-1])]
    return ordered


def _ranked(label: Index, scores: Floats, weights: Floats | None) -> Floats | None:
    known = np.isfinite(scores)
    if np.count_nonzero(known) > MOST_RANKED:
        return None
    weight = np.ones(len(scores)) if weights is None else weights
    return np.stack([scores[known], label[known], weight[known]], axis=1)


def _losses(label: Index, scores: Floats, weights: Floats | None) -> Floats:
    """Return Σw·b, Σw·b², Σw·l, Σw·l² by label, shape ``(2, 4)``."""
    known = np.isfinite(scores)
    truth, scores = label[known], scores[known].clip(0.0, 1.0)
    weight = np.ones(len(scores)) if weights is None else weights[known]
    brier = (scores - truth) ** 2
    clipped = scores.clip(SCORE_CLIP, 1 - SCORE_CLIP)
    log_loss = -np.log(np.where(truth == 1, clipped, 1 - clipped))
    parts = (brier, brier * brier, log_loss, log_loss * log_loss)
    sums = [weigh(truth, weight * part, 2) for part in parts]
    return np.stack(sums, axis=1)
