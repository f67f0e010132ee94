"""Judge the rare cells of all columns of a window together."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from service.detection.calibration import pearson_x2
from service.detection.comparison import Comparison
from service.detection.rare import (
    SMALLEST_SHARE,
    RareCell,
    find_changed_cells,
    smallest_p_values,
)
from service.detection.variability import measure_variability, variable_tail
from service.evaluation.measurement import SMALLEST_GROUP
from service.evaluation.multiplicity import tarone_count
from service.profiles.binning import CategoricalBins, NumericBins

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

NAME_LENGTH = 80
NAMED_CELLS = 3


def judge_rare(
    columns: Mapping[str, Comparison], alpha: float, ratio: float
) -> dict[str, list[tuple[RareCell, float]]]:
    """Test every rare cell of every column, with one error rate over all of them.

    Parameters
    ----------
    columns
        The columns by name, each with rows on both sides.
    alpha
        The level over all cells.
    ratio
        By which factor the share of a cell has to change.

    Returns
    -------
    dict[str, list[tuple[RareCell, float]]]
        The changed cells by column, the surest first, each with its p-value adjusted over all
        cells (Tarone); below ``alpha`` it is an alert, and the list ends with the third of these.

    Examples
    --------
    >>> from service.detection.comparison import compare_column
    >>> from service.detection.methods import METHODS, Sample
    >>> bins = CategoricalBins(("common", "rare"), frozenset())
    >>> before, after = np.array([4950, 50, 0, 0]), np.array([969, 31, 0, 0])
    >>> compared = compare_column(bins, Sample(before), [], Sample(after), METHODS["psi"])
    >>> [(cell, p_value)] = judge_rare({"plan": compared}, 0.005, 2.0)["plan"]
    >>> describe_cell(compared, cell), p_value < 0.005
    ('rare category rare: 1.0 % -> 3.1 %', True)
    """
    found: list[tuple[str, RareCell]] = []
    for name, column in columns.items():
        cells = _named_cells(column.bins)
        changed = find_changed_cells(
            column.reference, column.current, cells, ratio=ratio, level=alpha
        )
        found.extend((name, cell) for cell in changed)
    if not found:
        return {}
    count = tarone_count(np.concatenate([_smallest(c) for c in columns.values()]), alpha)
    judged: dict[str, list[tuple[RareCell, float]]] = {}
    alerts: Counter[str] = Counter()
    for name, cell in sorted(found, key=lambda item: item[1].p_value):
        # Three names tell a person what happened to a column, a hundred do not.
        if alerts[name] == NAMED_CELLS:
            continue
        p_value = min(cell.p_value * count, 1.0)
        if p_value < alpha:
            p_value = max(p_value, min(_variable_tail(columns[name], cell) * count, 1.0))
        alerts[name] += p_value < alpha
        judged.setdefault(name, []).append((cell, p_value))
    return judged


def describe_cell(compared: Comparison, cell: RareCell) -> str:
    """Return what happened to a cell, in words; one that few rows are in has no name."""
    bins = compared.bins
    largest = max(compared.reference[cell.bin], compared.current[cell.bin])
    if isinstance(bins, NumericBins):
        atom = cell.bin - (bins.n_bins - len(bins.atoms))
        name, what = f"{bins.atoms[atom]:g}", "value"
    else:
        name, what = bins.categories[cell.bin], "category"
    before, after = (f"{100 * s:.1f} %" for s in (cell.reference_share, cell.current_share))
    named = f"{what} {name[:NAME_LENGTH]}" if largest >= SMALLEST_GROUP else what
    return f"rare {named}: {before} -> {after}"


def _named_cells(bins: NumericBins | CategoricalBins) -> NDArray[np.intp]:
    """Return the bins of single values: atoms or categories."""
    if isinstance(bins, NumericBins):
        return np.arange(bins.n_bins - len(bins.atoms), bins.n_bins)
    return np.arange(len(bins.categories))


def _smallest(column: Comparison) -> Floats:
    """Return the smallest p-value that each cell of a column could give."""
    cells, sizes = _named_cells(column.bins), (column.reference_rows, column.rows)
    pooled = column.reference + column.current
    smallest = smallest_p_values(pooled[cells], *sizes)
    if not isinstance(column.bins, CategoricalBins) or not column.bins.rest:
        return smallest
    # The top categories were chosen by the reference: those that could have been chosen instead
    # count as tests, as many as their rows allow.
    fit = int(pooled[len(column.bins.categories)] / (SMALLEST_SHARE * min(sizes)))
    return np.concatenate((smallest, np.zeros(min(len(column.bins.rest), fit))))


def _variable_tail(column: Comparison, cell: RareCell) -> float:
    """Return the p-value of one cell under the reference's own variability in that cell."""

    def split(counts: Counts) -> list[int]:
        return [int(counts[cell.bin]), int(counts.sum() - counts[cell.bin])]

    pieces = np.array([split(chunk) for chunk in column.chunks], dtype=np.int64).reshape(-1, 2)
    variability = measure_variability(pieces)
    if variability.rho <= 0:
        return 0.0
    x2, df = pearson_x2(np.array([split(column.reference), split(column.current)]))
    return variable_tail(x2, df, 1 / column.reference_rows + 1 / column.rows, variability)
