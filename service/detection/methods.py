"""The registry of drift methods: each score with what one must know to judge it a year later."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from service.detection.distances import hellinger_distance, total_variation_distance
from service.detection.drift import (
    Floats,
    jensen_shannon_distance,
    population_stability_index,
)
from service.detection.ordered import kolmogorov_smirnov_distance, wasserstein_distance

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One column of one window under its bins.

    ``rows`` are rows per bin, shape ``(n_bins,)``.  ``sums`` is Σx in the same shape for numeric
    columns, ``None`` otherwise; ``deviation`` is the standard deviation of all values, 0 where
    there is none to measure by.
    """

    rows: Counts
    sums: Floats | None = None
    deviation: float = 0.0

    @property
    def places(self) -> Floats:
        """Return the mean value of each bin, 0 where it has no row, shape ``(n_bins,)``."""
        nothing = np.zeros(len(self.rows))
        if self.sums is None:
            return nothing
        return np.divide(self.sums, self.rows, out=nothing, where=self.rows > 0)

    def take(self, order: NDArray[np.intp]) -> "Sample":
        """Return the sample with its bins in another order."""
        sums = None if self.sums is None else self.sums[order]
        return Sample(self.rows[order], sums, self.deviation)


Score = Callable[[Sample, Sample], float]


@dataclass(frozen=True, slots=True)
class DriftMethod:
    """A score of drift with what one must know to judge it a year later.

    ``score`` takes reference and current.  An ``ordered`` method takes all bins of a numeric column
    in the order of their values; any other the groups that the test compares, which have no order.
    ``lower`` and ``upper`` bound the score (``None``: unbounded).  ``direction`` is one of
    ``evaluation``'s values.

    ``exponent`` and ``scale`` tie it to the statistic of the test: the score is at most about
    ``(scale · X² · (1/n_reference + 1/n_current)) ** exponent`` for small changes, and this much
    for the change that the method sees best: any change for ``jensen_shannon``, ``psi`` and
    ``hellinger``, one by the same factor on either side of the median for ``total_variation``
    and ``ks`` (Cauchy-Schwarz), one of the level for ``wasserstein`` (its dual: no 1-Lipschitz
    function varies more than the values themselves).

    ``laws`` names the properties that the tests check; no method joins the registry without.
    """

    name: str
    score: Score
    direction: str
    lower: float
    upper: float | None
    default_min_effect: float
    exponent: float
    scale: float
    laws: tuple[str, ...]
    ordered: bool = False


def _of_rows(score: Callable[[Floats, Floats], float]) -> Score:
    def of_samples(reference: Sample, current: Sample) -> float:
        return score(reference.rows.astype(np.float64), current.rows.astype(np.float64))

    return of_samples


def _wasserstein(reference: Sample, current: Sample) -> float:
    rows = reference.rows.astype(np.float64), current.rows.astype(np.float64)
    places = reference.places, current.places
    return wasserstein_distance(*rows, places, reference.deviation)


EQUAL = "equal proportions score the lower bound"
RANGE = "the score stays in its range"
SWAP = "the two windows may change places"
ORDER = "the order of the bins does not matter"
MERGE = "merging two bins never raises the score"
MERGE_NEIGHBOURS = "merging two neighbouring bins never raises the score"
DISJOINT = "disjoint windows score the upper bound"
ABOVE = "a window above the other scores the upper bound"
REVERSE = "the order of the bins may be reversed"
SHIFT = "a shift of all values scores its size in standard deviations"
UNIT = "the unit of the values does not matter"

METHODS: Mapping[str, DriftMethod] = MappingProxyType(
    {
        method.name: method
        for method in (
            DriftMethod(
                name="jensen_shannon",
                score=_of_rows(jensen_shannon_distance),
                direction="higher_is_worse",
                lower=0.0,
                upper=1.0,
                default_min_effect=0.1,
                exponent=0.5,
                scale=1 / (8 * log(2)),
                laws=(EQUAL, RANGE, SWAP, ORDER, MERGE, DISJOINT),
            ),
            DriftMethod(
                name="psi",
                score=_of_rows(population_stability_index),
                direction="higher_is_worse",
                lower=0.0,
                upper=None,
                default_min_effect=0.1,
                exponent=1.0,
                scale=1.0,
                # Merging bins can raise it: fewer bins have fewer pseudo-rows.
                laws=(EQUAL, RANGE, SWAP, ORDER),
            ),
            DriftMethod(
                name="total_variation",
                score=_of_rows(total_variation_distance),
                direction="higher_is_worse",
                lower=0.0,
                upper=1.0,
                default_min_effect=0.1,
                exponent=0.5,
                scale=1 / 4,
                laws=(EQUAL, RANGE, SWAP, ORDER, MERGE, DISJOINT),
            ),
            DriftMethod(
                name="hellinger",
                score=_of_rows(hellinger_distance),
                direction="higher_is_worse",
                lower=0.0,
                upper=1.0,
                default_min_effect=0.1,
                exponent=0.5,
                scale=1 / 8,
                laws=(EQUAL, RANGE, SWAP, ORDER, MERGE, DISJOINT),
            ),
            DriftMethod(
                name="ks",
                score=_of_rows(kolmogorov_smirnov_distance),
                direction="higher_is_worse",
                lower=0.0,
                upper=1.0,
                default_min_effect=0.1,
                exponent=0.5,
                scale=1 / 4,
                laws=(EQUAL, RANGE, SWAP, REVERSE, MERGE_NEIGHBOURS, ABOVE),
                ordered=True,
            ),
            DriftMethod(
                name="wasserstein",
                score=_wasserstein,
                direction="higher_is_worse",
                lower=0.0,
                upper=None,
                # A shift of a normal column by .24 sd is a jensen_shannon of .1.
                default_min_effect=0.2,
                exponent=0.5,
                scale=1.0,
                laws=(EQUAL, RANGE, REVERSE, SHIFT, UNIT),
                ordered=True,
            ),
        )
    }
)

# What is left of both where values have no order, and of a distance without a unit: with the same
# distance between any two categories, Wasserstein's is the total variation.
FALLBACK = METHODS["total_variation"]


def usable_method(method: DriftMethod, *, numeric: bool, deviation: float) -> DriftMethod:
    """Return the method itself, or ``total_variation`` where the column cannot have it.

    Parameters
    ----------
    method
        The one that was asked for.
    numeric
        Whether the column's values have an order; ``ks`` and ``wasserstein`` need one.
    deviation
        The reference's standard deviation; ``wasserstein`` needs one above 0.

    Examples
    --------
    >>> usable_method(METHODS["ks"], numeric=False, deviation=0.0).name
    'total_variation'
    """
    if method.ordered and not numeric:
        return FALLBACK
    if method.name == "wasserstein" and not deviation > 0:
        return FALLBACK
    return method
