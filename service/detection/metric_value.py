"""A metric of some rows: its value, its interval, and what a test of it needs."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

# Two-sided 95 %.
Z = 1.959963984540054
FEWEST_IN_DENOMINATOR = 10

WILSON = "wilson"
DELTA = "delta"
DELONG = "delong_logit"
DELTA_ON_LOGIT = "delta_logit"


@dataclass(frozen=True, slots=True)
class MetricValue:
    """A metric of some rows, with what is needed to compare it with another's.

    ``n`` are the rows in the denominator, ``n_eff`` is Kish's for them, ``support`` the rows of the
    smallest group that the metric needs, ``successes`` the rows in a proportion's numerator.
    ``position`` and ``error`` are the value and its standard error on the scale of the test (logit
    for ``ON_LOGIT``, Fisher's for Matthews' coefficient).  ``scale`` is what a tolerance is a share
    of where that is not the value.  ``value`` is ``None`` only together with a ``reason``.
    """

    value: float | None
    n: int
    method: str
    n_eff: float = 0.0
    support: int = 0
    successes: int | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    position: float = 0.0
    error: float = 0.0
    reason: str | None = None
    scale: float = 0.0


def finite(value: MetricValue) -> MetricValue:
    """Return the value, or none with the reason ``not_finite`` where a number overflowed."""
    numbers = (value.value, value.ci_low, value.ci_high, value.n_eff, value.position, value.error)
    if all(number is None or np.isfinite(number) for number in numbers):
        return value
    return MetricValue(None, value.n, value.method, reason="not_finite")


def wilson(value: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a proportion of ``n`` (effective) rows.

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Examples
    --------
    >>> [round(bound, 4) for bound in wilson(0.0, 10)]
    [0.0, 0.2775]
    """
    spread = Z * np.sqrt(value * (1 - value) / n + Z * Z / (4 * n * n))
    middle, scale = value + Z * Z / (2 * n), 1 + Z * Z / n
    low, high = (middle - spread) / scale, (middle + spread) / scale
    return max(float(low), 0.0) if value > 0 else 0.0, min(float(high), 1.0) if value < 1 else 1.0


def on_atanh(value: float, error: float, support: int) -> tuple[float, float]:
    """Return a correlation and its error on Fisher's scale, where its errors are more alike.

    On its own scale it errs 1.8 times as often as it says at n = 100.
    """
    most = 1 - 1 / (2 * max(support, 1))
    held = min(max(value, -most), most)
    return float(np.arctanh(held)), error / (1 - held * held)


def f1_interval(value: float, n: float) -> tuple[float, float]:
    """Return Wilson's interval of the share of hits that F1 stands for, as F1.

    Examples
    --------
    >>> [round(bound, 4) for bound in f1_interval(2 / 3, 10)]  # 5 hits among 10 rows
    [0.3827, 0.8658]
    """
    low, high = wilson(value / (2 - value), n)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def auc_on_logit(
    value: float, variance: float, n: int, n_eff: float, support: int, *, method: str = DELONG
) -> MetricValue:
    """Return an area with its interval on the logit; perfect separation counts half an error."""
    position = value
    if variance <= 0 or not 0 < value < 1:
        margin = 1 / (2 * max(support, 1))
        position = min(max(value, margin), 1 - margin)
        variance = max(variance, position * (1 - position) / max(support, 1))
    error = float(np.sqrt(variance)) / (position * (1 - position))
    center = float(logit(position))
    low, high = float(expit(center - Z * error)), float(expit(center + Z * error))
    low, high = min(low, value), max(high, value)
    return MetricValue(value, n, method, n_eff, support, None, low, high, center, error)
