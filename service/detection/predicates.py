"""What a slice may be made of: predicates on features, by the reference's quantiles and values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.profiles.arrays import find_array, text_codes, to_floats, to_text
from service.profiles.binning import Floats
from service.profiles.columns import Column, Kind

JOIN = " & "
MOST_CUTS = 15
MOST_CATEGORIES = 15
FEWEST_SHARE = 0.005
# A cut is rounded by no more than this share of the way to its neighbours.
ROUNDING = 0.2
MOST_DIGITS = 6

Codes = NDArray[np.int16]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """One feature in bins: ``cuts`` ascending, or ``categories``; the last bin is missing.

    A number's bin counts the cuts at or below it.  A category's is its position; others have the
    last but one.
    """

    name: str
    cuts: Floats | None = None
    categories: tuple[str, ...] = ()

    @property
    def n_bins(self) -> int:
        """Return the number of bins, missing included."""
        return 2 + (len(self.categories) if self.cuts is None else len(self.cuts))

    def codes(self, rows: pa.Table) -> Codes:
        """Return the bin of each row, shape ``(n,)``."""
        missing = self.n_bins - 1
        array = find_array(rows, self.name)
        if array is None or pa.types.is_null(array.type):
            return np.full(rows.num_rows, missing, np.int16)
        if self.cuts is not None:
            values = to_floats(array)
            found = np.searchsorted(self.cuts, values, side="right")
            return np.where(np.isfinite(values), found, missing).astype(np.int16)
        text = to_text(array)
        found = text_codes(text, self.categories)
        known = pc.is_valid(text).to_numpy(zero_copy_only=False)
        return np.where(known, np.where(found < 0, missing - 1, found), missing).astype(np.int16)


@dataclass(frozen=True, slots=True)
class Predicate:
    """``low <= feature < high``, ``feature = category`` or, without any of them, it is null."""

    axis: int
    name: str
    low: float | None = None
    high: float | None = None
    category: str | None = None

    @property
    def text(self) -> str:
        """Return it as people write it."""
        if self.category is not None:
            return f"{self.name}={self.category}"
        if self.low is None and self.high is None:
            return f"{self.name} is null"
        if self.low is None:
            return f"{self.name} < {self.high:.10g}"
        if self.high is None:
            return f"{self.name} >= {self.low:.10g}"
        return f"{self.low:.10g} <= {self.name} < {self.high:.10g}"


@dataclass(frozen=True)
class Vocabulary:
    """The predicates on some axes."""

    axes: tuple[Axis, ...]
    predicates: tuple[Predicate, ...]

    @property
    def size(self) -> int:
        """Return how many predicates there are."""
        return len(self.predicates)

    @cached_property
    def offsets(self) -> list[int]:
        """Return where each axis' bins begin among all bins."""
        return [*accumulate((axis.n_bins for axis in self.axes), initial=0)][:-1]

    @property
    def n_bins(self) -> int:
        """Return the number of all bins."""
        return sum(axis.n_bins for axis in self.axes)

    @cached_property
    def members(self) -> Floats:
        """Return which bins each predicate is true in, 0 or 1, ``(n_predicates, n_bins)``."""
        table = np.zeros((self.size, self.n_bins))
        for row, predicate in zip(table, self.predicates, strict=True):
            axis, offset = self.axes[predicate.axis], self.offsets[predicate.axis]
            row[offset : offset + axis.n_bins] = _members(axis, predicate)
        return table

    def codes(self, rows: pa.Table) -> Codes:
        """Return the bins of rows, shape ``(n, n_axes)``."""
        if not self.axes:
            return np.empty((rows.num_rows, 0), np.int16)
        return np.stack([axis.codes(rows) for axis in self.axes], axis=1)

    def mask(self, codes: Codes, chosen: Sequence[int]) -> Mask:
        """Return which rows all of the chosen predicates are true of."""
        found = np.ones(len(codes), np.bool_)
        for position in chosen:
            at = self.predicates[position].axis
            offset, size = self.offsets[at], self.axes[at].n_bins
            true = self.members[position, offset : offset + size] > 0
            found &= true[codes[:, at]]
        return found

    def describe(self, chosen: Sequence[int]) -> str:
        """Return the name of a conjunction, the same in whatever order it was found.

        Examples
        --------
        >>> axes = (Axis("age", np.array([20.0, 30.0])), Axis("region", categories=("north",)))
        >>> words = Vocabulary(axes, predicates_of(axes))
        >>> words.describe([5, 2, 1])
        '20 <= age < 30 & region=north'
        """
        joined: dict[int, Predicate] = {}
        others: list[Predicate] = []
        for position in sorted(chosen):
            own = self.predicates[position]
            before = joined.get(own.axis)
            if own.low is None and own.high is None:
                others.append(own)
            elif before is None:
                joined[own.axis] = own
            else:
                lows = [p.low for p in (own, before) if p.low is not None]
                highs = [p.high for p in (own, before) if p.high is not None]
                joined[own.axis] = Predicate(
                    own.axis, own.name, max(lows, default=None), min(highs, default=None)
                )
        parts = sorted((*joined.values(), *others), key=lambda part: part.axis)
        return JOIN.join(part.text for part in parts)


def _members(axis: Axis, predicate: Predicate) -> Mask:
    bins: NDArray[np.int64] = np.arange(axis.n_bins)
    low, high = bins[-1], bins[-1] + 1
    if predicate.category is not None:
        low = axis.categories.index(predicate.category)
        high = low + 1
    elif axis.cuts is not None and (predicate.low is not None or predicate.high is not None):
        low, high = 0, bins[-1]
        if predicate.low is not None:
            low = np.searchsorted(axis.cuts, predicate.low, "right")
        if predicate.high is not None:
            high = np.searchsorted(axis.cuts, predicate.high, "right")
    found: Mask = (bins >= low) & (bins < high)
    return found


def learn_vocabulary(reference: pa.Table, columns: Sequence[Column]) -> Vocabulary:
    """Return the predicates that a reference's rows suggest, whatever their labels.

    Parameters
    ----------
    reference
        Its rows; ``tags.<name>`` are categories.
    columns
        The features; those that are neither numbers, categories nor booleans are left out.

    Returns
    -------
    Vocabulary
        Of a number at most 15 cuts at quantiles, rounded to what people write, each as ``<`` and
        ``>=``; of categories the 15 most frequent; and "is null" where there are nulls.
    """
    tags = [name for name in reference.column_names if name.startswith("tags.")]
    axes = []
    for column in (*columns, *(Column(name, Kind.CATEGORICAL) for name in tags)):
        make = _MAKERS.get(column.kind)
        array = find_array(reference, column.name)
        if make is None or array is None or array.null_count == len(array):
            continue
        axis = make(column.name, array)
        if axis is not None:
            axes.append(axis)
    return Vocabulary(tuple(axes), predicates_of(axes))


def predicates_of(axes: Sequence[Axis]) -> tuple[Predicate, ...]:
    """Return every predicate on the axes."""
    found: list[Predicate] = []
    for at, axis in enumerate(axes):
        if axis.cuts is None:
            found += (Predicate(at, axis.name, category=name) for name in axis.categories)
        else:
            cuts = axis.cuts.tolist()
            found += (Predicate(at, axis.name, high=cut) for cut in cuts)
            found += (Predicate(at, axis.name, low=cut) for cut in cuts)
        found.append(Predicate(at, axis.name))
    return tuple(found)


def _of_numbers(name: str, array: pa.Array) -> Axis | None:
    values = to_floats(array)
    values = np.sort(values[np.isfinite(values)])
    distinct = np.unique(values)
    if len(distinct) <= MOST_CUTS + 1:
        cuts = distinct[1:]
    else:
        at = np.arange(1, MOST_CUTS + 1) * len(values) // (MOST_CUTS + 1)
        cuts = np.unique(values[at])
        cuts = _rounded(cuts[cuts > values[0]], float(values[0]), float(values[-1]))
    return Axis(name, cuts) if len(cuts) else None


def _rounded(cuts: Floats, low: float, high: float) -> Floats:
    """Return the cuts with as few digits as leave them where they are among their neighbours."""
    around = np.concatenate(([low], cuts, [high]))
    found = []
    for before, cut, after in zip(around, cuts, around[2:], strict=False):
        gaps = [gap for gap in (cut - before, after - cut) if gap > 0]
        slack = ROUNDING * min(gaps, default=0.0)
        texts = (f"{cut:.{digits}g}" for digits in range(1, MOST_DIGITS + 1))
        found.append(next((float(t) for t in texts if abs(float(t) - cut) <= slack), float(cut)))
    return np.unique(np.array(found))


def _of_categories(name: str, array: pa.Array) -> Axis | None:
    counts = pc.value_counts(to_text(array).drop_null())
    pairs = [(pair["counts"].as_py(), pair["values"].as_py()) for pair in counts]
    pairs = [pair for pair in pairs if pair[0] >= FEWEST_SHARE * len(array)]
    pairs.sort(key=lambda pair: (-pair[0], pair[1]))
    names = tuple(text for _, text in pairs[:MOST_CATEGORIES])
    return Axis(name, categories=names) if names else None


_MAKERS: dict[Kind, Callable[[str, pa.Array], Axis | None]] = {
    Kind.NUMERIC: _of_numbers,
    Kind.CATEGORICAL: _of_categories,
    Kind.BOOLEAN: _of_categories,
}
