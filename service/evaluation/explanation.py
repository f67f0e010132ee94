"""What a window's loss comes from, as measurements that are read, not judged."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from service.detection.discovery import Losses, Slice
from service.detection.root_cause import (
    FEATURE,
    Contribution,
    explain_loss,
    sentence_of,
)
from service.evaluation.discovery import vocabulary_of
from service.evaluation.losses import losses_of
from service.evaluation.measurement import SMALLEST_GROUP, Direction, Measurement
from service.evaluation.performance import PerformancePolicy
from service.profiles.arrays import PREDICTION, SCORE, class_codes, find_floats
from service.profiles.binning import Binning, Floats
from service.profiles.columns import Classes, Column

REALISED, ESTIMATED = "loss_contribution", "estimated_loss_contribution"
CONTRIBUTIONS = frozenset({REALISED, ESTIMATED})
UNEXPLAINED = "no single feature or slice explains the loss"
METHODS = {True: "oaxaca_blinder", False: "excess_loss"}
# A rise that chance makes in one window of two hundred needs no explanation.
LEAST_RISE = 2.58
FEWEST_ROWS = 50


def explain_realised(
    reference: pa.Table,
    current: pa.Table,
    columns: Sequence[Column],
    binning: Binning,
    policy: PerformancePolicy,
    slices: Mapping[str, Slice],
) -> list[Measurement]:
    """Say which features and slices account for the loss of the labelled rows.

    Parameters
    ----------
    reference, current
        As for ``judge_discovered``.
    columns, binning
        The features, and what the output is.
    policy
        How many of the rows must have labels.
    slices
        Those that were found, by name.

    Returns
    -------
    list of Measurement
        ``loss_contribution`` of a feature (``subject``) or a ``slice``, largest first: the share of
        the rise of the mean loss (errors; squared errors of a regression), what it says as its
        ``reason``.  Nothing if the loss did not rise; one without a value if nothing explains it.
    """
    losses = [losses_of(rows, binning) for rows in (reference, current)]
    known = np.isfinite(losses[1]).mean() if current.num_rows else 0.0
    if known < policy.min_label_coverage:
        return []
    return _explain(reference, current, columns, losses, slices, REALISED)


def explain_estimated(
    reference: pa.Table,
    current: pa.Table,
    columns: Sequence[Column],
    binning: Binning,
    policy: PerformancePolicy,
) -> list[Measurement]:
    """Say which features account for the loss that scores promise, while labels are missing.

    Parameters
    ----------
    reference, current, columns, binning, policy
        As for ``explain_realised``.  The expected errors of both sides come from the same isotonic
        regression of the reference's labels on its scores; of binary models alone.

    Returns
    -------
    list of Measurement
        ``estimated_loss_contribution``, as ``explain_realised`` has it; nothing once enough rows
        have labels.
    """
    realised = losses_of(current, binning)
    covered = np.isfinite(realised).mean() if current.num_rows else 1.0
    if covered >= policy.min_label_coverage or not isinstance(binning.output, Classes):
        return []
    losses = expected_errors(reference, current, binning.output, losses_of(reference, binning))
    return [] if losses is None else _explain(reference, current, columns, losses, {}, ESTIMATED)


def expected_errors(
    reference: pa.Table, current: pa.Table, classes: Classes, realised: Floats
) -> list[Floats] | None:
    """Return each row's probability of an error by its score; ``None`` without scored labels."""
    from sklearn.isotonic import IsotonicRegression

    predicted = [class_codes(rows, PREDICTION, classes) for rows in (reference, current)]
    scores = [find_floats(rows, SCORE) for rows in (reference, current)]
    known = np.isfinite(realised) & np.isfinite(scores[0])
    if known.sum() < FEWEST_ROWS:
        return None
    positive = np.where(realised[known] > 0, 1 - predicted[0][known], predicted[0][known])
    curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    curve.fit(scores[0][known], positive)
    found = []
    for own, score in zip(predicted, scores, strict=True):
        usable = np.isfinite(score) & (own >= 0)
        chance = curve.predict(np.where(usable, score, 0.0))
        found.append(np.where(usable, np.where(own == 1, 1 - chance, chance), np.nan))
    return found


def _explain(
    reference: pa.Table,
    current: pa.Table,
    columns: Sequence[Column],
    losses: Sequence[Floats],
    slices: Mapping[str, Slice],
    metric: str,
) -> list[Measurement]:
    vocabulary = vocabulary_of(reference, current, columns)
    before, now = (
        Losses(vocabulary.codes(rows.filter(pa.array(np.isfinite(loss)))), loss[np.isfinite(loss)])
        for rows, loss in zip((reference, current), losses, strict=True)
    )
    if min(len(before.loss), len(now.loss)) < FEWEST_ROWS:
        return []
    # A slice that was found has lost, even where chance could have made the average of it.
    if not _rose(before.loss, now.loss, 0.0 if slices else LEAST_RISE):
        return []
    masks = {
        name: (vocabulary.mask(before.codes, chosen), vocabulary.mask(now.codes, chosen))
        for name, chosen in slices.items()
    }
    found = explain_loss(vocabulary, before, now, masks, np.random.default_rng(len(now.loss)))
    if not found:
        return [_unexplained(metric, len(now.loss))]
    named = [one for one in found if one.kind == FEATURE or one.n >= SMALLEST_GROUP]
    return [_measure(metric, one) for one in named]


def _rose(before: Floats, now: Floats, errors: float) -> bool:
    error = np.sqrt(before.var() / len(before) + now.var() / len(now))
    return bool(now.mean() - before.mean() > errors * error)


def _measure(metric: str, one: Contribution) -> Measurement:
    is_feature = one.kind == FEATURE
    return Measurement(
        metric=metric,
        subject=one.name if is_feature else None,
        slice=None if is_feature else one.name,
        value=one.share,
        ci_low=one.ci_low,
        ci_high=one.ci_high,
        n=one.n,
        method=METHODS[is_feature],
        direction=Direction.INFORMATION,
        verdict=None,
        reason=sentence_of(one),
    )


def _unexplained(metric: str, n: int) -> Measurement:
    return Measurement(
        metric=metric,
        value=None,
        n=n,
        method=METHODS[True],
        direction=Direction.INFORMATION,
        verdict=None,
        reason=UNEXPLAINED,
    )
