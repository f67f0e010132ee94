"""Verdicts on a regression's errors before there are labels: it needs rows, not a profile."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import pyarrow as pa
from scipy.special import ndtr

from service.detection.direct_loss import LOSSES, DirectLoss, fit_direct_loss
from service.detection.expected_loss import METHOD, LossEstimate, estimate_losses
from service.evaluation.measurement import Direction, Measurement, Verdict, unmeasured
from service.evaluation.performance import PerformancePolicy
from service.evaluation.significance import sidak
from service.profiles.arrays import LABEL, PREDICTION, find_array
from service.profiles.columns import Column

ESTIMATED = "estimated_"
# What a failure of the whole step is recorded as.
STEP = "estimated_errors"
KEPT = 4


class Fitted:
    """The last few references' models: one is fitted in seconds, and judges many windows."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, DirectLoss] = OrderedDict()

    def get(
        self, reference: pa.Table, columns: Sequence[Column], names: Sequence[str]
    ) -> DirectLoss:
        """Return the models of a reference."""
        key = _digest(reference, columns, names)
        if key not in self._kept:
            self._kept[key] = fit_direct_loss(reference, columns, names)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def _digest(reference: pa.Table, columns: Sequence[Column], names: Sequence[str]) -> bytes:
    digest = hashlib.blake2b(repr((columns, names, reference.schema.names)).encode())
    for name in (LABEL, PREDICTION, *(column.name for column in columns)):
        array = find_array(reference, name)
        for buffer in () if array is None else array.buffers():
            digest.update(b"" if buffer is None else buffer)
    return digest.digest()


def judge_direct_loss(
    reference: pa.Table,
    rows: pa.Table,
    columns: Sequence[Column],
    policy: PerformancePolicy,
    fitted: Fitted | None = None,
) -> list[Measurement]:
    """Estimate a regression's errors without labels, and compare them with the reference's.

    A metric alerts if it is above the reference's by more than the tolerance (a share of it) *and*
    the one-sided probability of that without a change is below ``alpha`` (Šidák over the metrics).

    Parameters
    ----------
    reference
        The labelled reference or a sample of it: ``label``, ``prediction``, features, ``weight``.
    rows
        The window's rows or a sample of them, under the same names; labels are not looked at.
    columns
        The features.
    policy
        Which metrics are judged: those that ``LOSSES`` knows have an estimate.
    fitted
        Keeps what was fitted on the reference.

    Returns
    -------
    list of Measurement
        ``estimated_<metric>`` of the judged metrics.
    """
    names = [name for name in dict.fromkeys(policy.metrics) if name in LOSSES]
    if rows.num_rows < policy.min_rows:
        return [_nothing(name, rows.num_rows, "few_rows") for name in names]
    found = estimate_losses((fitted or Fitted()).get(reference, columns, names), rows)
    return [
        _nothing(name, rows.num_rows, estimated)
        if isinstance(estimated, str)
        else _judge(name, estimated, policy, len(names))
        for name, estimated in found.items()
    ]


def _judge(name: str, found: LossEstimate, policy: PerformancePolicy, tests: int) -> Measurement:
    value = found.value
    threshold = found.baseline * (1 + policy.tolerance)
    p_value = sidak(float(ndtr(-found.z)), tests)
    worse = value.value is not None and value.value > threshold
    return Measurement(
        metric=ESTIMATED + name,
        value=value.value,
        n=value.n,
        n_eff=value.n_eff,
        method=METHOD,
        engine="rows",
        direction=Direction.HIGHER_IS_WORSE,
        verdict=Verdict.ALERT if worse and p_value < policy.alpha else Verdict.OK,
        ci_low=value.ci_low,
        ci_high=value.ci_high,
        reference_value=found.baseline,
        threshold=threshold,
        p_value=p_value,
    )


def _nothing(name: str, n: int, reason: str) -> Measurement:
    return unmeasured(ESTIMATED + name, n, reason, method=METHOD, engine="rows")
