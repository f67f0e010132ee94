"""Rare cells: exact tests for categories that a distance over all of them would hide."""

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

RARE_SHARE = 0.05
RATIO = 2.0
# A category below one row in a thousand on both sides is nobody's concern, however certain.
SMALLEST_SHARE = 0.001


@dataclass(frozen=True, slots=True)
class RareCell:
    """A cell whose share changed by more than the ratio gate, with its exact p-value."""

    bin: int
    reference_share: float
    current_share: float
    p_value: float


def fisher_tail(cell: int, rows: int, other_cell: int, other_rows: int) -> float:
    """Return how probable at least ``cell`` of ``rows`` is, given both windows' total.

    Parameters
    ----------
    cell, rows
        Rows in the cell, of all rows of one window.
    other_cell, other_rows
        The same of the other window.

    Returns
    -------
    float
        P(X >= cell), hypergeometric: Fisher's exact test, one-sided.

    References
    ----------
    R. A. Fisher, The logic of inductive inference, J. R. Stat. Soc. 98 (1935).

    Examples
    --------
    >>> round(fisher_tail(3, 4, 1, 4), 6)  # (16 + 1) / 70
    0.242857
    """
    marked, total = cell + other_cell, rows + other_rows
    lowest, highest = max(0, marked - other_rows), min(marked, rows)
    if cell <= lowest:
        return 1.0
    mean = rows * marked / total
    if cell < mean:
        below = fisher_tail(other_cell + 1, other_rows, cell - 1, rows)
        return 1.0 - below
    sd = sqrt(max(mean * (1 - marked / total) * other_rows / max(total - 1, 1), 1.0))
    # Beyond the mean the terms fall; 40 sd on, nothing is left that a float64 could hold.
    values = np.arange(cell, min(highest, cell + ceil(40 * sd) + 200) + 1)
    return float(min(np.exp(_log_hypergeometric(values, rows, marked, total)).sum(), 1.0))


def _log_hypergeometric(cell: Counts, rows: int, marked: Counts | int, total: int) -> Floats:
    """Return the log probability of ``cell`` marked among ``rows`` of ``total``."""
    return (
        _log_choose(marked, cell)
        + _log_choose(total - marked, rows - cell)
        - _log_choose(total, rows)
    )


def _log_choose(n: Counts | int, k: Counts | int) -> Floats:
    result: Floats = gammaln(np.add(n, 1)) - gammaln(np.add(k, 1)) - gammaln(np.subtract(n, k) + 1)
    return result


def smallest_p_values(pooled: Counts, n_reference: int, n_current: int) -> Floats:
    """Return the smallest two-sided p-value that each cell could reach, given its pooled rows.

    Parameters
    ----------
    pooled
        Rows of each cell in both windows, shape ``(n_cells,)``.
    n_reference, n_current
        Rows with a value in each window.

    Returns
    -------
    Floats
        In (0, 1], shape ``(n_cells,)``; 1 for a cell too small to matter on either side.

    References
    ----------
    R. E. Tarone, A modified Bonferroni method for discrete data, Biometrics 46 (1990).

    Examples
    --------
    >>> import numpy as np
    >>> smallest_p_values(np.array([0, 2]), 4, 4).round(4).tolist()  # 2 · C(4, 2) / C(8, 2)
    [1.0, 0.4286]
    """
    total = n_reference + n_current
    most, fewest = np.minimum(pooled, n_current), np.maximum(pooled - n_reference, 0)
    up = _log_hypergeometric(most, n_current, pooled, total)
    down = _log_hypergeometric(fewest, n_current, pooled, total)
    smallest = np.minimum(2 * np.exp(np.minimum(up, down)), 1.0)
    too_small = pooled < SMALLEST_SHARE * min(n_reference, n_current)
    return np.where(too_small, 1.0, smallest)


def find_changed_cells(
    reference: Counts,
    current: Counts,
    cells: Counts,
    *,
    ratio: float = RATIO,
    level: float = 1.0,
) -> list[RareCell]:
    """Find the rare cells whose share changed by the ratio gate, and test each exactly.

    Parameters
    ----------
    reference, current
        Rows per bin, shape ``(n_bins,)``.
    cells
        The bins that are named values, shape ``(n_cells,)``.
    ratio
        The gate, ``> 1``: the larger share over the smaller.
    level
        Cells are left out whose p-value is certain to be larger.

    Returns
    -------
    list[RareCell]
        Cells below 5 % of the reference, with a two-sided p-value, not yet adjusted.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.array([0, 1])
    >>> found = find_changed_cells(np.array([4950, 50]), np.array([969, 31]), cells)
    >>> found[0].bin, found[0].current_share, found[0].p_value < 1e-5
    (1, 0.031, True)
    """
    n_reference, n_current = int(reference.sum()), int(current.sum())
    before, after = reference[cells] / n_reference, current[cells] / n_current
    smaller, larger = np.minimum(before, after), np.maximum(before, after)
    passes = (before < RARE_SHARE) & (larger >= SMALLEST_SHARE) & (larger >= ratio * smaller)
    changed = np.flatnonzero(passes)
    if len(changed) and level < 1:
        pooled = (reference + current)[cells[changed]]
        # A tail holds at least its first term, and that one is computed for all cells at once.
        first = _log_hypergeometric(
            current[cells[changed]], n_current, pooled, n_reference + n_current
        )
        changed = changed[2 * np.exp(first) <= level]
    found = []
    for i in changed:
        cell = int(cells[i])
        sides = (int(current[cell]), n_current), (int(reference[cell]), n_reference)
        (x, n), (y, m) = sides if after[i] >= before[i] else sides[::-1]
        p_value = min(2 * fisher_tail(x, n, y, m), 1.0)
        found.append(RareCell(cell, float(before[i]), float(after[i]), p_value))
    return found
