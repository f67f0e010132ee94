"""Verdicts on whether a score still means what it meant: P(label | score)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.detection.concept import (
    LabelledScores,
    Surprise,
    between_chunks,
    measure_surprises,
    mirrored,
    spread_of,
    tail_of_loss,
)
from service.detection.concept_multiclass import measure_surprises_of_many
from service.detection.estimates import Calibrators
from service.detection.estimation_multiclass import ESTIMATED_OVERALL, ManyCalibrators
from service.detection.expectation import ESTIMATED
from service.detection.metric_value import FEWEST_IN_DENOMINATOR, Z
from service.detection.miscalibration import (
    Miscalibration,
    between_miscalibrated,
    measure_miscalibration,
    tail_of_miscalibration,
)
from service.evaluation.measurement import Direction, Measurement, Verdict, unmeasured
from service.evaluation.performance import PerformancePolicy, withheld
from service.evaluation.significance import sidak
from service.profiles.arrays import score_representatives
from service.profiles.binning import Binning
from service.profiles.profile import (
    Floats,
    MulticlassProfile,
    Performance,
    PerformanceProfile,
    RegressionProfile,
)

CONCEPT_DRIFT = "concept_drift_"
CALIBRATION_DRIFT = "calibration_drift"
PAIRED = "cbpe_paired"
GROUPED = "hosmer_lemeshow"
# The scores announced less than the labels show; to be worse is the alert.
LESS_THAN_PROMISED = "less_than_promised"
BETTER_THAN_PROMISED = "better_than_promised"
MISCALIBRATED = "shares_of_labels_left_their_scores"


@dataclass(frozen=True, slots=True)
class _Context:
    policy: PerformancePolicy
    tests: int
    blocked: str | None


def judge_concept(
    binning: Binning,
    reference: Performance,
    chunks: Sequence[Performance],
    calibrators: Calibrators | None,
    current: Performance,
    rows: int,
    policy: PerformancePolicy,
) -> list[Measurement]:
    """Compare what labels show with what the scores of the very same rows promised.

    A metric alerts if it is lower than promised by more than the tolerance *and* the probability of
    that, if the scores still mean the same, is below ``alpha`` (Šidák over the family).  One that
    is higher is a changed concept, too, but a harmless one: ``ok`` with a reason.  What scores
    promise follows their shift, so that input that merely moves is no surprise; but a shift to
    where the reference had few rows can touch the promise.

    Parameters
    ----------
    binning
        Whose score edges all profiles share.
    reference
        The labelled reference; its scores part the groups of the calibration.
    chunks
        The reference in pieces of about the window's length.  Where they surprise significantly,
        their own variance counts in the test.  May be empty.
    calibrators
        Fitted on the reference; ``None`` if it had too few labels.
    current
        The window's labelled rows.
    rows
        All the window's rows, labelled or not; for the label coverage.
    policy
        Which metrics are judged, as for ``judge_performance``.

    Returns
    -------
    list of Measurement
        ``concept_drift_<metric>``: realised less promised value, with a 95 % interval of what else
        than chance it may be; and ``calibration_drift``, by class where there are many: the mean
        difference between the share of positives and their calibrated probability in about ten
        groups of score, beyond chance, which alerts beyond the ``tolerance``.
    """
    context = _Context(policy, 1, withheld(current.labelled, rows, policy))
    possible = ESTIMATED if isinstance(current, PerformanceProfile) else ESTIMATED_OVERALL
    names = [name for name in dict.fromkeys(policy.metrics) if name in possible]
    if isinstance(current, RegressionProfile):
        return []
    if calibrators is None or context.blocked is not None:
        reason = context.blocked or "no_calibrator"
        metrics = [*(CONCEPT_DRIFT + name for name in names), CALIBRATION_DRIFT]
        return [_nothing(metric, current.labelled, reason) for metric in metrics]
    at = score_representatives(binning.score_edges)
    context = replace(context, tests=len(names) + len(_scores_of(current)))
    pieces = [surprises(_without_replicas(calibrators), chunk, at, names) for chunk in chunks]
    found = surprises(calibrators, current, at, names)
    judged = [
        _judge_surprise(name, found[name], [piece[name] for piece in pieces], context, current)
        for name in names
    ]
    return judged + _judge_calibration(reference, chunks, calibrators, current, at, context)


def surprises(
    calibrators: Calibrators,
    labelled: PerformanceProfile | MulticlassProfile | Performance,
    representatives: Floats,
    names: Sequence[str],
) -> Mapping[str, Surprise | str]:
    """Return what labels show against what scores promised, over all classes."""
    scores = _scores_of(labelled)
    if isinstance(calibrators, ManyCalibrators):
        return measure_surprises_of_many(calibrators, list(scores.values()), representatives, names)
    return measure_surprises(calibrators, scores[None], representatives, names)


def _scores_of(labelled: Performance) -> dict[str | None, LabelledScores]:
    """Return the scored rows by class; of two classes, those of the positive one alone."""
    if isinstance(labelled, RegressionProfile):
        return {}
    weight, squares = labelled.confusion_weights.sum(), labelled.confusion_weights_squared.sum()
    # The weights of scored rows spread like all rows'.
    share = float(weight**2 / (squares * labelled.labelled)) if squares > 0 else 1.0
    counts, weights = labelled.score_counts, labelled.score_weights
    if isinstance(labelled, PerformanceProfile):
        return {None: LabelledScores(counts, weights, share * float(counts.sum()))}
    return {
        name: LabelledScores(counts[i], weights[i], share * float(counts[i].sum()))
        for i, name in enumerate(labelled.names)
    }


def _without_replicas(
    calibrators: Calibrators,
) -> Calibrators:
    """Return what tells chunks apart: they share the calibrator, and so its noise."""
    if isinstance(calibrators, ManyCalibrators):
        parts = (replace(p, replicates=p.replicates[:0]) for p in calibrators.parts)
        return replace(calibrators, parts=tuple(parts))
    return replace(calibrators, replicates=calibrators.replicates[:0])


def _judge_surprise(
    name: str,
    found: Surprise | str,
    chunks: Sequence[Surprise | str],
    context: _Context,
    current: Performance,
) -> Measurement:
    metric, policy = CONCEPT_DRIFT + name, context.policy
    if isinstance(found, str):
        return _nothing(metric, current.labelled, found)
    between = between_chunks([c for c in chunks if not isinstance(c, str) and _thick(c)])
    error = Z * float(np.sqrt(found.labels + found.fit + spread_of(*between)))
    p_value: float | None = None
    verdict, reason = Verdict.INSUFFICIENT_DATA, "few_in_denominator"
    if _thick(found):
        p_value = sidak(tail_of_loss(found, *between), context.tests)
        gain = sidak(tail_of_loss(mirrored(found), *between), context.tests)
        verdict, reason = Verdict.OK, ""
        if found.value < -policy.tolerance and p_value < policy.alpha:
            verdict, reason = Verdict.ALERT, LESS_THAN_PROMISED
        elif found.value > policy.tolerance and gain < policy.alpha:
            reason = BETTER_THAN_PROMISED
    return Measurement(
        metric=metric,
        value=found.value,
        n=current.labelled,
        method=PAIRED,
        direction=Direction.LOWER_IS_WORSE,
        verdict=verdict,
        ci_low=found.value - error,
        ci_high=found.value + error,
        reference_value=0.0,
        threshold=-policy.tolerance,
        p_value=p_value,
        reason=reason or None,
    )


def _thick(found: Surprise) -> bool:
    return found.support >= FEWEST_IN_DENOMINATOR


def _judge_calibration(
    reference: Performance,
    chunks: Sequence[Performance],
    calibrators: Calibrators,
    current: Performance,
    representatives: Floats,
    context: _Context,
) -> list[Measurement]:
    parts = calibrators.parts if isinstance(calibrators, ManyCalibrators) else (calibrators,)
    before, pieces = _scores_of(reference), [_scores_of(chunk) for chunk in chunks]
    judged = []
    for part, (name, scores) in zip(parts, _scores_of(current).items(), strict=True):
        mass = before[name].counts.sum(axis=(0, 1))
        bare = replace(part, replicates=part.replicates[:0])
        own = [measure_miscalibration(bare, mass, p[name], representatives) for p in pieces]
        between = between_miscalibrated([piece for piece in own if piece is not None])
        found = measure_miscalibration(part, mass, scores, representatives)
        judged.append(_judge_groups(name, found, between, scores.rows, context))
    return judged


def _judge_groups(
    name: str | None,
    found: Miscalibration | None,
    between: tuple[float, int],
    rows: int,
    context: _Context,
) -> Measurement:
    policy = context.policy
    if found is None:
        reason = "few_in_denominator" if rows else "no_scores"
        return _nothing(CALIBRATION_DRIFT, rows, reason, name)
    p_value = sidak(tail_of_miscalibration(found, *between), context.tests)
    alert = found.excess > policy.tolerance and p_value < policy.alpha
    return Measurement(
        metric=CALIBRATION_DRIFT,
        subject=name,
        value=found.excess,
        n=rows,
        n_eff=found.n_eff,
        method=GROUPED,
        direction=Direction.HIGHER_IS_WORSE,
        verdict=Verdict.ALERT if alert else Verdict.OK,
        threshold=policy.tolerance,
        p_value=p_value,
        reason=MISCALIBRATED if alert else None,
    )


def _nothing(metric: str, n: int, reason: str, subject: str | None = None) -> Measurement:
    return unmeasured(metric, n, reason, direction=Direction.INFORMATION, subject=subject)
