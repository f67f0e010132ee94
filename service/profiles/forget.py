"""Take values out of frozen edges that only erased rows had; what was counted stays comparable."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from service.profiles.binning import Binning, CategoricalBins, Floats, NumericBins

ERASED = "erased"
Bins = TypeVar("Bins", NumericBins, CategoricalBins)


def named_values(binning: Binning, column: str) -> set[str | float]:
    """Return every value of a column that its edges name."""
    bins = binning.columns.get(column)
    if isinstance(bins, CategoricalBins):
        return {*bins.categories, *bins.rest}
    return set() if bins is None else {*bins.edges.tolist(), *bins.atoms.tolist()}


def forget(
    binning: Binning,
    texts: Mapping[str, Collection[str]],
    numbers: Mapping[str, Mapping[float, float]],
) -> Binning:
    """Rename categories and move edges that would tell what an erased row said.

    Parameters
    ----------
    binning
        The edges of a model.
    texts
        The categories of each column that nobody else has; they become ``erased #n``, in the same
        place, so that the counts of every profile still mean what they meant.
    numbers
        The values of each column that nobody else has, each with the nearest one that somebody
        has.  Where no edge can stand there, it moves a little towards its neighbour.

    Returns
    -------
    Binning
        With as many bins of every column.

    Examples
    --------
    >>> from service.profiles.columns import Classes
    >>> city = CategoricalBins(("Paris", "Tiny"), frozenset())
    >>> known = Binning({"city": city}, Classes("0", "1"), np.empty(0), None)
    >>> forget(known, {"city": {"Tiny"}}, {}).columns["city"].categories
    ('Paris', 'erased #1')
    """
    columns = dict(binning.columns)
    for name, gone in texts.items():
        bins = columns.get(name)
        if isinstance(bins, CategoricalBins):
            columns[name] = _rename(bins, gone)
    for name, moves in numbers.items():
        bins = columns.get(name)
        if isinstance(bins, NumericBins):
            columns[name] = _move(bins, moves)
    return replace(binning, columns=columns)


def _rename(bins: CategoricalBins, gone: Collection[str]) -> CategoricalBins:
    categories = tuple(
        f"{ERASED} #{place}" if name in gone else name for place, name in enumerate(bins.categories)
    )
    rest = bins.rest - set(gone)
    first = len(categories) + sum(name.startswith(f"{ERASED} #") for name in rest)
    lost = len(bins.rest) - len(rest)
    return replace(
        bins,
        categories=categories,
        rest=rest | {f"{ERASED} #{first + number}" for number in range(lost)},
    )


def _move(bins: NumericBins, moves: Mapping[float, float]) -> NumericBins:
    edges, atoms = _moved(bins.edges, moves), _moved(bins.atoms, moves)
    if len(edges):
        return NumericBins(edges, atoms, float(edges[0]), float(edges[-1]))
    whole = float(atoms[0]) if len(atoms) else None
    return NumericBins(edges, atoms, whole, whole)


def _moved(values: Floats, moves: Mapping[float, float]) -> Floats:
    """Return ascending values, none of them one that moves."""
    moved = values.copy()
    for place, value in enumerate(values.tolist()):
        if value not in moves:
            continue
        low = moved[place - 1] if place else -np.inf
        high = values[place + 1] if place + 1 < len(values) else np.inf
        nearest = moves[value]
        if nearest == value or not low < nearest < high:
            near = low if np.isfinite(low) else high
            near = near if np.isfinite(near) else value * 2 + 1
            nearest = value + (near - value) / 64
        moved[place] = nearest
    return moved
