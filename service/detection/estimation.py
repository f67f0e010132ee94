"""Performance without labels: confidence-based estimation (CBPE) for a binary classifier."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.detection.calibrator import Calibrator
from service.detection.expectation import ESTIMATED, expect, expected_values
from service.detection.metric_value import MetricValue, Z, auc_on_logit
from service.profiles.profile import Counts, Floats

METHOD = "cbpe"


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """A metric of rows whose labels are not known, or not looked at.

    ``value`` is without the calibrator's optimism, and may lie outside of a metric's range.
    ``labels`` is the variance of the value that the labels will show, given the scores, ``third``
    its third central moment and ``jump`` by how much a label typically changes it; ``sample``, the
    variance of labels and scores together.  ``replicas`` are the estimates of the calibrator's
    bootstrap replicates, shape ``(b,)``, NaN where there is none.  ``support`` is the expected
    number of rows of the smallest group that the metric needs.
    """

    value: float
    labels: float
    third: float
    jump: float
    sample: float
    replicas: Floats
    support: float

    @property
    def fit(self) -> float:
        """Return the variance that the calibrator's own sample causes."""
        known = self.replicas[np.isfinite(self.replicas)]
        return float(known.var(ddof=1)) if len(known) > 1 else 0.0


def estimate(
    calibrator: Calibrator,
    weights: Floats,
    representatives: Floats,
    n_eff: float,
    names: Sequence[str] = ESTIMATED,
) -> dict[str, Estimate | str]:
    """Estimate metrics of rows by what their scores say.

    Parameters
    ----------
    calibrator
        Fitted on the reference.
    weights
        Σw by predicted class (negative, positive) and score bin, shape ``(2, n_bins)``.
    representatives
        The score that stands for each bin, shape ``(n_bins,)``.
    n_eff
        The rows' effective number (Kish).
    names
        Of ``ESTIMATED``, or ``HITS``.

    Returns
    -------
    dict of str to Estimate or str
        By name; the reason where there is no estimate.
    """
    probabilities = calibrator.calibrate(representatives)
    replicas = [
        expected_values(weights, np.interp(representatives, calibrator.scores, replicate), names)
        for replicate in calibrator.replicates
    ]
    # What one row weighs, as far as the noise is concerned.
    unit = float(weights.sum()) / n_eff
    doubt = weights * probabilities * (1 - probabilities)
    found: dict[str, Estimate | str] = {}
    for name in names:
        expected = expect(name, weights, probabilities)
        if isinstance(expected, str):
            found[name] = expected
            continue
        hit, miss = expected.hit, expected.miss
        jumps = unit * (hit - miss)
        labels = float((doubt * jumps**2).sum()) / unit
        absolute = float((doubt * np.abs(jumps) ** 3).sum()) / unit
        sample = weights * (probabilities * hit**2 + (1 - probabilities) * miss**2)
        found[name] = Estimate(
            value=expected.value - calibrator.optimism.get(name, 0.0),
            labels=labels,
            third=float((doubt * (1 - 2 * probabilities) * jumps**3).sum()) / unit,
            jump=absolute / labels if labels > 0 else 0.0,
            sample=unit * float(sample.sum()),
            replicas=np.array([replica.get(name, np.nan) for replica in replicas]),
            support=expected.support / unit,
        )
    return found


def estimate_performance(
    calibrator: Calibrator,
    counts: Counts,
    weights: Floats,
    representatives: Floats,
    squares: float | None = None,
) -> dict[str, MetricValue]:
    """Estimate the metrics of rows without labels, assuming that P(y | score) has not changed.

    Parameters
    ----------
    calibrator
        Fitted on the reference.
    counts, weights
        Rows and Σw by predicted class (negative, positive) and score bin, shape ``(2, n_bins)``.
    representatives
        The score that stands for each bin, shape ``(n_bins,)``.
    squares
        Σw² over the rows; equal weights by default.

    Returns
    -------
    dict
        By name in ``ESTIMATED``.  The interval (95 %) is for the value that the labels will show:
        the labels' noise and the calibrator's (bootstrap).  ``error`` is for comparing with another
        sample of rows: it holds the noise of the scores as well.
    """
    rows, weight = int(counts.sum()), float(weights.sum())
    if not rows or not weight > 0:
        return {name: MetricValue(None, 0, METHOD, reason="no_scores") for name in ESTIMATED}
    n_eff = float(rows) if squares is None or squares <= 0 else weight * weight / squares
    # Only their proportions matter, and squares of very small ones would vanish.
    found = estimate(calibrator, weights * (rows / weight), representatives, n_eff)
    return {name: to_value(name, estimated, rows, n_eff) for name, estimated in found.items()}


def to_value(name: str, estimated: Estimate | str, rows: int, n_eff: float) -> MetricValue:
    """Return an estimate with its interval, and with its error for comparing it."""
    if isinstance(estimated, str):
        return MetricValue(None, rows, METHOD, reason=estimated)
    value = min(max(estimated.value, 0.0), 1.0)
    fit = estimated.fit
    unseen, total = estimated.labels + fit, estimated.sample + fit
    support = round(estimated.support * rows / n_eff)
    if name == "roc_auc":
        interval = auc_on_logit(value, unseen, rows, n_eff, support)
        test = auc_on_logit(value, total, rows, n_eff, support)
        low, high, position, error = interval.ci_low, interval.ci_high, test.position, test.error
    else:
        spread = Z * float(np.sqrt(unseen))
        low, high = max(value - spread, 0.0), min(value + spread, 1.0)
        position, error = value, float(np.sqrt(total))
    return MetricValue(value, rows, METHOD, n_eff, support, None, low, high, position, error)
