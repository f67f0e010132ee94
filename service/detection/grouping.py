"""Which bins of a column are compared as one, decided by the sizes of the windows alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.profiles.binning import CategoricalBins, NumericBins

Counts = NDArray[np.int64]

ROWS_PER_GROUP = 20
FEWEST_GROUPS = 4
MOST_GROUPS = 32
SMALLEST_SHARE = 0.005
ROWS_PER_CATEGORY = 10


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """The group of each bin, shape ``(n_bins,)``, and how many groups there are.

    ``floor`` is the share below which categories share a cell; 0 for numeric columns.
    """

    groups: NDArray[np.intp]
    n_groups: int
    floor: float

    def apply(self, counts: Counts) -> Counts:
        """Return the rows per group, shape ``(..., n_groups)``, of counts ``(..., n_bins)``."""
        onehot = np.zeros((len(self.groups), self.n_groups))
        onehot[np.arange(len(self.groups)), self.groups] = 1
        # Rows fit a float64 exactly, and its matrix product is many times faster than int64's.
        return np.rint(counts @ onehot).astype(np.int64)


def group_count(n_reference: int, n_current: int) -> int:
    """Return the number of quantile groups for windows of these sizes: a power of two, 4 to 32.

    Parameters
    ----------
    n_reference, n_current
        Rows with a value, each ``>= 0``.

    Returns
    -------
    int
        ``2 ** floor(log2(min(n) / 20))`` within 4 and 32: at least 20 expected rows in each group.

    Examples
    --------
    >>> [group_count(5000, n) for n in (10, 100, 320, 1000, 1_000_000)]
    [4, 4, 16, 32, 32]
    """
    per_group = max(min(n_reference, n_current) // ROWS_PER_GROUP, 1)
    return int(min(max(2 ** (per_group.bit_length() - 1), FEWEST_GROUPS), MOST_GROUPS))


def group_numeric(bins: NumericBins, reference: Counts, n_current: int) -> Grouping:
    """Group numeric bins into quantile groups and heavy atoms.

    An atom of at least ``1 / B`` of the reference stays alone.  The other atoms stand among the
    fine bins where their value lies, below and above at the ends, and this row of cells is cut
    into groups of about ``1 / B`` of the reference each.

    Parameters
    ----------
    bins
        Edges and atoms, frozen from a reference.
    reference
        Rows per bin of the reference, shape ``(n_bins,)``.
    n_current
        Rows with a value in the current window.  Its counts are not looked at: merging sparse
        bins by them selects on the window (22 % false alarms at n = 320).

    Returns
    -------
    Grouping
        The group of each bin.

    Examples
    --------
    >>> import numpy as np
    >>> bins = NumericBins(np.arange(5.0), np.array([0.0]), 0.0, 4.0)
    >>> group_numeric(bins, np.array([0, 25, 25, 25, 25, 0, 100]), 100).groups
    array([1, 1, 1, 2, 2, 2, 0])
    """
    total = max(int(reference.sum()), 1)
    wanted = group_count(int(reference.sum()), n_current)
    n_fine = max(len(bins.edges) - 1, 0)
    first_atom = n_fine + 2
    heavy = first_atom + np.flatnonzero(reference[first_atom:] * wanted >= total)
    groups = np.zeros(bins.n_bins, dtype=np.intp)
    groups[heavy] = np.arange(len(heavy))
    position = np.concatenate(
        ([-np.inf], (bins.edges[:-1] + bins.edges[1:]) / 2, [np.inf], bins.atoms)
    )
    loose = np.ones(bins.n_bins, dtype=bool)
    loose[heavy] = False
    order = np.flatnonzero(loose)
    order = order[np.argsort(position[order], kind="stable")]
    mass = reference[order].astype(np.float64)
    n_loose = max(int(mass.sum() * wanted / total + 1e-9), 1)
    middle = (np.cumsum(mass) - mass / 2) / max(mass.sum(), 1)
    cut = np.minimum((middle * n_loose).astype(np.intp), n_loose - 1)
    # A wide cell can leave a cut empty; groups are numbered without gaps.
    _, dense = np.unique(cut, return_inverse=True)
    groups[order] = len(heavy) + dense
    return Grouping(groups, int(groups.max()) + 1, 0.0)


def group_categorical(bins: CategoricalBins, reference: Counts, current: Counts) -> Grouping:
    """Group categorical bins: frequent categories alone, all others together.

    A category stays alone with a pooled share of ``max(0.5 %, 10 / min(n))``; the pooled counts say
    nothing of a difference between the windows, so choosing by them keeps the level.  ``other``
    and ``unseen`` are always in the common cell.

    Parameters
    ----------
    bins
        Categories, frozen from a reference.
    reference, current
        Rows per bin, shape ``(n_bins,)``.

    Returns
    -------
    Grouping
        The group of each bin; a single group if every category is too small.

    Examples
    --------
    >>> import numpy as np
    >>> bins = CategoricalBins(("a", "b", "c"), frozenset())
    >>> before, after = np.array([900, 99, 1, 0, 0]), np.array([800, 100, 0, 0, 100])
    >>> group_categorical(bins, before, after).groups
    array([0, 1, 2, 2, 2])
    """
    pooled = reference + current
    smaller = max(int(min(reference.sum(), current.sum())), 1)
    floor = max(SMALLEST_SHARE, ROWS_PER_CATEGORY / smaller)
    n_categories = len(bins.categories)
    own = np.flatnonzero(pooled[:n_categories] >= floor * max(int(pooled.sum()), 1))
    groups = np.full(bins.n_bins, len(own), dtype=np.intp)
    groups[own] = np.arange(len(own))
    return Grouping(groups, len(own) + 1, floor)
