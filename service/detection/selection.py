"""Whether the rows that have a label are like those that have none."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import erfc

from service.detection.calibration import chi2_tail, homogeneity
from service.detection.drift import jensen_shannon_distance
from service.detection.grouping import group_count
from service.detection.trend import rank_statistic
from service.profiles.arrays import PREDICTION
from service.profiles.binning import Binning
from service.profiles.columns import Classes, ManyClasses
from service.profiles.profile import (
    REGRESSION_SUMS,
    Counts,
    FeatureProfile,
    MulticlassProfile,
    Performance,
    PerformanceProfile,
    RegressionProfile,
)
from service.profiles.regression import label_center

FEWEST_ROWS = 20
WEIGHTLESS = 1e-9


@dataclass(frozen=True, slots=True)
class Selection:
    """How far the labelled rows of a window are from the others, in one output of the model.

    ``output`` is ``score``, ``prediction``, or the class whose score it is.  ``upward`` says
    whether labelled rows have the higher values, ``None`` where these have no order.  ``effect`` is
    Jensen-Shannon's distance of the grouped rows, 0..1; of numbers it is the difference of the
    means in standard deviations.
    """

    output: str
    labelled: int
    unlabelled: int
    effect: float
    p_value: float
    upward: bool | None


def compare_labelled(
    binning: Binning, features: FeatureProfile, performance: Performance
) -> list[Selection]:
    """Compare what the model said of the rows with a label and of those without.

    Parameters
    ----------
    binning
        Whose edges both profiles share.
    features
        All rows of a window.
    performance
        Its labelled rows.

    Returns
    -------
    list of Selection
        One for each output; none where either side has fewer than 20 rows.  Rows are grouped into
        4 to 32 quantiles of all rows, whoever of them is labelled, so that a random choice of the
        labelled rows keeps the level.  ``p_value`` is twice the smaller of those of the groups and
        of the ranks.

    References
    ----------
    J. Heckman, "Sample selection bias as a specification error", 1979.
    """
    found: list[Selection | None] = []
    if isinstance(performance, RegressionProfile):
        found = [_of_numbers(binning, features, performance)]
    elif isinstance(performance, PerformanceProfile) and isinstance(binning.output, Classes):
        rows = features.score_counts.sum(axis=0)
        found = [_of_scores("score", performance.label_score_counts.sum(axis=0), rows)]
    elif isinstance(performance, MulticlassProfile) and isinstance(binning.output, ManyClasses):
        labelled, rows = performance.label_score_counts.sum(axis=1), features.score_counts
        if rows.ndim == labelled.ndim + 1:
            pairs = zip(performance.names, labelled, rows.sum(axis=1), strict=True)
            found = [_of_scores(name, own, every) for name, own, every in pairs]
    if not isinstance(performance, RegressionProfile):
        found.append(_of_classes(features, performance))
    return [selection for selection in found if selection is not None]


def _apart(labelled: Counts, rows: Counts) -> Counts | None:
    """Return labelled and other rows, shape ``(2, n_bins)``; none if either are too few."""
    sides = np.stack((labelled, np.maximum(rows - labelled, 0)))
    return sides if int(sides.sum(axis=1).min()) >= FEWEST_ROWS else None


def _of_scores(output: str, labelled: Counts, rows: Counts) -> Selection | None:
    sides = _apart(labelled, rows)
    if sides is None:
        return None
    pooled = sides.sum(axis=0)
    wanted = group_count(*sides.sum(axis=1).tolist())
    middle = (np.cumsum(pooled) - pooled / 2) / pooled.sum()
    cut = np.minimum((middle * wanted).astype(np.int64), wanted - 1)
    _, group = np.unique(cut, return_inverse=True)
    grouped = np.stack([np.bincount(group, side).astype(np.int64) for side in sides])
    statistic, df = rank_statistic(sides)
    ranks = np.cumsum(pooled) - pooled / 2
    means = sides @ ranks / sides.sum(axis=1)
    p_value = min(_p_of_groups(grouped), chi2_tail(statistic, df))
    return _selection(
        output, sides, grouped, min(2 * p_value, 1.0), upward=bool(means[0] > means[1])
    )


def _of_classes(features: FeatureProfile, performance: Performance) -> Selection | None:
    column = features.columns.get(PREDICTION)
    assert not isinstance(performance, RegressionProfile)
    predicted = performance.confusion.sum(axis=0)
    if column is None or len(column.counts) < len(predicted):
        return None
    sides = _apart(predicted, column.counts[: len(predicted)])
    if sides is None:
        return None
    return _selection(PREDICTION, sides, sides, _p_of_groups(sides), upward=None)


def _p_of_groups(sides: Counts) -> float:
    filled = sides[:, sides.sum(axis=0) > 0]
    if filled.shape[1] <= 1:
        return 1.0
    compared = homogeneity(filled[0], filled[1])
    return max(chi2_tail(compared.jsd, compared.df), chi2_tail(compared.x2, compared.df))


def _selection(
    output: str, sides: Counts, grouped: Counts, p_value: float, *, upward: bool | None
) -> Selection:
    labelled, unlabelled = sides.sum(axis=1).tolist()
    effect = jensen_shannon_distance(*grouped.astype(np.float64))
    return Selection(output, labelled, unlabelled, effect, p_value, upward)


def _of_numbers(
    binning: Binning, features: FeatureProfile, performance: RegressionProfile
) -> Selection | None:
    """Compare the mean prediction: of labelled rows the profile holds sums."""
    column = features.columns.get(PREDICTION)
    sums = dict(zip(REGRESSION_SUMS, performance.sums.tolist(), strict=True))
    n = performance.labelled
    # Weighted sums are of another mean than the column's.
    if column is None or abs(sums["w"] - n) > WEIGHTLESS * n:
        return None
    others = column.n - n
    if min(n, others) < FEWEST_ROWS or not column.m2 > 0:
        return None
    mean = (sums["e"] + sums["u"]) / n + label_center(binning)
    rest = (column.n * column.mean - n * mean) / others
    effect = (mean - rest) / sqrt(column.m2 / column.n)
    z = abs(effect) / sqrt(1 / n + 1 / others)
    return Selection(PREDICTION, n, others, abs(effect), float(erfc(z / sqrt(2))), effect > 0)
