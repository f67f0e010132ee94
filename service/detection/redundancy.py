"""Pairs of features that say the same."""

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.profiles.arrays import find_array, to_floats, to_text

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

SAME = 0.999
FEWEST_ROWS = 100
MOST_ROWS = 10_000
# Values that rows hardly share would match whatever other ones.
MOST_VALUES = 256
# Without values on one side a correlation is no more than the share of rows that have both.
WORTH_A_LOOK = 0.5
MOST_PAIRS = 1_000
# Rows that only one of two columns misses may change its entropy a little.
ALIKE = 1.05
# A value that nearly all rows have leaves too little to compare.
NEARLY_ALWAYS = 0.99


def find_redundant(rows: pa.Table, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
    """Find pairs of features of which each tells the other.

    Parameters
    ----------
    rows
        A sample; more than 10,000 rows are thinned to every n-th.
    kinds
        Features by name: ``numeric``, ``categorical``, ``boolean``; others are left out.

    Returns
    -------
    list of tuple[str, str]
        In the order of the features.  Two numbers are redundant from a Spearman correlation of
        .999 on, either way; of other pairs each must have .999 of its entropy explained by the
        other (Theil's U both ways).  Pairs with fewer than 100 common rows are not compared.

    References
    ----------
    C. Spearman, The proof and measurement of association between two things, Am. J. Psychol. 15
    (1904); H. Theil, On the estimation of relationships involving qualitative variables, Am. J.
    Sociol. 76 (1970).

    Examples
    --------
    >>> feet = np.linspace(1, 9, 200)
    >>> same = pa.table({"feet": feet, "metres": feet * 0.3048, "odd": feet % 2})
    >>> find_redundant(same, dict.fromkeys(same.column_names, "numeric"))
    [('feet', 'metres')]
    """
    if rows.num_rows > MOST_ROWS:
        rows = rows.take(pa.array(np.arange(MOST_ROWS) * rows.num_rows // MOST_ROWS))
    numbers: dict[str, Floats] = {}
    codes: dict[str, Codes] = {}
    for name, kind in kinds.items():
        array = find_array(rows, name)
        if array is None or array.null_count == len(array):
            continue
        if kind == "numeric":
            numbers[name] = to_floats(array)
        if kind in {"numeric", "categorical", "boolean"}:
            found = _codes(array, kind)
            if found is not None:
                codes[name] = found
    pairs = {*_same_order(numbers), *_same_partition(codes, numbers.keys())}
    place = {name: position for position, name in enumerate(kinds)}
    return sorted(pairs, key=lambda pair: (place[pair[0]], place[pair[1]]))


def _codes(array: pa.Array, kind: str) -> Codes | None:
    """Return each row's value as its position among the distinct ones, -1 for null."""
    plain = pa.array(to_floats(array), from_pandas=True) if kind == "numeric" else to_text(array)
    encoded = plain.dictionary_encode()
    if not 1 < len(encoded.dictionary) <= min(MOST_VALUES, len(array) // 10):
        return None
    codes: Codes = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
    counts = np.bincount(codes[codes >= 0])
    return codes if counts.max() < NEARLY_ALWAYS * counts.sum() else None


def _same_order(numbers: Mapping[str, Floats]) -> list[tuple[str, str]]:
    names = [name for name, values in numbers.items() if np.isfinite(values).any()]
    if not names:
        return []
    ranks = np.stack([_ranks(numbers[name]) for name in names])
    centred = np.nan_to_num(ranks - np.nanmean(ranks, axis=1, keepdims=True))
    lengths = np.sqrt(np.square(centred).sum(axis=1))
    varied = lengths > 0
    unit = np.divide(centred, lengths[:, None], out=np.zeros_like(centred), where=varied[:, None])
    rough = np.triu(np.abs(unit @ unit.T), 1)
    first, second = np.nonzero(rough >= WORTH_A_LOOK)
    order = np.argsort(-rough[first, second], kind="stable")[:MOST_PAIRS]
    return [
        (names[i], names[j])
        for i, j in zip(first[order].tolist(), second[order].tolist(), strict=True)
        if _spearman(numbers[names[i]], numbers[names[j]]) >= SAME
    ]


def _spearman(one: Floats, two: Floats) -> float:
    """Return the absolute rank correlation over the rows that have both, 0 where it has none."""
    both = np.isfinite(one) & np.isfinite(two)
    if both.sum() < FEWEST_ROWS:
        return 0.0
    a, b = (ranks - ranks.mean() for ranks in (_ranks(one[both]), _ranks(two[both])))
    length = float(np.sqrt((a @ a) * (b @ b)))
    return abs(float(a @ b)) / length if length > 0 else 0.0


def _ranks(values: Floats) -> Floats:
    """Return ranks, the mean of them for equal values, and NaN for what is not finite."""
    finite = np.isfinite(values)
    _, place, counts = np.unique(values[finite], return_inverse=True, return_counts=True)
    ranks = np.full(len(values), np.nan)
    ranks[finite] = (np.cumsum(counts) - (counts - 1) / 2)[place.ravel()]
    return ranks


def _same_partition(codes: Mapping[str, Codes], numbers: Collection[str]) -> list[tuple[str, str]]:
    place = {name: position for position, name in enumerate(codes)}
    entropy = {name: _entropy(own[own >= 0]) for name, own in codes.items()}
    ordered = sorted(codes, key=lambda name: entropy[name])
    pairs = []
    for position, one in enumerate(ordered):
        for two in ordered[position + 1 :]:
            # What tells each other has as much to tell.
            if entropy[two] > entropy[one] * ALIKE:
                break
            if not (one in numbers and two in numbers):
                pairs.append((one, two) if place[one] < place[two] else (two, one))
    return [pair for pair in pairs[:MOST_PAIRS] if _theil(*(codes[name] for name in pair)) >= SAME]


def _theil(one: Codes, two: Codes) -> float:
    """Return the smaller share of the entropy of either that the other explains."""
    both = (one >= 0) & (two >= 0)
    if both.sum() < FEWEST_ROWS:
        return 0.0
    a, b = one[both], two[both]
    own = _entropy(a), _entropy(b)
    shared = sum(own) - _entropy(a * (int(b.max()) + 1) + b)
    return shared / max(own) if min(own) > 0 else 0.0


def _entropy(codes: Codes) -> float:
    counts = np.unique(codes, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())
