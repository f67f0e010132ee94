"""How differently a model treats groups: ratios and differences of rates, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.detection.calibration import chi2_tail, pearson_x2
from service.detection.metric_value import Z, wilson


@dataclass(frozen=True, slots=True)
class Rate:
    """A proportion in one group: ``successes`` of ``n`` (effective) rows."""

    successes: float
    n: float

    @property
    def value(self) -> float:
        """Return the proportion; there must be rows."""
        return self.successes / self.n


@dataclass(frozen=True, slots=True)
class Disparity:
    """A ratio or a difference of two groups' rates, with its 95 % interval.

    ``low`` and ``high`` are the groups compared, the one with the lower rate (or the one that is
    measured by the reference group) first.
    """

    value: float
    ci_low: float
    ci_high: float
    low: str
    high: str


def ratio_of_rates(rates: Mapping[str, Rate], reference: str | None = None) -> Disparity | None:
    """Measure the disparate impact: the smallest rate by the largest, or by the reference's.

    Parameters
    ----------
    rates
        By group, at least two, each with rows.
    reference
        The group that others are measured by; ``None``: the one with the largest rate.

    Returns
    -------
    Disparity or None
        In [0, 1] without a reference group; above 1 where every group does better than it.
        ``None`` if the rate to divide by is 0.  The interval is Katz's on the logarithm, with
        half a success where there is none.

    References
    ----------
    D. Katz et al., "Obtaining confidence intervals for the risk ratio in cohort studies", 1978.
    Uniform Guidelines on Employee Selection Procedures, 29 CFR 1607.4 (four-fifths rule).

    Examples
    --------
    >>> found = ratio_of_rates({"a": Rate(80, 100), "b": Rate(40, 100)})
    >>> round(found.value, 2), found.low, found.high
    (0.5, 'b', 'a')
    """
    high = reference or max(rates, key=lambda name: rates[name].value)
    others = [name for name in rates if name != high]
    low = min(others, key=lambda name: rates[name].value)
    above, below = rates[high], rates[low]
    if above.value <= 0:
        return None
    ratio = below.value / above.value
    center = max(below.successes, 0.5) / below.n / above.value
    error = np.sqrt(
        sum(max(1 - rate.value, 0.5 / rate.n) / max(rate.successes, 0.5) for rate in (below, above))
    )
    ends = (center * np.exp(-Z * error), center * np.exp(Z * error))
    return Disparity(ratio, min(float(ends[0]), ratio), max(float(ends[1]), ratio), low, high)


def difference_of_rates(rates: Mapping[str, Rate]) -> Disparity:
    """Measure the largest difference between two groups' rates.

    Parameters
    ----------
    rates
        By group, at least two, each with rows.

    Returns
    -------
    Disparity
        In [0, 1]; the interval is Newcombe's for the two groups with the extreme rates, which were
        chosen by the data: with ten equal groups of 100 rows the difference averages .15.

    References
    ----------
    R. G. Newcombe, "Interval estimation for the difference between independent proportions", 1998.

    Examples
    --------
    >>> found = difference_of_rates({"a": Rate(56, 70), "b": Rate(48, 80)})
    >>> [round(number, 4) for number in (found.value, found.ci_low, found.ci_high)]
    [0.2, 0.0524, 0.3339]
    """
    high = max(rates, key=lambda name: rates[name].value)
    low = min((n for n in rates if n != high), key=lambda name: rates[name].value)
    above, below = rates[high], rates[low]
    difference = above.value - below.value
    (low_above, high_above), (low_below, high_below) = (
        wilson(rate.value, rate.n) for rate in (above, below)
    )
    down = np.hypot(above.value - low_above, high_below - below.value)
    up = np.hypot(high_above - above.value, below.value - low_below)
    return Disparity(
        difference, max(float(difference - down), 0.0), min(float(difference + up), 1.0), low, high
    )


def homogeneity_p_value(rates: Sequence[Rate]) -> float:
    """Return how probable such different rates are in groups that are treated alike.

    Parameters
    ----------
    rates
        At least two groups with rows.

    Returns
    -------
    float
        In [0, 1]: Fisher's exact test, two-sided, for two groups; else the larger p of Pearson's X²
        and the likelihood ratio, on groups by outcome.

    Examples
    --------
    >>> round(homogeneity_p_value([Rate(8, 10), Rate(1, 6)]), 4)  # by hand: 280/8008 = .035
    0.035
    """
    table = np.array([[rate.successes, rate.n - rate.successes] for rate in rates])
    if len(rates) == 2:  # noqa: PLR2004  two groups
        from scipy.stats import fisher_exact

        return float(fisher_exact(np.round(table).astype(np.int64)).pvalue)
    x2, df = pearson_x2(table)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    seen = table > 0
    likelihood = 2 * float((table[seen] * np.log(table[seen] / expected[seen])).sum())
    return chi2_tail(min(x2, likelihood), df)
