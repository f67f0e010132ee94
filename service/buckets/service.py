"""Dirty buckets are profiled: rows in, one small profile a bucket out."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from service.buckets.columns import profiled_columns
from service.buckets.reader import RowReader
from service.buckets.repository import Family
from service.buckets.slicing import Slicing
from service.ledger.marks import Item
from service.profiles.binning import Binning
from service.profiles.build import profile_features, profile_performance
from service.profiles.merge import merge_features, merge_performance
from service.profiles.profile import Performance, PerformanceProfile
from service.profiles.serialise import features_to_bytes, performance_to_bytes
from service.profiles.slices import Slices, merge_slices, slices_from_bytes, slices_to_bytes
from service.registry.values import VersionSpec

# A window of busier buckets has so many rows that the bins are exact enough.
MOST_RANKED_IN_BUCKET = 1_000

Key = tuple[int, datetime]
Contents = dict[Key, tuple[int, bytes]]

_HOUR_US = 3_600_000_000


def profile_buckets(
    reader: RowReader,
    version: VersionSpec,
    family: Family,
    items: Sequence[Item],
    binnings: Mapping[int, Binning],
) -> dict[tuple[int, datetime], tuple[int, bytes]]:
    """Profile neighbouring buckets in one read, whose memory is one batch of rows.

    Profiles merge, so rows may come in any order.  The result maps (binning, bucket start) to the
    number of rows and the serialised profile; empty buckets are absent.
    """
    wanted = {item.start for item in items}
    read = reader.features if family == "features" else reader.labelled
    batches = read(version, min(wanted), max(item.end for item in items))
    columns = profiled_columns(version)
    parts: defaultdict[tuple[int, datetime], list[Any]] = defaultdict(list)
    rows: defaultdict[datetime, int] = defaultdict(int)
    for batch in batches:
        for start, table in _by_hour(batch):
            if start not in wanted:
                continue
            rows[start] += table.num_rows
            for binning_id, binning in binnings.items():
                part = (
                    profile_features(table, columns, binning)
                    if family == "features"
                    else profile_performance(table, binning)
                )
                parts[binning_id, start].append(part)
    return {
        (binning_id, start): (
            rows[start],
            features_to_bytes(merge_features(found))
            if family == "features"
            else _performance_bytes(found),
        )
        for (binning_id, start), found in parts.items()
    }


def profile_slices(
    reader: RowReader,
    version: VersionSpec,
    items: Sequence[Item],
    binnings: Mapping[int, Binning],
    slicing: Slicing,
) -> tuple[Contents, Contents]:
    """Profile performance and slices of neighbouring buckets in one read of all their rows.

    Returns what ``profile_buckets`` does for performance, and the same of slices; these are there
    for every bucket, so that one without rows is known to have none.
    """
    wanted = {item.start for item in items}
    end = max(item.end for item in items)
    performances: defaultdict[Key, list[Any]] = defaultdict(list)
    # As bytes they are a hundredth of their size, and there may be a week of buckets.
    nothing = slices_to_bytes({})
    slices = {(binning_id, start): nothing for binning_id in binnings for start in wanted}
    rows: defaultdict[datetime, int] = defaultdict(int)
    labelled: defaultdict[datetime, int] = defaultdict(int)
    for batch in reader.with_labels(version, min(wanted), end, slicing.reads):
        for start, table in _by_hour(batch):
            if start not in wanted:
                continue
            known = table.num_rows - table["label"].null_count
            rows[start] += table.num_rows
            labelled[start] += known
            for binning_id, binning in binnings.items():
                key = (binning_id, start)
                if known:
                    performances[key].append(profile_performance(table, binning))
                slices[key] = _with_slices(slices[key], slicing.profile(table, binning), slicing)
    return (
        {key: (labelled[key[1]], _performance_bytes(found)) for key, found in performances.items()},
        {key: (rows[key[1]], found) for key, found in slices.items()},
    )


def _with_slices(known: bytes, found: Slices, slicing: Slicing) -> bytes:
    return slices_to_bytes(merge_slices((slices_from_bytes(known), found), slicing.limits))


def _performance_bytes(found: Sequence[Performance]) -> bytes:
    merged = merge_performance(found)
    if isinstance(merged, PerformanceProfile) and merged.ranked is not None:
        busy = len(merged.ranked) > MOST_RANKED_IN_BUCKET
        merged = replace(merged, ranked=None) if busy else merged
    return performance_to_bytes(merged)


def _by_hour(batch: pa.RecordBatch) -> Iterator[tuple[datetime, pa.Table]]:
    hours = batch.column("ts").cast(pa.int64()).to_numpy() // _HOUR_US
    table = pa.Table.from_batches([batch])
    if (np.diff(hours) < 0).any():
        order = np.argsort(hours, kind="stable")
        table, hours = table.take(pa.array(order)), hours[order]
    edges = np.flatnonzero(np.diff(hours, prepend=-1)).tolist()
    for first, last in zip(edges, [*edges[1:], len(hours)], strict=True):
        yield (
            datetime.fromtimestamp(int(hours[first]) * 3600, UTC),
            table.slice(first, last - first),
        )
