"""How often rows repeat each other: a sketch of their contents that merges exactly."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.profiles.arrays import find_array, to_floats, to_text
from service.profiles.profile import Contents

Hashes = NDArray[np.uint64]
Floats = NDArray[np.float64]

KEPT = 512
# Of so many expected candidates there are hardly ever fewer than KEPT distinct ones.
SPARE = 4

_ONE = np.uint64(0x9E3779B97F4A7C15)
_TWO = np.uint64(0xBF58476D1CE4E5B9)
_HALF = np.uint64(32)
_SIGN = np.uint64(1)
_WORD = 8


def profile_contents(rows: pa.Table, names: Iterable[str]) -> Contents:
    """Summarise how often rows have the same values in the named columns.

    Parameters
    ----------
    rows
        Columns that it lacks are left out: a null and an absent column are the same.
    names
        The columns, in any order.

    Returns
    -------
    Contents
        The contents with the smallest hashes; independent of the order of the rows.
    """
    hashes = np.zeros(rows.num_rows, np.uint64)
    for name in names:
        array = find_array(rows, name)
        if array is not None and array.null_count < len(array):
            hashes += _hash_column(array, name)
    return sketch_contents(_mix(hashes) >> _SIGN)


def sketch_contents(hashes: Hashes) -> Contents:
    """Keep the smallest hashes, each with how many rows have it."""
    rows = len(hashes)
    if rows > SPARE * KEPT:
        limit = np.uint64(SPARE * KEPT * (2**63 // rows))
        found, counts = np.unique(hashes[hashes < limit], return_counts=True)
        if len(found) >= KEPT:
            return Contents(found[:KEPT].astype(np.int64), counts[:KEPT].astype(np.int64), rows)
    found, counts = np.unique(hashes, return_counts=True)
    return Contents(found[:KEPT].astype(np.int64), counts[:KEPT].astype(np.int64), rows)


def merge_contents(parts: Sequence[Contents]) -> Contents:
    """Merge sketches of disjoint rows: exactly the sketch of their union.

    A hash among the smallest of all is among the smallest of every part that has it.

    Examples
    --------
    >>> one = Contents(np.array([1, 5]), np.array([1, 2]), 3)
    >>> two = Contents(np.array([5, 9]), np.array([1, 1]), 2)
    >>> merged = merge_contents([one, two])
    >>> merged.hashes.tolist(), merged.counts.tolist(), merged.rows
    ([1, 5, 9], [1, 3, 1], 5)
    """
    hashes = np.concatenate([part.hashes for part in parts])
    counts = np.concatenate([part.counts for part in parts])
    found, place = np.unique(hashes, return_inverse=True)
    sums = np.zeros(len(found), np.int64)
    np.add.at(sums, place.ravel(), counts)
    return Contents(found[:KEPT], sums[:KEPT], sum(part.rows for part in parts))


def _mix(values: Hashes) -> Hashes:
    values = (values ^ (values >> _HALF)) * _ONE
    values = (values ^ (values >> _HALF)) * _TWO
    return values ^ (values >> _HALF)


def _hash_column(array: pa.Array, name: str) -> Hashes:
    """Return a hash of each value that no other column gives it, and 0 for null."""
    seed = _mix(_hash_texts(pa.array([name])))[0]
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        encoded = array.dictionary_encode()
        own = np.append(_mix(_hash_texts(encoded.dictionary) ^ seed), np.uint64(0))
        codes = encoded.indices.fill_null(len(own) - 1).to_numpy()
        texts: Hashes = own[codes]
        return texts
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.int64())
    values = _norms(array) if pa.types.is_nested(array.type) else to_floats(array) + 0.0
    bits: Hashes = values.view(np.uint64) ^ seed
    bits *= _ONE
    bits ^= bits >> _HALF
    bits *= _TWO
    missing = np.isnan(values)
    if missing.any():
        bits[missing] = 0
    return bits


def _norms(array: pa.Array) -> Floats:
    """Return one number for each vector: others hardly ever have the same."""
    flat, starts = array.flatten(), array.value_lengths().fill_null(0).to_numpy()
    values = np.append(to_floats(flat), 0.0)
    edges = np.concatenate(([0], np.cumsum(starts)[:-1])).astype(np.int64)
    sums = np.add.reduceat(values * values, edges)
    return np.where(starts == 0, np.nan, sums)


def _hash_texts(array: pa.Array) -> Hashes:
    """Return a hash of each text, eight bytes of all of them at a time."""
    text = to_text(array).cast(pa.large_string())
    _, buffer, content = text.buffers()
    offsets = np.frombuffer(buffer, np.int64)[text.offset : text.offset + len(text) + 1]
    starts, lengths = offsets[:-1], np.diff(offsets)
    hashes = lengths.astype(np.uint64)
    padded = np.zeros(int(offsets[-1]) + _WORD, np.uint8)
    padded[:-_WORD] = np.frombuffer(content or b"", np.uint8)[: int(offsets[-1])]
    words = np.ndarray((len(padded) - _WORD + 1,), np.uint64, padded, strides=(1,))
    open_, done = np.flatnonzero(lengths), 0
    while len(open_):
        left = lengths[open_] - done
        unused = np.maximum(_WORD - left, 0).astype(np.uint64) * np.uint64(8)
        word = words[starts[open_] + done] << unused
        hashes[open_] = _mix(hashes[open_] ^ word)
        open_, done = open_[left > _WORD], done + _WORD
    return hashes
