"""A reference in pieces, so that its own variability can be measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.profiles.arrays import TIME, find_array
from service.profiles.binning import Binning
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Column, ManyClasses
from service.profiles.frames import pack, unpack
from service.profiles.merge import merge_features, merge_performance
from service.profiles.profile import FeatureProfile, Performance
from service.profiles.serialise import (
    features_from_bytes,
    features_to_bytes,
    performance_from_bytes,
    performance_to_bytes,
)

MOST_SEGMENTS = 1000
# Of all the score histograms together, which many classes have a lot of: 16 bytes each.
MOST_CELLS = 50_000_000
SEGMENTS_WITHOUT_TIME = 100
HOUR = 3600
DAY = 24 * HOUR
WEEK = 7 * DAY
# 1970-01-01 was a Thursday; weeks start on Monday.
FIRST_MONDAY = 4 * DAY
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((HOUR, 0), (DAY, 0), *((WEEK << power, FIRST_MONDAY) for power in range(14)))


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A piece of a reference; ``start`` is the floor of its times, ``None`` without any."""

    start: datetime | None
    features: FeatureProfile
    performance: Performance


def segment_reference(
    rows: pa.Table, columns: Sequence[Column], binning: Binning
) -> tuple[Segment, ...]:
    """Profile a reference in pieces.

    Parameters
    ----------
    rows
        The reference; with a ``ts`` column the pieces are hours if at most 1,000 of them have rows
        (some 130 of a model of 50 classes), else days, else weeks (UTC, from Monday), else 2, 4, 8
        … weeks; otherwise 100 equal pieces in row order.  Rows whose ``ts`` is null form one piece
        without a start.
    columns, binning
        As for ``profile_features``.

    Returns
    -------
    tuple of Segment
        In order of time; every row is in exactly one.  Empty for zero rows.
    """
    if not rows.num_rows:
        return ()
    seconds = _seconds(rows)
    if seconds is None:
        pieces = min(SEGMENTS_WITHOUT_TIME, rows.num_rows)
        keys = np.arange(rows.num_rows) * pieces // rows.num_rows
        starts: dict[int, datetime | None] = dict.fromkeys(range(pieces))
    else:
        keys = _floors(seconds, most_segments(binning))
        starts = {
            key: None if key < 0 else EPOCH + timedelta(seconds=key)
            for key in np.unique(keys).tolist()
        }
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    if not bool((np.diff(keys) >= 0).all()):
        rows = rows.take(pa.array(order))
    bounds = np.flatnonzero(np.append(np.append(True, np.diff(ordered) != 0), True))
    return tuple(
        Segment(
            starts[int(ordered[low])],
            profile_features(rows.slice(low, high - low), columns, binning),
            profile_performance(rows.slice(low, high - low), binning),
        )
        for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    )


def most_segments(binning: Binning) -> int:
    """Return into how many pieces a reference is cut at most."""
    if not isinstance(binning.output, ManyClasses):
        return MOST_SEGMENTS
    # By label and prediction, and by prediction alone.
    cells = len(binning.output.names) * (2 * 2 + 2) * (len(binning.score_edges) + 1)
    return min(MOST_SEGMENTS, MOST_CELLS // cells)


def _seconds(rows: pa.Table) -> NDArray[np.int64] | None:
    """Return seconds since 1970 with -1 for null, or ``None`` if no row has a time."""
    array = find_array(rows, TIME)
    if array is None or array.null_count == len(array):
        return None
    micros = pc.fill_null(array.cast(pa.timestamp("us"), safe=False).cast(pa.int64()), -1)
    seconds: NDArray[np.int64] = micros.to_numpy() // 1_000_000
    return seconds


def _floors(seconds: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    for unit, offset in _UNITS:
        floors = np.where(seconds < 0, -1, (seconds - offset) // unit * unit + offset)
        if len(np.unique(floors)) <= most:
            break
    return floors


def chunk_segments(
    segments: Sequence[Segment],
    key: Callable[[datetime], datetime] | None,
    minimum_rows: int,
) -> list[Segment]:
    """Group neighbouring segments into chunks of a window's length.

    Parameters
    ----------
    segments
        In order of time.
    key
        Maps a segment's start to its window's start; without it, or for segments without a start,
        segments are grouped by size alone.
    minimum_rows
        Neighbouring windows are joined until a chunk has as many rows, because a chunk smaller
        than the window would overstate the reference's variability.

    Returns
    -------
    list of Segment
        In order; each with the start of its first window.  Smaller than ``minimum_rows`` only if
        all the segments together are.
    """
    windows: list[tuple[datetime | None, list[Segment]]] = []
    for segment in segments:
        start = segment.start if segment.start is None or key is None else key(segment.start)
        if key is not None and start is not None and windows and windows[-1][0] == start:
            windows[-1][1].append(segment)
        else:
            windows.append((start, [segment]))
    chunks: list[tuple[datetime | None, list[Segment]]] = []
    open_rows = minimum_rows
    for start, members in windows:
        if open_rows >= minimum_rows:
            chunks.append((start, []))
            open_rows = 0
        chunks[-1][1].extend(members)
        open_rows += sum(member.features.rows for member in members)
    if open_rows < minimum_rows and len(chunks) > 1:
        _, leftover = chunks.pop()
        chunks[-1][1].extend(leftover)
    return [_join(start, members) for start, members in chunks]


def _join(start: datetime | None, members: Sequence[Segment]) -> Segment:
    features = merge_features([member.features for member in members])
    performance = merge_performance([member.performance for member in members])
    return Segment(start, features, performance)


def segments_to_bytes(segments: Sequence[Segment]) -> bytes:
    """Serialise segments as a head of starts and lengths, and their profiles' frames."""
    frames = [
        frame
        for segment in segments
        for frame in (
            features_to_bytes(segment.features),
            performance_to_bytes(segment.performance),
        )
    ]
    starts = [None if s.start is None else s.start.isoformat() for s in segments]
    head = pack(b"S", {"starts": starts, "sizes": [len(frame) for frame in frames]}, [])
    return b"".join([len(head).to_bytes(4, "little"), head, *frames])


def segments_from_bytes(data: bytes) -> tuple[Segment, ...]:
    """Read segments; ``ValueError`` if the bytes are something else."""
    position = 4 + int.from_bytes(data[:4], "little")
    head, _ = unpack(b"S", data[4:position])
    frames = []
    for size in head["sizes"]:
        frames.append(data[position : position + size])
        position += size
    return tuple(
        Segment(
            None if start is None else datetime.fromisoformat(start),
            features_from_bytes(frames[2 * i]),
            performance_from_bytes(frames[2 * i + 1]),
        )
        for i, start in enumerate(head["starts"])
    )
