"""What a judgement needs beside the window, read once and kept while it cannot change."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from service.detection.estimation import Calibrator, calibrator_from_bytes
from service.evaluation.window import Baseline
from service.ledger.calendar import calendar_start
from service.profiles.binning import Binning
from service.profiles.merge import merge_features, merge_performance
from service.profiles.segments import Segment, chunk_segments, segments_from_bytes
from service.profiles.serialise import binning_from_bytes
from service.registry.repository import (
    load_binning,
    reference_calibrator,
    reference_segments,
)
from service.registry.values import MonitorSpec

T = TypeVar("T")

KEPT = 64


class _Kept(Generic[T]):
    """The last few values by key; what they are made from never changes."""

    def __init__(self) -> None:
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._values:
            self._values[key] = make()
            while len(self._values) > KEPT:
                self._values.popitem(last=False)
        self._values.move_to_end(key)
        return self._values[key]


@dataclass(frozen=True, slots=True)
class LoadedReference:
    """A reference revision, deserialised; ``whole`` is the merge of its segments."""

    id: int
    segments: tuple[Segment, ...]
    whole: Segment
    calibrator: Calibrator | None


class Knowledge:
    """Binnings and references by id, deserialised."""

    def __init__(self) -> None:
        self._binnings: _Kept[Binning] = _Kept()
        self._references: _Kept[LoadedReference] = _Kept()
        self._chunks: _Kept[list[Segment]] = _Kept()

    def binning(self, session: Session, binning_id: int) -> Binning:
        """Return a binning by its id."""
        return self._binnings.get(
            binning_id, lambda: binning_from_bytes(load_binning(session, binning_id))
        )

    def reference(self, session: Session, reference_id: int) -> LoadedReference:
        """Return a reference revision by its id."""
        return self._references.get(reference_id, lambda: _load(session, reference_id))

    def baseline(self, reference: LoadedReference, monitor: MonitorSpec, rows: int) -> Baseline:
        """Return the reference in chunks of the window's length or, without times, its size."""
        document = monitor.document
        # Two digits are enough for the size of a chunk, and let windows share it.
        size = int(float(f"{rows:.1e}"))
        chunks = self._chunks.get(
            (reference.id, document.window, document.timezone, size),
            lambda: chunk_segments(reference.segments, _calendar(monitor, reference), size),
        )
        return Baseline(
            reference.whole.features, reference.whole.performance, chunks, reference.calibrator
        )


def _load(session: Session, reference_id: int) -> LoadedReference:
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
        calibrator_from_bytes(calibrator) if calibrator else None,
    )


def _calendar(
    monitor: MonitorSpec, reference: LoadedReference
) -> Callable[[datetime], datetime] | None:
    if any(segment.start is None for segment in reference.segments):
        return None
    document = monitor.document
    return partial(calendar_start, length=document.window, zone=ZoneInfo(document.timezone))
