"""The mergeable summary of rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

# Of more labelled rows than this, the bins of the score tell ranks exactly to 1e-4.
MOST_RANKED = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class ColumnProfile:
    """One column of some rows.

    ``counts``, ``weights``, ``weights_squared`` and ``sums`` have the shape ``(n_bins,)`` of the
    column's bins (rows, Σw, Σw², and Σx for numeric columns, zeros otherwise).  ``missing`` are
    rows without a (finite) value, in rows.  ``n`` counts finite values; ``mean`` and ``m2`` are
    their mean and Σ(x - mean)²; ``minimum`` and ``maximum`` are ``None`` without any.
    ``out_of_range`` counts values outside the declared range, or outside the reference's where
    none is declared.  ``unseen`` names values that the reference does not have, with their exact
    counts: the at most 64 names with the smallest hashes, because those merge exactly.
    """

    counts: Counts
    weights: Floats
    weights_squared: Floats
    sums: Floats
    missing: int
    n: int
    minimum: float | None
    maximum: float | None
    mean: float
    m2: float
    out_of_range: int
    unseen: Mapping[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """How often rows have the same content: the contents with the smallest hashes.

    ``hashes`` are ascending, at most 512, with how many rows have each in ``counts``, of ``rows``
    altogether.  With fewer hashes these are all contents.
    """

    hashes: Counts
    counts: Counts
    rows: int


NO_CONTENTS = Contents(np.empty(0, np.int64), np.empty(0, np.int64), 0)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureProfile:
    """What rows say without their labels.

    ``columns`` holds the features, and ``prediction`` and ``score`` under those (reserved) names.
    ``score_counts`` are rows by prediction and score bin; ``score_weights`` is Σw in the same
    shape.  Of two classes ``(2, n_score_bins)``: by predicted class, negative first.  Of k classes
    ``(k, 2, n_score_bins)``: by class, whether another class or this one is predicted, and bin of
    this class's score, of the rows that have a score for every class.  Zeros for a regression.
    ``contents`` are of features and prediction; they have no rows in profiles of a time before
    contents were counted.
    """

    rows: int
    weight: float
    columns: Mapping[str, ColumnProfile]
    score_counts: Counts
    score_weights: Floats
    contents: Contents = NO_CONTENTS


@dataclass(frozen=True, slots=True, eq=False)
class PerformanceProfile:
    """What labelled rows say of a binary model.

    ``confusion`` has the shape ``(2, 2)``, label by prediction, negative first, in rows;
    ``confusion_weights`` and ``confusion_weights_squared`` are Σw and Σw².  ``score_counts`` and
    ``score_weights`` are ``(2, 2, n_score_bins)``: label by prediction by score bin, so that what
    the scores promise can be held against what these very rows are.  ``losses`` is ``(2, 4)``: per
    label Σw·b, Σw·b², Σw·l, Σw·l² of the squared error b and the log loss l of each scored row
    (scores clipped to [1e-15, 1 - 1e-15] for l).  Rows whose label or prediction is neither class
    are in ``unusable`` alone.  ``ranked`` are the scored rows themselves while these are at most
    ``MOST_RANKED``, ascending, shape ``(n, 3)``: score, label, weight; of so few, one pair that
    shares a bin moves the AUC by more than 1e-4.  ``relabelled`` counts rows with a label, usable
    or not, that were given another one at another time; slices do not count them.
    """

    labelled: int
    unusable: int
    confusion: Counts
    confusion_weights: Floats
    confusion_weights_squared: Floats
    score_counts: Counts
    score_weights: Floats
    losses: Floats
    ranked: Floats | None = None
    relabelled: int = 0

    @property
    def ranked_weights(self) -> Floats:
        """Return Σw by label and ascending score, ``(2, m)``: exact, or by bin of many rows."""
        if self.ranked is None or not len(self.ranked):
            return self.label_score_weights
        scores, labels, weights = self.ranked.T
        distinct, place = np.unique(scores, return_inverse=True)
        index = labels.astype(np.int64) * len(distinct) + place.ravel()
        sums = np.bincount(index, weights, 2 * len(distinct)).reshape(2, -1)
        return sums.astype(np.float64, copy=False)

    @property
    def label_score_counts(self) -> Counts:
        """Return rows by label and bin, whatever was predicted, ``(2, n_bins)``."""
        counts: Counts = self.score_counts.sum(axis=-2)
        return counts

    @property
    def label_score_weights(self) -> Floats:
        """Return Σw by label and bin, whatever was predicted, ``(2, n_bins)``."""
        weights: Floats = self.score_weights.sum(axis=-2)
        return weights


@dataclass(frozen=True, slots=True, eq=False)
class MulticlassProfile:
    """What labelled rows say of a model of k classes, whose ``names`` give the order.

    ``confusion`` has the shape ``(k, k)``, label by prediction, in rows; ``confusion_weights`` and
    ``confusion_weights_squared`` are Σw and Σw².  ``score_counts`` and ``score_weights`` are
    ``(k, 2, 2, n_score_bins)``: by class, whether the label is another class or this one, whether
    the prediction is, and bin of this class's score, of the rows that have a score for every class.
    ``losses`` is ``(k, 4)``: per label Σw·l, Σw·l², Σw·b, Σw·b² of the log loss l and the squared
    error b, summed over the classes, of these rows (scores clipped to [1e-15, 1 - 1e-15] for l);
    the last two are NaN where a profile of the first release has a part in them.  Rows whose label
    or prediction is none of the classes are in ``unusable`` alone.  ``relabelled`` is as for a
    binary model.
    """

    names: tuple[str, ...]
    labelled: int
    unusable: int
    confusion: Counts
    confusion_weights: Floats
    confusion_weights_squared: Floats
    score_counts: Counts
    score_weights: Floats
    losses: Floats
    relabelled: int = 0

    @property
    def label_score_counts(self) -> Counts:
        """Return rows by class, label and bin, whatever was predicted, ``(k, 2, n_bins)``."""
        counts: Counts = self.score_counts.sum(axis=-2)
        return counts

    @property
    def label_score_weights(self) -> Floats:
        """Return Σw by class, label and bin, whatever was predicted, ``(k, 2, n_bins)``."""
        weights: Floats = self.score_weights.sum(axis=-2)
        return weights


@dataclass(frozen=True, slots=True, eq=False)
class RegressionProfile:
    """What labelled rows say of a regression model.

    ``sums`` has the shape ``(len(REGRESSION_SUMS),)``.  ``zero_labels`` are rows whose label is 0:
    they have no relative error.  ``outside_log`` are rows whose label or prediction is -1 or less:
    they have no logarithmic error.  Rows whose label or prediction is no finite number are in
    ``unusable`` alone.  ``relabelled`` is as for a binary model; numbers that are equal are one
    label.
    """

    labelled: int
    unusable: int
    zero_labels: int
    outside_log: int
    sums: Floats
    relabelled: int = 0


# Σ over rows of w times: e = prediction - label; u = label less the binning's centre, because
# powers of a label far from zero cancel; l = log1p(prediction) - log1p(label); r = |e / label|.
REGRESSION_SUMS = (
    *("w", "ww", "e", "abs_e", "e2", "e4", "u", "u2", "u3", "u4", "e2u", "e2u2"),
    *("l2", "l4", "relative_w", "relative_ww", "r", "r2"),
)

Performance = PerformanceProfile | MulticlassProfile | RegressionProfile
