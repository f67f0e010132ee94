"""Numbers in another unit: the same values multiplied, or moved, by one amount."""

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

from service.profiles.binning import NumericBins
from service.profiles.profile import ColumnProfile

Floats = NDArray[np.float64]

# Where no value is negative a unit is natural; elsewhere a factor is only another spread.
SMALLEST_FACTOR = 1.5
SMALLEST_FACTOR_AROUND_ZERO = 2.5
# In standard deviations of the reference.
SMALLEST_MOVE = 3.0
# How far the spread may be from what the factor makes of it, as a logarithm.
AGREEMENT = 0.22
# How near the distribution must be once the change is undone: three times as near as before.
NEARER = 3.0
# The distribution between two edges is a straight line; it is wrong by no more than this.
INTERPOLATION = 0.02
# Kolmogorov and Smirnov's statistic at a level of 5 %.
KS_5_PERCENT = 1.36
# What fits no better, fits in small windows only because anything does.
FARTHEST = 0.1
# A column of few whole numbers has no shape to recognise.
FEWEST_EDGES = 5
# How far the factor may be from what the mean squares say, as a logarithm.
REACH = 0.2
TRIED = np.exp(np.linspace(-REACH, REACH, 41))


@dataclass(frozen=True, slots=True)
class UnitChange:
    """By how much the values look multiplied, or moved; the other is 1, or 0."""

    factor: float
    move: float

    @property
    def sentence(self) -> str:
        """Return what to tell about it."""
        if self.move:
            return f"values look moved by {self.move:.3g}"
        return f"values look multiplied by {self.factor:.3g}"


def find_unit_change(
    bins: NumericBins, before: ColumnProfile, after: ColumnProfile
) -> UnitChange | None:
    """Find the one factor, or the one move, that turns the reference's values into the window's.

    Ordinary drift changes the shape, or the level without the spread.  Another unit multiplies
    both by one factor, far from 1, and leaves the shape alone: undoing it makes the distributions
    agree as well as chance allows.

    Parameters
    ----------
    bins
        The edges, frozen on the reference.
    before, after
        The column in the reference and in the window.

    Returns
    -------
    UnitChange or None
        A factor of at least 1.5 (2.5 where values have both signs) or at most its inverse, or a
        move of at least three standard deviations.  ``None`` where neither fits, a side is
        constant, or the column has too few values to have a shape.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from service.profiles.build import profile_features
    >>> from service.profiles.columns import Classes, Column, Kind
    >>> from service.profiles.freeze import freeze_binning
    >>> feet, columns = np.linspace(4, 30, 500), [Column("x", Kind.NUMERIC)]
    >>> binning = freeze_binning(pa.table({"x": feet}), columns, Classes("0", "1"))
    >>> old, new = (
    ...     profile_features(pa.table({"x": x}), columns, binning).columns["x"]
    ...     for x in (feet, feet * 0.3048)
    ... )
    >>> find_unit_change(binning.columns["x"], old, new).sentence
    'values look multiplied by 0.305'
    """
    if (
        min(before.n, after.n) == 0
        or min(before.m2, after.m2) <= 0
        or len(bins.edges) < FEWEST_EDGES
    ):
        return None
    spread = sqrt(after.m2 / after.n) / sqrt(before.m2 / before.n)
    shares = _shares_below(bins, after)
    chance = KS_5_PERCENT * sqrt(1 / before.n + 1 / after.n) + INTERPOLATION
    unchanged = _distance(bins, before, shares, bins.edges)
    limit = min(chance, FARTHEST, unchanged / NEARER)
    move = after.mean - before.mean
    if abs(move) >= SMALLEST_MOVE * sqrt(before.m2 / before.n) and abs(log(spread)) <= AGREEMENT:
        near = _distance(bins, before, shares, bins.edges - move) <= limit
        return UnitChange(1.0, move) if near else None
    factor = _find_factor(bins, before, after, shares, limit)
    if factor is None or abs(log(spread / factor)) > AGREEMENT:
        return None
    return UnitChange(factor, 0.0)


def _find_factor(
    bins: NumericBins, before: ColumnProfile, after: ColumnProfile, shares: Floats, limit: float
) -> float | None:
    """Find a factor, far enough from 1, that brings the distributions as near as the limit."""
    rough = sqrt(_mean_square(after) / _mean_square(before))
    positive = before.minimum is not None and before.minimum >= 0
    least = log(SMALLEST_FACTOR if positive else SMALLEST_FACTOR_AROUND_ZERO)
    if abs(log(rough)) < least - REACH:
        return None
    factors = rough * TRIED
    distances = np.array([_distance(bins, before, shares, bins.edges / f) for f in factors])
    # Where the two hardly overlap, every factor around fits as well but for a row or two.
    fitting = factors[distances <= distances.min() + 1 / sqrt(after.n)]
    factor = float(fitting[np.argmin(np.abs(np.log(fitting / rough)))])
    off = abs(after.mean - factor * before.mean)
    # A mean of the other sign would be a change of sign, too.
    if abs(log(factor)) < least or off > AGREEMENT * sqrt(_mean_square(after)):
        return None
    return factor if float(distances.min()) <= limit else None


def _mean_square(column: ColumnProfile) -> float:
    return column.m2 / column.n + column.mean**2


def _shares_below(bins: NumericBins, column: ColumnProfile) -> Floats:
    """Return the share of the rows below each edge: what the profile knows without a guess."""
    fine = len(bins.edges) - 1
    below = np.cumsum(column.counts[: fine + 1])
    atoms = np.append(0, np.cumsum(column.counts[fine + 2 :]))
    lower = atoms[np.searchsorted(bins.atoms, bins.edges)]
    shares: Floats = (below + lower) / column.n
    return shares


def _distance(bins: NumericBins, reference: ColumnProfile, shares: Floats, places: Floats) -> float:
    """Return how far the shares are from the reference's below the places, at most."""
    fine = len(bins.edges) - 1
    known = np.cumsum(reference.counts[: fine + 1]).astype(np.float64)
    below = np.interp(places, bins.edges, known, left=0.0)
    below[places > bins.edges[-1]] += reference.counts[fine + 1]
    atoms = np.append(0, np.cumsum(reference.counts[fine + 2 :]))
    expected = (below + atoms[np.searchsorted(bins.atoms, places)]) / reference.n
    return float(np.abs(shares - expected).max())
