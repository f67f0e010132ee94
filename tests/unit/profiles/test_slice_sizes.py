"""Slices of many classes, and of many hours, take no more memory than a worker has."""

import tracemalloc
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from service.buckets.reader import RowReader
from service.buckets.service import profile_slices
from service.buckets.slicing import Slicing
from service.detection.metrics import measure
from service.ledger.marks import Item
from service.profiles.binning import MOST_SLICE_CELLS
from service.profiles.build import profile_performance
from service.profiles.columns import ManyClasses
from service.profiles.freeze import freeze_binning
from service.profiles.profile import MulticlassProfile
from service.profiles.slices import merge_slices, slices_from_bytes
from service.registry.values import VersionSpec

N = 2_000
HOUR_US = 3_600_000_000
VERSION = VersionSpec(1, "fruit", "multiclass", 1, "1", "live", (), None, (), True, False)


def many(classes: int) -> tuple[pa.Table, ManyClasses]:
    """Return rows of a day whose score of their class is higher."""
    draw = np.random.default_rng(classes)
    names = tuple(f"c{i}" for i in range(classes))
    label = draw.integers(0, classes, N)
    scores = draw.random((N, classes))
    scores[np.arange(N), label] += 0.3
    columns: dict[str, object] = {
        "ts": pa.array(np.arange(N) * 24 // N * HOUR_US, pa.timestamp("us", "UTC")),
        "value": [f"v{i % 50}" for i in range(N)],
        "label": [names[i] for i in label],
        "prediction": [names[i] for i in scores.argmax(axis=1)],
    }
    columns |= {f"scores.{name}": scores[:, i] / 1.3 for i, name in enumerate(names)}
    return pa.table(columns), ManyClasses(names)


@pytest.mark.parametrize("classes", [3, 10, 50])
def test_a_slice_is_limited_in_size_and_hardly_less_exact(classes: int) -> None:
    rows, output = many(classes)
    binning = freeze_binning(rows, [], output)
    (found,) = Slicing((), (("all", "value is not null"),)).profile(rows, binning).values()
    assert isinstance(found.performance, MulticlassProfile)
    assert found.performance.score_counts.size <= MOST_SLICE_CELLS
    metrics = ["roc_auc", "accuracy", "log_loss"]
    coarse = measure(found.performance, metrics, binning.slice_edges)
    fine = measure(profile_performance(rows, binning), metrics, binning.score_edges)
    assert coarse.keys() == fine.keys()
    for key, own in coarse.items():
        assert own.value == pytest.approx(fine[key].value, abs=0.005)


class Reader(RowReader):
    """Every hour comes back in the next batch."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

    def with_labels(self, *_: object) -> Iterator[pa.RecordBatch]:
        for part in (self._rows, self._rows.slice(0, N // 2)):
            yield from part.to_batches()


def test_a_day_of_buckets_takes_less_memory_than_two() -> None:
    rows, output = many(20)
    binning, slicing = freeze_binning(rows, [], output), Slicing((("value",),), ())
    times = rows["ts"].unique().to_pylist()
    day = [Item(1, 1, at, at + timedelta(hours=1)) for at in times]
    peaks = []
    for items in (day[:1], day):
        tracemalloc.start()
        _, found = profile_slices(Reader(rows), VERSION, items, {1: binning}, slicing)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]
    merged = merge_slices((slices_from_bytes(data) for _, data in found.values()), slicing.limits)
    assert sum(count for count, _ in found.values()) == N * 3 // 2
    assert sum(own.rows for own in merged.values()) == N * 3 // 2
