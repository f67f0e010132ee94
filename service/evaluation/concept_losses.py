"""Verdicts on whether a regression errs as its reference did on such rows: P(label | features)."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from scipy.special import ndtr

from service.detection.direct_loss import LOSSES
from service.detection.expected_loss import LossSurprise, measure_loss_surprises
from service.detection.metric_value import Z
from service.evaluation.concept import BETTER_THAN_PROMISED, CONCEPT_DRIFT, LESS_THAN_PROMISED
from service.evaluation.direct_loss import Fitted
from service.evaluation.measurement import Direction, Measurement, Verdict, unmeasured
from service.evaluation.performance import PerformancePolicy, withheld
from service.evaluation.significance import sidak
from service.profiles.arrays import LABEL, find_floats
from service.profiles.columns import Column

PAIRED = "dle_paired"
# What a failure of the whole step is recorded as.
STEP = f"{CONCEPT_DRIFT}errors"


def judge_loss_surprises(
    reference: pa.Table,
    rows: pa.Table,
    columns: Sequence[Column],
    policy: PerformancePolicy,
    fitted: Fitted | None = None,
) -> list[Measurement]:
    """Compare a regression's errors with those that were expected of the very same rows.

    A metric alerts if it is above what was expected by more than the tolerance (a share of the
    reference's) *and* the one-sided probability of that, if rows still err as those of the
    reference did, is below ``alpha`` (Šidák over the metrics).  Harder rows are expected to err
    more, so that input that merely moves is no surprise; but a shift to where the reference had few
    rows can touch the expectation.

    Parameters
    ----------
    reference
        The labelled reference or a sample of it: ``label``, ``prediction``, features, ``weight``.
    rows
        The window's rows or a sample of them, under the same names.
    columns
        The features.
    policy
        Which metrics are judged: those that ``LOSSES`` knows have an expectation.
    fitted
        Keeps what was fitted on the reference.

    Returns
    -------
    list of Measurement
        ``concept_drift_<metric>``: realised less expected value as a share of the reference's, with
        a 95 % interval of what else than chance it may be.
    """
    names = [name for name in dict.fromkeys(policy.metrics) if name in LOSSES]
    labelled = int(np.count_nonzero(np.isfinite(find_floats(rows, LABEL))))
    blocked = withheld(labelled, rows.num_rows, policy)
    if blocked is not None:
        return [_nothing(name, labelled, blocked) for name in names]
    found = measure_loss_surprises((fitted or Fitted()).get(reference, columns, names), rows)
    return [
        _nothing(name, labelled, one)
        if isinstance(one, str)
        else _judge(name, one, policy, len(names))
        for name, one in found.items()
    ]


def _judge(name: str, found: LossSurprise, policy: PerformancePolicy, tests: int) -> Measurement:
    if found.n < policy.min_rows:
        return _nothing(name, found.n, "few_rows")
    p_value = sidak(float(ndtr(-found.z)), tests)
    verdict, reason = Verdict.OK, None
    if found.value > policy.tolerance and p_value < policy.alpha:
        verdict, reason = Verdict.ALERT, LESS_THAN_PROMISED
    elif found.value < -policy.tolerance and sidak(float(ndtr(found.z)), tests) < policy.alpha:
        reason = BETTER_THAN_PROMISED
    return Measurement(
        metric=CONCEPT_DRIFT + name,
        value=found.value,
        n=found.n,
        n_eff=found.n_eff,
        method=PAIRED,
        direction=Direction.HIGHER_IS_WORSE,
        verdict=verdict,
        ci_low=found.value - Z * found.error,
        ci_high=found.value + Z * found.error,
        reference_value=0.0,
        threshold=policy.tolerance,
        p_value=p_value,
        reason=reason,
    )


def _nothing(name: str, n: int, reason: str) -> Measurement:
    return unmeasured(CONCEPT_DRIFT + name, n, reason, method=PAIRED)
