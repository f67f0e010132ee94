"""Summarise the labelled rows of a model of many classes."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from service.profiles.arrays import (
    LABEL,
    PREDICTION,
    Index,
    class_codes,
    find_array,
    find_floats,
    find_weights,
    score_column,
    score_index,
)
from service.profiles.binning import Floats
from service.profiles.columns import ManyClasses
from service.profiles.profile import Counts, MulticlassProfile
from service.profiles.sums import SCORE_CLIP, weigh

LARGEST_SCORE = 1e70


def profile_multiclass(
    rows: pa.Table, score_edges: Floats, classes: ManyClasses
) -> MulticlassProfile:
    """Summarise the labelled rows among ``rows``; rows whose ``label`` is null are left out.

    Parameters
    ----------
    rows
        ``label`` and ``prediction`` (text), ``scores.<class>`` and ``weight`` where logged.
    score_edges
        Inner edges of the score histograms.
    classes
        In the order of the profile.

    Returns
    -------
    MulticlassProfile
        Rows with a label whose label or prediction is none of the classes are in ``unusable``
        alone; rows without a finite score for every class have no part in the histograms.
    """
    k = len(classes.names)
    label, predicted = class_codes(rows, LABEL, classes), class_codes(rows, PREDICTION, classes)
    usable = (label >= 0) & (predicted >= 0)
    labels = find_array(rows, LABEL)
    present = 0 if labels is None else rows.num_rows - labels.null_count
    weights = find_weights(rows)
    w = np.ones(rows.num_rows) if weights is None else weights
    label, predicted, w = label[usable], predicted[usable], w[usable]
    scores = class_scores(rows, classes)[usable]
    known = np.isfinite(scores).all(axis=1)
    cell = label * k + predicted
    truth, scores, scored = label[known], scores[known], w[known]
    counts, sums = _histograms([truth, predicted[known]], scores, scored, score_edges)
    of_label = scores[np.arange(len(truth)), truth].clip(SCORE_CLIP, 1 - SCORE_CLIP)
    loss = -np.log(of_label)
    # Larger scores are no probabilities, and their squares would overflow.
    apart = scores.clip(-LARGEST_SCORE, LARGEST_SCORE)
    apart[np.arange(len(truth)), truth] -= 1
    square = (apart**2).sum(axis=1)
    losses = [weigh(truth, scored * part, k) for part in (loss, loss**2, square, square**2)]
    return MulticlassProfile(
        names=classes.names,
        labelled=len(label),
        unusable=present - len(label),
        confusion=np.bincount(cell, minlength=k * k).astype(np.int64).reshape(k, k),
        confusion_weights=weigh(cell, w, k * k).reshape(k, k),
        confusion_weights_squared=weigh(cell, w * w, k * k).reshape(k, k),
        score_counts=counts,
        score_weights=sums,
        losses=np.stack(losses, axis=1).reshape(k, 4),
    )


def class_scores(rows: pa.Table, classes: ManyClasses) -> Floats:
    """Return the score of every class, shape ``(n_rows, k)``, NaN where none was logged."""
    scores = np.empty((rows.num_rows, len(classes.names)))
    for i, name in enumerate(classes.names):
        scores[:, i] = find_floats(rows, score_column(name))
    return scores


def predicted_scores(
    rows: pa.Table, score_edges: Floats, classes: ManyClasses
) -> tuple[Counts, Floats]:
    """Return rows and Σw as a ``FeatureProfile`` holds them, shape ``(k, 2, n_score_bins)``.

    Rows whose prediction is none of the classes, or that lack a finite score, have no part.
    """
    predicted, scores = class_codes(rows, PREDICTION, classes), class_scores(rows, classes)
    known = np.isfinite(scores).all(axis=1) & (predicted >= 0)
    weights = find_weights(rows)
    w = np.ones(rows.num_rows) if weights is None else weights
    return _histograms([predicted[known]], scores[known], w[known], score_edges)


def _histograms(
    codes: Sequence[Index], scores: Floats, weights: Floats, score_edges: Floats
) -> tuple[Counts, Floats]:
    """Return rows and Σw by class, for each code whether it is this class, and score bin."""
    k, size = scores.shape[1], len(score_edges) + 1
    cells = 2 ** len(codes) * size
    counts, sums = np.zeros((k, cells), np.int64), np.zeros((k, cells))
    for i in range(k):
        group = np.zeros(len(scores), np.int64)
        for code in codes:
            group = 2 * group + (code == i)
        index = group * size + score_index(scores[:, i], score_edges)
        counts[i] = np.bincount(index, minlength=cells)
        sums[i] = weigh(index, weights, cells)
    shape = (k, *[2] * len(codes), size)
    return counts.reshape(shape), sums.reshape(shape)


def empty_multiclass(score_edges: Floats, classes: ManyClasses) -> MulticlassProfile:
    """Return the profile of no rows."""
    return profile_multiclass(pa.table({}), score_edges, classes)
