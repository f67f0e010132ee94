"""How many rows were given different labels, by every kind of output."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from service.profiles.arrays import RELABELLED
from service.profiles.build import profile_performance
from service.profiles.columns import Classes, ManyClasses, Output, Quantity
from service.profiles.frames import HEADER_BYTES, unpack
from service.profiles.freeze import freeze_binning
from service.profiles.merge import empty_performance, merge_performance
from service.profiles.serialise import performance_from_bytes, performance_to_bytes

TEXTS = pa.array(["0", "1", "1", "?", None])
NUMBERS = pa.array([0.0, 1.0, 2.0, float("inf"), None])
FLAGS = pa.array([True, False, True, True, None])


def head_of(written: bytes) -> dict[str, Any]:
    head, _ = unpack(written[HEADER_BYTES - 1 : HEADER_BYTES], written)
    return dict(head)


@pytest.mark.parametrize(
    ("output", "labels"),
    [(Classes("0", "1"), TEXTS), (ManyClasses(("0", "1", "2")), TEXTS), (Quantity(), NUMBERS)],
)
def test_relabelled_rows_add_up_and_are_kept(output: Output, labels: pa.Array) -> None:
    rows = pa.table({"prediction": labels, "label": labels, RELABELLED: FLAGS})
    binning = freeze_binning(rows, [], output)
    whole = profile_performance(rows, binning)
    assert (whole.relabelled, whole.labelled + whole.unusable) == (3, 4)
    parts = [profile_performance(rows.slice(at, 1), binning) for at in range(rows.num_rows)]
    merged = merge_performance([empty_performance(binning), *parts])
    assert merged.relabelled == 3
    assert performance_from_bytes(performance_to_bytes(merged)).relabelled == 3


@pytest.mark.parametrize("output", [Classes("0", "1"), ManyClasses(("0", "1", "2")), Quantity()])
def test_a_profile_without_relabelled_rows_is_that_of_the_release_before(output: Output) -> None:
    binning = freeze_binning(pa.table({}), [], output)
    none = empty_performance(binning)
    written = performance_to_bytes(none)
    assert "relabelled" not in head_of(written)
    assert head_of(performance_to_bytes(replace(none, relabelled=1)))["relabelled"] == 1
    assert performance_from_bytes(written).relabelled == 0
