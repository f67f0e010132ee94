"""The windows that a window is compared with: found, waited for, read and merged."""

from dataclasses import dataclass

from sqlalchemy import exists, select
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.repository import load_profiles, load_slices
from service.buckets.slicing import Slicing
from service.errors import UnknownVersionError
from service.evaluation.window import Baseline
from service.ledger.calendar import Interval
from service.ledger.marks import BUCKET_KINDS, Item
from service.ledger.tables import Arrival, DueWork
from service.profiles.binning import Binning
from service.profiles.merge import (
    empty_features,
    empty_performance,
    merge_features,
    merge_performance,
)
from service.profiles.segments import Segment
from service.profiles.serialise import features_from_bytes, performance_from_bytes
from service.profiles.slices import Slices, merge_slices, slices_from_bytes
from service.registry.repository import find_version
from service.registry.values import MonitorSpec, VersionSpec
from service.runs.comparisons import name_of, periods_of
from service.runs.knowledge import pieces_of
from service.runs.lacking import mark_lacking

# Where labels trickle in, some bucket is always dirty: each marks the window again anyway.
WAITS = 10


@dataclass(frozen=True, slots=True)
class Compared:
    """Other windows, of this version or of another; ``name`` tells people which."""

    model_id: int
    version_id: int
    periods: tuple[Interval, ...]
    name: str

    @property
    def items(self) -> list[Item]:
        """Return the periods as spans of the version."""
        return [Item(self.model_id, self.version_id, p.start, p.end) for p in self.periods]


@dataclass(frozen=True, slots=True, eq=False)
class Period:
    """One of the windows, merged."""

    segment: Segment
    slices: Slices


def find_compared(
    session: Session, version: VersionSpec, monitor: MonitorSpec, item: Item
) -> Compared | None:
    """Return which windows a window is compared with; ``None``: with the training reference.

    The version that others are compared with is itself compared with its training reference.
    """
    comparison = monitor.document.reference
    if comparison.kind == "training" or comparison.version == version.version:
        return None
    version_id, periods = (
        version.version_id,
        periods_of(monitor.document, Interval(item.start, item.end)),
    )
    if comparison.version is not None:
        try:
            version_id = find_version(session, version.model, comparison.version).version_id
        except UnknownVersionError:
            periods = ()
    return Compared(version.model_id, version_id, periods, name_of(comparison, periods))


def is_unsettled(session: Session, compared: Compared, binning_id: int, slicing: Slicing) -> bool:
    """Say whether a bucket of the periods is dirty; mark those that lack the window's binning."""
    if not compared.periods:
        return False
    first = min(period.start for period in compared.periods)
    end = max(period.end for period in compared.periods)
    dirty = exists().where(
        DueWork.kind.in_(BUCKET_KINDS),
        DueWork.model_id == compared.model_id,
        DueWork.version_id == compared.version_id,
        DueWork.start >= first,
        DueWork.start < end,
    )
    arriving = exists().where(
        Arrival.model_id == compared.model_id,
        Arrival.version_id == compared.version_id,
        Arrival.bucket >= first,
        Arrival.bucket < end,
    )
    if session.scalar(select(dirty | arriving)):
        return True
    lacking = [mark_lacking(session, item, binning_id, slicing) for item in compared.items]
    return any(lacking)


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """Under which edges, and with which slices, buckets are read."""

    id: int
    binning: Binning
    slicing: Slicing


def load_baseline(
    sessions: sessionmaker[Session],
    compared: Compared,
    edges: Edges,
    monitor: MonitorSpec,
) -> Baseline:
    """Read and merge the periods; each is a chunk."""
    binning, limits = edges.binning, edges.slicing.limits
    # One period after the other: all their buckets may be many.
    periods = (_load(sessions, item, edges) for item in compared.items)
    filled = [period for period in periods if period.segment.features.rows]
    segments = [period.segment for period in filled]
    slices = merge_slices((period.slices for period in filled), limits)
    several, metrics = len(filled) > 1, monitor.document.performance.metrics
    return Baseline(
        merge_features([empty_features(binning), *(s.features for s in segments)]),
        merge_performance([empty_performance(binning), *(s.performance for s in segments)]),
        segments if several else [],
        None,
        slices,
        pieces_of((period.slices for period in filled), slices, metrics, binning.slice_edges)
        if several
        else {},
        period=compared.name,
    )


def _load(sessions: sessionmaker[Session], item: Item, edges: Edges) -> Period:
    own, binning, slicing = (item.version_id, edges.id), edges.binning, edges.slicing
    slices: list[bytes] = []
    with sessions() as session:
        profiles = load_profiles(session, *own, item.start, item.end)
        if not slicing.is_empty:
            slices = load_slices(session, *own, slicing.family, item.start, item.end)
    features = map(features_from_bytes, profiles["features"])
    performance = map(performance_from_bytes, profiles["performance"])
    segment = Segment(
        item.start,
        merge_features([empty_features(binning), *features]),
        merge_performance([empty_performance(binning), *performance]),
    )
    return Period(segment, merge_slices(map(slices_from_bytes, slices), slicing.limits))
