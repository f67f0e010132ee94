"""The mergeable summary of subpopulations: performance, predictions and rows, no features."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.profiles.arrays import (
    LABEL,
    PREDICTION,
    SCORE,
    SCORES,
    WEIGHT,
    Index,
    class_codes,
    find_floats,
    find_weights,
)
from service.profiles.binning import Binning
from service.profiles.build import profile_performance
from service.profiles.columns import Output, Quantity
from service.profiles.frames import pack, unpack
from service.profiles.merge import merge_performance
from service.profiles.profile import Counts, Floats, Performance, PerformanceProfile
from service.profiles.serialise import performance_from_bytes, performance_to_bytes
from service.profiles.sums import sums_of

# Values that the reference does not rank come after all that it does.
UNRANKED = 1 << 30

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class SliceProfile:
    """One subpopulation of some rows, labelled or not.

    ``columns`` are those whose values define it, empty where a predicate does.  ``rank`` orders the
    slices of the same columns where there are too many: the lower, the more frequent in the
    reference.  ``predicted``, ``predicted_weights`` and ``predicted_weights_squared`` have the
    shape ``(n_classes,)``: rows, Σw and Σw² by predicted class, of two the negative first; of a
    regression the shape ``(1,)``, the rows with a finite prediction.  ``performance`` holds the
    labelled rows.
    """

    columns: tuple[str, ...]
    rank: int
    rows: int
    predicted: Counts
    predicted_weights: Floats
    predicted_weights_squared: Floats
    performance: Performance


Slices = Mapping[str, SliceProfile]


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """Which rows are in a slice; ``rows`` has the shape ``(n_rows,)``."""

    columns: tuple[str, ...]
    rank: int
    rows: Mask


def profile_slices(
    rows: pa.Table, members: Mapping[str, Member], binning: Binning
) -> dict[str, SliceProfile]:
    """Summarise the slices of some rows.

    Parameters
    ----------
    rows
        As for ``profile_performance``; a row without a label counts as a row and a prediction.
    members
        The slices' rows by name.  One without rows is left out.
    binning
        The frozen edges, and what the output is; scores have its ``slice_edges``.

    Returns
    -------
    dict of str to SliceProfile
        Independent of the order of the rows: exactly in counts, to rounding in sums.
    """
    binning = replace(binning, score_edges=binning.slice_edges)
    needed = {LABEL, PREDICTION, SCORE, WEIGHT}
    table = rows.select([n for n in rows.column_names if n in needed or n.startswith(SCORES)])
    predicted, size = _predicted(rows, binning.output)
    weights = find_weights(rows)
    if weights is None:
        weights = np.ones(rows.num_rows)
    found = {}
    for name, member in members.items():
        count = int(member.rows.sum())
        if not count:
            continue
        known = member.rows & (predicted >= 0)
        counts, sums, squares = sums_of(predicted[known], weights[known], size)
        found[name] = SliceProfile(
            columns=member.columns,
            rank=member.rank,
            rows=count,
            predicted=counts,
            predicted_weights=sums,
            predicted_weights_squared=squares,
            performance=_without_ranks(
                profile_performance(table.filter(pa.array(member.rows)), binning)
            ),
        )
    return found


def _predicted(rows: pa.Table, output: Output) -> tuple[Index, int]:
    """Return each row's predicted class, -1 where it is none, and how many there are.

    All finite numbers are one class.
    """
    if isinstance(output, Quantity):
        return np.isfinite(find_floats(rows, PREDICTION)).astype(np.int64) - 1, 1
    return class_codes(rows, PREDICTION, output), len(output.names)


def _without_ranks(profile: Performance) -> Performance:
    # Every row is in several slices; the bins are exact enough for what is compared by its noise.
    return replace(profile, ranked=None) if isinstance(profile, PerformanceProfile) else profile


def merge_slices(parts: Iterable[Slices], limits: Mapping[tuple[str, ...], int]) -> Slices:
    """Merge the slices of disjoint rows under one binning.

    Parameters
    ----------
    parts
        Consumed one after the other, so that a long window needs the memory of two parts.
    limits
        The most slices of the same columns; ranks and hashes choose, which merges exactly.

    Returns
    -------
    Slices
        Associative and commutative: exactly in counts, to rounding in sums.
    """
    merged: dict[str, SliceProfile] = {}
    for part in parts:
        for name, found in part.items():
            known = merged.get(name)
            merged[name] = found if known is None else _merge(known, found)
        merged = keep_slices(merged, limits)
    return merged


def _merge(one: SliceProfile, other: SliceProfile) -> SliceProfile:
    return replace(
        one,
        rank=min(one.rank, other.rank),
        rows=one.rows + other.rows,
        predicted=one.predicted + other.predicted,
        predicted_weights=one.predicted_weights + other.predicted_weights,
        predicted_weights_squared=one.predicted_weights_squared + other.predicted_weights_squared,
        performance=merge_performance([one.performance, other.performance]),
    )


def keep_slices(
    slices: Mapping[str, SliceProfile], limits: Mapping[tuple[str, ...], int]
) -> dict[str, SliceProfile]:
    """Keep as many slices of the same columns as may be, by rank and by the hash of the name."""
    ranked = keep_ranked(((name, s.columns, s.rank) for name, s in slices.items()), limits)
    return {name: slices[name] for name in slices if name in ranked}


def keep_ranked(
    named: Iterable[tuple[str, tuple[str, ...], int]], limits: Mapping[tuple[str, ...], int]
) -> set[str]:
    """Return the names that stay of (name, columns, rank); no columns have no limit."""
    by_columns: dict[tuple[str, ...], list[tuple[int, str]]] = {}
    for name, columns, rank in named:
        by_columns.setdefault(columns, []).append((rank, name))
    kept: set[str] = set()
    for columns, members in by_columns.items():
        limit = limits.get(columns, len(members))
        if len(members) > limit:
            members.sort(key=lambda member: (member[0], _hash(member[1]), member[1]))
        kept.update(name for _, name in members[:limit])
    return kept


def _hash(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def slices_to_bytes(slices: Slices) -> bytes:
    """Serialise slices as a head, their prediction counts, and their performance's frames."""
    frames = [performance_to_bytes(found.performance) for found in slices.values()]
    described = [
        [name, list(s.columns), s.rank, s.rows, len(frame)]
        for (name, s), frame in zip(slices.items(), frames, strict=True)
    ]
    found = list(slices.values())
    arrays = [
        _stack([s.predicted for s in found], np.int64),
        _stack([s.predicted_weights for s in found], np.float64),
        _stack([s.predicted_weights_squared for s in found], np.float64),
    ]
    head = pack(b"L", {"slices": described}, arrays)
    return b"".join([len(head).to_bytes(4, "little"), head, *frames])


def _stack(arrays: Sequence[NDArray[np.generic]], kind: type) -> NDArray[np.generic]:
    return np.concatenate(arrays).astype(kind) if arrays else np.empty(0, kind)


def slices_from_bytes(data: bytes) -> dict[str, SliceProfile]:
    """Read slices; ``ValueError`` if the bytes are something else."""
    position = 4 + int.from_bytes(data[:4], "little")
    head, arrays = unpack(b"L", data[4:position])
    described = head["slices"]
    if not described:
        return {}
    predicted, weights, squares = (array.reshape(len(described), -1) for array in arrays)
    slices = {}
    for i, (name, columns, rank, rows, size) in enumerate(described):
        slices[name] = SliceProfile(
            columns=tuple(columns),
            rank=rank,
            rows=rows,
            predicted=predicted[i],
            predicted_weights=weights[i],
            predicted_weights_squared=squares[i],
            performance=performance_from_bytes(data[position : position + size]),
        )
        position += size
    return slices
