"""Performance of a regression model, with intervals, from a mergeable profile."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from service.detection.metric_value import DELTA, MetricValue, Z, finite
from service.profiles.profile import REGRESSION_SUMS, RegressionProfile

NEGATIVE_VALUES = "negative_values"
ZERO_LABELS = "zero_labels"
CONSTANT_LABELS = "constant_labels"

Sums = Mapping[str, float]


def measure_regression(
    profile: RegressionProfile, names: Sequence[str] | None = None
) -> dict[str, MetricValue]:
    """Compute metrics with 95 % intervals.

    Parameters
    ----------
    profile
        Labelled rows.  None at all is allowed: every value is then ``None`` with a reason.
    names
        Which of ``REGRESSION_METRICS``; all by default.

    Returns
    -------
    dict
        By name.  Values are weighted; intervals come from the delta method on the rows' own errors,
        with Kish's effective size.  ``mean_error`` is prediction less label.  ``rmsle`` is ``None``
        once a label or prediction is -1 or less; ``mape`` is of the rows whose label is not 0,
        which ``n`` counts.  Numbers that overflow are ``None`` with the reason ``not_finite``.

    Raises
    ------
    KeyError
        If a name is none of ``REGRESSION_METRICS``.

    References
    ----------
    A. W. van der Vaart, "Asymptotic Statistics", 1998, chapter 3.  L. Kish, "Survey Sampling",
    1965.
    """
    sums = dict(zip(REGRESSION_SUMS, profile.sums.tolist(), strict=True))
    chosen = REGRESSION_METRICS if names is None else names
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = {}
        for name in chosen:
            measure = REGRESSION_METRICS[name]
            if not sums["w"] > 0:
                found[name] = MetricValue(None, profile.labelled, DELTA, reason="no_rows")
            else:
                found[name] = finite(measure(profile, sums))
        return found


def _mean(
    first: float, second: float, n: int, sizes: tuple[float, float], *, low: float = 0.0
) -> MetricValue:
    """Return a weighted mean of row values from Σw·x and Σw·x²; ``sizes`` are Σw and Σw²."""
    weight, squares = sizes
    value = np.float64(first) / weight
    n_eff = float(np.float64(weight) * weight / squares)
    variance = max(np.float64(second) / weight - value * value, 0.0)
    error = float(np.sqrt(variance / max(n_eff, 1.0)))
    lower, upper = max(float(value) - Z * error, low), float(value) + Z * error
    return MetricValue(float(value), n, DELTA, n_eff, n, None, lower, upper, float(value), error)


def _root(mean: MetricValue) -> MetricValue:
    """Return the root of a mean of squares; its error by the derivative."""
    if mean.value is None:
        return mean
    value = float(np.sqrt(mean.value))
    error = mean.error / (2 * value) if value > 0 else 0.0
    low, high = max(value - Z * error, 0.0), value + Z * error
    return MetricValue(
        value, mean.n, DELTA, mean.n_eff, mean.support, None, low, high, value, error
    )


def _mean_error(profile: RegressionProfile, sums: Sums) -> MetricValue:
    sizes = sums["w"], sums["ww"]
    found = _mean(sums["e"], sums["e2"], profile.labelled, sizes, low=-np.inf)
    return replace(found, scale=float(np.float64(sums["abs_e"]) / sums["w"]))


def _mae(profile: RegressionProfile, sums: Sums) -> MetricValue:
    return _mean(sums["abs_e"], sums["e2"], profile.labelled, (sums["w"], sums["ww"]))


def _rmse(profile: RegressionProfile, sums: Sums) -> MetricValue:
    return _root(_mean(sums["e2"], sums["e4"], profile.labelled, (sums["w"], sums["ww"])))


def _rmsle(profile: RegressionProfile, sums: Sums) -> MetricValue:
    if profile.outside_log:
        return MetricValue(None, profile.labelled, DELTA, reason=NEGATIVE_VALUES)
    return _root(_mean(sums["l2"], sums["l4"], profile.labelled, (sums["w"], sums["ww"])))


def _mape(profile: RegressionProfile, sums: Sums) -> MetricValue:
    n = profile.labelled - profile.zero_labels
    if not sums["relative_w"] > 0:
        return MetricValue(None, n, DELTA, reason=ZERO_LABELS)
    return _mean(sums["r"], sums["r2"], n, (sums["relative_w"], sums["relative_ww"]))


def _r2(profile: RegressionProfile, sums: Sums) -> MetricValue:
    """Return 1 - E/V, E the mean squared error and V the labels' variance.

    A row of error e and centred label d adds (E·d²/V - e²)/V to it, to first order.
    """
    n, weight = profile.labelled, np.float64(sums["w"])
    u, u2, u3, u4 = (np.float64(sums[name]) / weight for name in ("u", "u2", "u3", "u4"))
    spread = u2 - u * u
    # What rounding leaves of labels that are all alike is no variance.
    if not spread > u2 * ROUNDING:
        return MetricValue(None, n, DELTA, reason=CONSTANT_LABELS)
    e2, e4, e2u, e2u2 = (np.float64(sums[name]) / weight for name in ("e2", "e4", "e2u", "e2u2"))
    d4 = u4 - 4 * u * u3 + 6 * u * u * u2 - 3 * u**4
    e2d2 = e2u2 - 2 * u * e2u + u * u * e2
    share = e2 / spread
    variance = (e4 - 2 * share * e2d2 + share * share * d4) / (spread * spread)
    n_eff = float(weight * weight / sums["ww"])
    value, error = float(1 - share), float(np.sqrt(max(variance, 0.0) / max(n_eff, 1.0)))
    low, high = value - Z * error, min(value + Z * error, 1.0)
    return MetricValue(value, n, DELTA, n_eff, n, None, low, high, value, error)


ROUNDING = 1e-12
REGRESSION_METRICS: Mapping[str, Callable[[RegressionProfile, Sums], MetricValue]] = (
    MappingProxyType(
        {
            "mae": _mae,
            "rmse": _rmse,
            "rmsle": _rmsle,
            "mape": _mape,
            "r2": _r2,
            "mean_error": _mean_error,
        }
    )
)
# Their tolerance is a share of the baseline.
ERRORS = frozenset({"mae", "rmse", "rmsle", "mape"})
