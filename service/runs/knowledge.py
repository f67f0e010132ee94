"""What a judgement needs beside the window, read once and kept while it cannot change."""

import io
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.buckets.slicing import Slicing
from service.detection.estimates import Calibrators, calibrators_from_bytes
from service.detection.metric_value import MetricValue
from service.detection.metrics import measure
from service.detection.multiclass import Key
from service.detection.multiclass_joint import JointScores, joint_scores
from service.evaluation.slices import FEWEST_PIECES, Pieces
from service.evaluation.window import Baseline
from service.ledger.calendar import calendar_start
from service.profiles.arrays import LABEL, SCORES, score_column
from service.profiles.binning import Binning
from service.profiles.columns import ManyClasses, Output
from service.profiles.merge import merge_features, merge_performance
from service.profiles.segments import Segment, chunk_segments, segments_from_bytes
from service.profiles.serialise import binning_from_bytes
from service.profiles.slices import Slices, merge_slices
from service.registry.repository import (
    load_binning,
    reference_calibrator,
    reference_sample,
    reference_segments,
)
from service.registry.values import MonitorSpec
from service.runs.tables import Erasure

T = TypeVar("T")

KEPT = 64
KEPT_SAMPLES = 8
# More pieces say little more of how much a slice varies by itself.
MOST_PIECES = 30


def newest_erasure(session: Session) -> int | None:
    """Return the last erasure: what was read before it may hold what is to be nowhere."""
    return session.scalar(select(func.max(Erasure.id)))


class _Kept(Generic[T]):
    """The last few values by key; what they are made from never changes."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._values:
            self._values[key] = make()
            while len(self._values) > self._kept:
                self._values.popitem(last=False)
        self._values.move_to_end(key)
        return self._values[key]


@dataclass(frozen=True, slots=True)
class LoadedReference:
    """A reference revision, deserialised; ``whole`` is the merge of its segments."""

    id: int
    segments: tuple[Segment, ...]
    whole: Segment
    calibrator: Calibrators | None
    joint: JointScores | None = None
    groups: "SlicedReference | None" = None


@dataclass(frozen=True, slots=True, eq=False)
class SlicedReference:
    """The slices of a reference's sample, whole and in the pieces that chunks are made of."""

    rows: pa.Table
    binning: Binning
    slicing: Slicing
    whole: Slices


class Knowledge:
    """Binnings and references by id, deserialised."""

    def __init__(self) -> None:
        self._erasure: int | None = None
        self._forget()

    def _forget(self) -> None:
        self._binnings: _Kept[Binning] = _Kept()
        self._references: _Kept[LoadedReference] = _Kept()
        self._chunks: _Kept[list[Segment]] = _Kept()
        # Samples are larger than profiles.
        self._groups: _Kept[SlicedReference] = _Kept(KEPT_SAMPLES)
        self._pieces: _Kept[Pieces] = _Kept()

    def refresh(self, session: Session) -> None:
        """Let go of everything if something was erased since: what never changes did then."""
        newest = newest_erasure(session)
        if newest != self._erasure:
            self._forget()
            self._erasure = newest

    def binning(self, session: Session, binning_id: int) -> Binning:
        """Return a binning by its id."""
        return self._binnings.get(
            binning_id, lambda: binning_from_bytes(load_binning(session, binning_id))
        )

    def reference(
        self, session: Session, reference_id: int, binning_id: int, slicing: Slicing
    ) -> LoadedReference:
        """Return a reference revision by its id, with its own slices where any are declared."""
        binning = self.binning(session, binning_id)
        loaded = self._references.get(
            reference_id, lambda: _load(session, reference_id, binning.output)
        )
        if slicing.is_empty:
            return loaded
        groups = self._groups.get(
            (reference_id, slicing), lambda: _slice(session, reference_id, binning, slicing)
        )
        return replace(loaded, groups=groups)

    def baseline(self, reference: LoadedReference, monitor: MonitorSpec, rows: int) -> Baseline:
        """Return the reference in chunks of the window's length.

        Without times there are none: the order of a file's rows may mean anything, and one that
        is sorted by its label would make every window look like the reference.
        """
        calendar = _calendar(monitor, reference)
        if calendar is None:
            groups = reference.groups
            return Baseline(
                reference.whole.features,
                reference.whole.performance,
                [],
                reference.calibrator,
                {} if groups is None else groups.whole,
                {},
                joint=reference.joint,
            )
        document = monitor.document
        # Two digits are enough for the size of a chunk, and let windows share it.
        size = int(float(f"{rows:.1e}"))
        chunks = self._chunks.get(
            (reference.id, document.window, document.timezone, size),
            lambda: chunk_segments(reference.segments, calendar, size),
        )
        groups = reference.groups
        pieces: Pieces = {}
        if groups is not None:
            metrics = document.performance.metrics
            pieces = self._pieces.get(
                (reference.id, groups.slicing, document.window, document.timezone, size, metrics),
                lambda: _pieces(groups, calendar, size, metrics),
            )
        return Baseline(
            reference.whole.features,
            reference.whole.performance,
            chunks,
            reference.calibrator,
            {} if groups is None else groups.whole,
            pieces,
            joint=reference.joint,
        )


def _load(session: Session, reference_id: int, output: Output) -> LoadedReference:
    segments = segments_from_bytes(reference_segments(session, reference_id))
    calibrator = reference_calibrator(session, reference_id)
    whole = Segment(
        None,
        merge_features([segment.features for segment in segments]),
        merge_performance([segment.performance for segment in segments]),
    )
    return LoadedReference(
        reference_id,
        tuple(segments),
        whole,
        calibrators_from_bytes(calibrator) if calibrator else None,
        _joint(session, reference_id, output),
    )


def _joint(session: Session, reference_id: int, output: Output) -> JointScores | None:
    """Read the labels and scores of the reference's sample; only a mean over classes needs them."""
    if not isinstance(output, ManyClasses):
        return None
    file = pq.ParquetFile(io.BytesIO(reference_sample(session, reference_id)))
    own = {LABEL, "weight", *map(score_column, output.names)}
    return joint_scores(file.read([n for n in file.schema_arrow.names if n in own]), output)


def _slice(
    session: Session, reference_id: int, binning: Binning, slicing: Slicing
) -> SlicedReference:
    """Slice the reference's sample: all of its rows, or 50,000 of them.

    What is declared may change after the rows of a reference are gone, the sample stays.
    """
    rows = pq.read_table(io.BytesIO(reference_sample(session, reference_id)))
    own = {"ts", "prediction", "score", "weight", "label"} | slicing.reads
    rows = rows.select([n for n in rows.column_names if n in own or n.startswith(SCORES)])
    whole = merge_slices([slicing.profile(rows, binning)], slicing.limits)
    return SlicedReference(rows, binning, slicing, whole)


def _pieces(
    groups: SlicedReference,
    calendar: Callable[[datetime], datetime],
    size: int,
    metrics: Sequence[str],
) -> Pieces:
    """Measure the slices of the sample in chunks of a window's length, or in more and smaller ones.

    Smaller chunks can only overstate how much a slice varies by itself; fewer than ten say so
    little that nothing could be told from chance.
    """
    rows = groups.rows.sort_by("ts")
    count = min(max(rows.num_rows // max(size, 1), FEWEST_PIECES), MOST_PIECES)
    keys = np.arange(rows.num_rows) * count // max(rows.num_rows, 1)
    hours: list[datetime] = pc.floor_temporal(rows["ts"], unit="hour").to_pylist()
    window_of = {at: calendar(at) for at in set(hours)}
    starts = sorted(set(window_of.values()))
    if len(starts) >= FEWEST_PIECES:
        count = min(len(starts), MOST_PIECES)
        piece = {start: i * count // len(starts) for i, start in enumerate(starts)}
        keys = np.array([piece[window_of[at]] for at in hours], np.int64)
    chunks = (
        groups.slicing.profile(rows.filter(pa.array(keys == key)), groups.binning)
        for key in np.unique(keys).tolist()
    )
    return pieces_of(chunks, groups.whole, metrics, groups.binning.slice_edges)


def pieces_of(
    chunks: Iterable[Slices], whole: Slices, metrics: Sequence[str], edges: NDArray[np.float64]
) -> Pieces:
    """Measure the slices of the whole in each of its chunks."""
    found: dict[str, list[Mapping[Key, MetricValue]]] = {}
    for chunk in chunks:
        for name, profile in chunk.items():
            if name in whole:
                found.setdefault(name, []).append(measure(profile.performance, metrics, edges))
    return found


def _calendar(
    monitor: MonitorSpec, reference: LoadedReference
) -> Callable[[datetime], datetime] | None:
    if any(segment.start is None for segment in reference.segments):
        return None
    document = monitor.document
    return partial(calendar_start, length=document.window, zone=ZoneInfo(document.timezone))
