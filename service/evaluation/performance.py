"""Verdicts on whether the model is worse than it was on its reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.detection.estimates import Calibrators, estimate_profile, scored_rows
from service.detection.estimation import METHOD
from service.detection.estimation_multiclass import ESTIMATED_OVERALL
from service.detection.expectation import ESTIMATED
from service.detection.metric_laws import METRIC_SPECS
from service.detection.metric_value import FEWEST_IN_DENOMINATOR, MetricValue, wilson
from service.detection.metrics import (
    HIGHER_IS_WORSE,
    KNOWN,
    RECORDED,
    RELATIVE,
    SIGNED,
    measure,
)
from service.detection.multiclass import Key
from service.detection.multiclass_joint import JointScores
from service.evaluation.measurement import Direction, Measurement, Verdict, unmeasured
from service.evaluation.significance import p_value_of_loss, sidak, worse_by
from service.profiles.arrays import score_representatives
from service.profiles.binning import Binning
from service.profiles.profile import (
    FeatureProfile,
    Floats,
    Performance,
    PerformanceProfile,
    RegressionProfile,
)

NO_ESTIMATOR = "no_estimator"


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformancePolicy:
    """What is judged, and how strictly.

    ``alpha`` is the rate of false alarms of a window over all ``metrics`` together; ``tolerance``
    the loss that nobody minds: absolute, but a share of the baseline for Brier score, log loss and
    the errors of a regression, and of its mean absolute error for a bias.  ``withheld`` is why no
    verdict may rest on this window's labels.

    Raises
    ------
    ValueError
        If a metric is unknown, or is recorded only.
    """

    alpha: float = 0.01
    metrics: Sequence[str] = ("roc_auc", "accuracy", "recall")
    tolerance: float = 0.01
    min_label_coverage: float = 0.5
    min_rows: int = 100
    withheld: str | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.metrics) - (KNOWN - RECORDED))
        if unknown:
            message = f"unknown metrics: {', '.join(unknown)}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class _Context:
    """What the judgement of one window's metrics has in common."""

    policy: PerformancePolicy
    judged: int
    blocked: str | None
    prefix: str = ""


def judge_performance(
    reference: Performance | None,
    chunks: Sequence[Performance],
    current: Performance,
    rows: int,
    policy: PerformancePolicy,
    edges: Floats | None = None,
    joint: JointScores | None = None,
) -> list[Measurement]:
    """Measure a window's realised performance and compare it with the reference's.

    A metric alerts if it is worse than the baseline by more than the tolerance *and* the
    probability of such a difference without a change is below ``alpha`` (Šidák over the metrics
    judged): by Fisher's exact test for proportions, else by a z-test; of a bias two-sided.

    Parameters
    ----------
    reference
        The labelled reference; ``None`` without one.
    chunks
        The reference in pieces of about the window's length.  Where they disagree significantly,
        their own variance counts in the test.  May be empty.
    current
        The window's labelled rows.
    rows
        All the window's rows, labelled or not; for the label coverage.
    policy
        Which metrics are judged.  The others are recorded with the verdict ``None``.
    edges
        Inner edges of the score histograms, for the metrics that need them.
    joint
        Rows of the reference, for the errors of means over many classes.

    Returns
    -------
    list of Measurement
        ``label_coverage`` and every metric of the task, of a class where it has the ``subject``.
        ``p_value`` is adjusted: compare it with ``alpha``.  ``threshold`` is the baseline less (or
        plus) the tolerance.
    """
    judged = list(dict.fromkeys(policy.metrics))
    now = measure(current, edges=edges, joint=joint)
    before = {} if reference is None else measure(reference, edges=edges, joint=joint)
    pieces = [measure(chunk, judged, edges) for chunk in chunks]
    blocked = withheld(current.labelled, rows, policy)
    context = _Context(policy, sum(name in judged for name, _ in now), blocked)
    measurements = [_coverage(current.labelled, rows, policy)]
    for key, value in now.items():
        parts = [piece[key] for piece in pieces] if key[0] in judged else []
        measurements.append(_judge(key, value, before.get(key), parts, context))
    return measurements


def withheld(labelled: int, rows: int, policy: PerformancePolicy) -> str | None:
    """Return why a window's labels allow no verdict, if they do not."""
    if policy.withheld is not None:
        return policy.withheld
    if labelled < policy.min_rows:
        return "few_rows"
    covered = rows > 0 and labelled / rows >= policy.min_label_coverage
    return None if covered else "label_coverage"


def judge_estimate(
    reference: Performance,
    calibrators: Calibrators | None,
    current: FeatureProfile,
    binning: Binning,
    policy: PerformancePolicy,
    joint: JointScores | None = None,
) -> list[Measurement]:
    """Estimate a window's performance from its scores, and compare it with the reference's.

    Parameters
    ----------
    reference
        The labelled reference, whose realised values are the baseline.
    calibrators
        Fitted on the reference; ``None`` if it had too few labels.
    current
        The window's rows, by prediction and score.
    binning
        Whose score edges both profiles share.
    policy
        As for ``judge_performance``; coverage does not matter here.
    joint
        As for ``judge_performance``, for the baseline.

    Returns
    -------
    list of Measurement
        ``estimated_<metric>`` for AUC, accuracy, precision, recall and F1; with many classes, too,
        balanced accuracy and what there is of each class.  A regression has no scores: its judged
        metrics are listed without a value.
    """
    if isinstance(reference, RegressionProfile):
        return [_not_estimated(name, current.rows) for name in dict.fromkeys(policy.metrics)]
    names = ESTIMATED if isinstance(reference, PerformanceProfile) else ESTIMATED_OVERALL
    before = measure(reference, names, joint=joint)
    rows = scored_rows(current)
    blocked = "few_rows" if rows < policy.min_rows else None
    if calibrators is None:
        missing = MetricValue(None, rows, METHOD, reason="no_calibrator")
        now: Mapping[Key, MetricValue] = {(name, None): missing for name in names}
    else:
        now = estimate_profile(calibrators, current, score_representatives(binning.score_edges))
    judged = sum(name in policy.metrics for name, _ in now)
    context = _Context(policy, judged, blocked, "estimated_")
    return [_judge(key, value, before.get(key), [], context) for key, value in now.items()]


def _not_estimated(name: str, rows: int) -> Measurement:
    direction = direction_of(name)
    return unmeasured(f"estimated_{name}", rows, NO_ESTIMATOR, direction=direction)


def _coverage(labelled: int, rows: int, policy: PerformancePolicy) -> Measurement:
    """Record the label coverage; too few labels are a lack of data, never a loss."""
    share = min(labelled / rows, 1.0) if rows else None
    low, high = (None, None) if share is None else wilson(share, rows)
    short = share is None or share < policy.min_label_coverage
    reason = policy.withheld or ("label_coverage" if short else None)
    return Measurement(
        metric="label_coverage",
        value=share,
        n=rows,
        method="wilson",
        direction=Direction.LOWER_IS_WORSE,
        # Enough labels do not make a window healthy, so that coverage alone is never "ok".
        verdict=Verdict.INSUFFICIENT_DATA if reason else None,
        ci_low=low,
        ci_high=high,
        threshold=policy.min_label_coverage,
        reason="no_rows" if share is None else reason,
    )


def _judge(
    key: Key,
    now: MetricValue,
    before: MetricValue | None,
    chunks: Sequence[MetricValue],
    context: _Context,
) -> Measurement:
    name, subject = key
    policy = context.policy
    baseline = None if before is None else before.value
    threshold = None
    if before is not None and name not in RECORDED:
        threshold = threshold_of(name, before, policy.tolerance, now.value)
    judged = name in policy.metrics
    reason = now.reason or context.blocked or _thin(now, before) if judged else now.reason
    p_value, verdict = None, Verdict.INSUFFICIENT_DATA if judged else None
    if judged and reason is None and before is not None and now.value is not None:
        p_value = sidak(p_value_of_loss(name, now, before, chunks), context.judged)
        worse = is_worse(name, now.value, baseline, threshold)
        verdict = Verdict.ALERT if worse and p_value < policy.alpha else Verdict.OK
    return Measurement(
        metric=context.prefix + name,
        subject=subject,
        value=now.value,
        n=now.n,
        method=now.method,
        direction=direction_of(name),
        verdict=verdict,
        ci_low=now.ci_low,
        ci_high=now.ci_high,
        n_eff=now.n_eff,
        n_reference=None if before is None else before.n,
        reference_value=baseline,
        threshold=threshold,
        p_value=p_value,
        reason=reason,
    )


def _thin(now: MetricValue, before: MetricValue | None) -> str | None:
    """Return why two values cannot be compared, if they cannot."""
    if now.support < FEWEST_IN_DENOMINATOR:
        return "few_in_denominator"
    if before is None:
        return "no_reference"
    if before.value is None or before.support < FEWEST_IN_DENOMINATOR:
        return "reference_insufficient"
    return None


def direction_of(name: str) -> Direction:
    """Return which way a metric gets worse."""
    return Direction(METRIC_SPECS[name].direction)


def is_worse(name: str, now: float | None, before: float | None, threshold: float | None) -> bool:
    """Say whether a value is beyond its threshold; a bias on either side of the baseline."""
    if now is None or before is None or threshold is None:
        return False
    if name in SIGNED:
        return abs(now - before) > abs(threshold - before)
    return worse_by(name, now, threshold) > 0


def threshold_of(
    name: str, before: MetricValue, tolerance: float, now: float | None
) -> float | None:
    """Return the value from which on a loss is more than the tolerance.

    That of a bias is on the side of the baseline where the window's is.
    """
    baseline = before.value
    if baseline is None:
        return None
    if name in SIGNED:
        margin = tolerance * before.scale
        return baseline - margin if now is not None and now < baseline else baseline + margin
    if name in RELATIVE:
        return baseline * (1 + tolerance)
    return baseline + tolerance if name in HIGHER_IS_WORSE else baseline - tolerance
