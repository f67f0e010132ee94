"""Rows that repeat each other under another id, beyond what their columns make natural."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import gammaln, ndtr

from service.detection.quality import binomial_tail
from service.profiles.contents import KEPT
from service.profiles.profile import Contents

TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Repeats:
    """How many rows of a sample repeat another one.

    ``ratio`` is the share of rows that do at the size of the comparison, ``variance`` that of the
    ratio where contents come in bunches.  ``found`` are the repeating rows that were seen, and
    ``exposure`` in how many rows of a window of that size as many would be.
    """

    ratio: float
    variance: float
    found: int
    exposure: float


def count_repeats(contents: Contents, size: int) -> Repeats:
    """Count the repeating rows among ``size`` of the rows of a sketch.

    More rows repeat each other more often: windows are compared at the size of the smaller one,
    where a content of c rows among N is expected to be there with probability
    1 - C(N - c, size) / C(N, size) (rarefaction).

    Parameters
    ----------
    contents
        The sketch: all contents, or those with the smallest hashes, which are a sample of them.
    size
        Rows to compare at, ``1 .. contents.rows``.

    Returns
    -------
    Repeats
        Of the sampled contents' rows.

    References
    ----------
    S. H. Hurlbert, The nonconcept of species diversity, Ecology 52 (1971).

    Examples
    --------
    >>> sketch = Contents(np.array([1, 2]), np.array([1, 3]), 4)
    >>> count_repeats(sketch, 4).ratio  # 2 contents in 4 rows
    0.5
    >>> round(count_repeats(sketch, 2).ratio, 3)  # both rows of 3 of the 6 pairs are the same
    0.25
    """
    counts, total = contents.counts.astype(np.float64), contents.rows
    expected = counts * (size / total)
    if size >= total:
        present = np.ones(len(counts))
    else:
        left = total - counts
        fits = left >= size
        rest = np.where(fits, left, size)
        absent = np.exp(
            gammaln(rest + 1) - gammaln(rest - size + 1)
            - gammaln(total + 1) + gammaln(total - size + 1)
        )  # fmt: skip
        present = 1 - np.where(fits, absent, 0.0)
    repeats = expected - present
    rows = float(expected.sum())
    if rows <= 0:
        return Repeats(0.0, 0.0, 0, 0.0)
    ratio = max(float(repeats.sum()) / rows, 0.0)
    found = int(contents.counts.sum()) - len(counts)
    spread = repeats - ratio * expected
    bunched = float(spread @ spread) / rows**2 if len(counts) >= KEPT else 0.0
    if found == 0:
        # Each row had total / size times as many others to repeat.
        return Repeats(0.0, 0.0, 0, len(counts) * total / size)
    return Repeats(ratio, max(bunched, ratio**2 / found), found, found / max(ratio, TINY))


def repeats_tail(current: Repeats, reference: Repeats) -> float:
    """Return how probable as many more repeating rows are if both repeat equally often.

    Parameters
    ----------
    current, reference
        Counted at the same size.

    Returns
    -------
    float
        In [0, 1], the larger of two tests: the exact one of two Poisson counts, given their sum,
        and the normal one with the variance of contents that come in bunches.

    Examples
    --------
    >>> repeats_tail(Repeats(0.0, 0.0, 0, 500.0), Repeats(0.0, 0.0, 0, 500.0))
    1.0
    >>> round(repeats_tail(Repeats(0.004, 8e-6, 2, 500.0), Repeats(0.0, 0.0, 0, 500.0)), 6)
    0.25
    """
    difference = current.ratio - reference.ratio
    if difference <= 0:
        return 1.0
    share = current.exposure / (current.exposure + reference.exposure)
    exact = binomial_tail(current.found, current.found + reference.found, share)
    variance = current.variance + reference.variance
    return max(exact, float(ndtr(-difference / sqrt(variance))))


def pool_repeats(parts: Sequence[Repeats]) -> Repeats:
    """Pool the counts of pieces of about one size.

    Examples
    --------
    >>> pool_repeats([Repeats(0.1, 1e-3, 10, 100.0), Repeats(0.0, 0.0, 0, 100.0)]).ratio
    0.05
    """
    found, exposure = sum(p.found for p in parts), sum(p.exposure for p in parts)
    if not exposure:
        return Repeats(0.0, 0.0, 0, 0.0)
    bunched = sum(p.variance * p.exposure**2 for p in parts) / exposure**2
    return Repeats(found / exposure, bunched, found, exposure)
