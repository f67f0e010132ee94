"""Slices merge exactly, survive their bytes, and are what filtering the rows would give."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.buckets.predicates import rows_where
from service.buckets.slicing import Slicing
from service.profiles.build import profile_performance
from service.profiles.columns import Classes, Column, Kind, ManyClasses, Output, Quantity
from service.profiles.freeze import freeze_binning
from service.profiles.profile import Performance, PerformanceProfile, RegressionProfile
from service.profiles.serialise import performance_to_bytes
from service.profiles.slices import merge_slices, slices_from_bytes, slices_to_bytes
from service.registry.predicates import Comparison, Either, Not, OneOf, Predicate, parse

COLUMNS = [Column("region", Kind.CATEGORICAL), Column("amount", Kind.NUMERIC)]
SLICING = Slicing(
    (("region",), ("region", "tags.channel"), ("flag",)), (("big", "amount > 1 and label = 1"),)
)


def some_rows(n: int, seed: int = 0) -> pa.Table:
    draw = np.random.default_rng(seed)
    maybe = draw.random(n) < 0.2
    return pa.table(
        {
            "region": pa.array(draw.choice(["n", "s", "w"], n), mask=draw.random(n) < 0.1),
            "tags.channel": pa.array(draw.choice(["web", "app"], n)),
            "amount": draw.normal(1, 1, n),
            "flag": draw.random(n) < 0.5,
            "label": pa.array(draw.choice(["0", "1"], n), mask=maybe),
            "prediction": draw.choice(["0", "1"], n),
            "score": draw.random(n),
            "weight": draw.choice([1.0, 2.0], n),
        }
    )


BINNING = freeze_binning(some_rows(300), COLUMNS, Classes("0", "1"))


def counted(found: Performance) -> list[object]:
    """Return what merges exactly; sums merge to rounding."""
    if isinstance(found, RegressionProfile):
        return [found.labelled, found.zero_labels, found.outside_log]
    return [found.confusion.tolist(), found.score_counts.tolist()]


def seen(slices: object) -> dict[str, object]:
    assert isinstance(slices, dict)
    return {
        name: (
            s.columns,
            s.rank,
            s.rows,
            s.predicted.tolist(),
            s.predicted_weights.tolist(),
            counted(s.performance),
        )
        for name, s in sorted(slices.items())
    }


def test_a_slice_is_what_filtering_gives() -> None:
    rows = some_rows(500, 1)
    found = SLICING.profile(rows, BINNING)
    assert {"region=n", "region=n & tags.channel=web", "flag=true", "big"} <= found.keys()
    mask = np.array([value == "n" for value in rows["region"].to_pylist()])
    own = profile_performance(rows.filter(pa.array(mask)), BINNING)
    north = found["region=n"]
    assert north.rows == mask.sum()
    assert isinstance(own, PerformanceProfile)
    own = replace(own, ranked=None)
    assert performance_to_bytes(north.performance) == performance_to_bytes(own)
    assert north.predicted.sum() == mask.sum()
    assert sum(found[f"flag={value}"].rows for value in ("true", "false")) == 500


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 80), st.lists(st.integers(0, 80), max_size=3))
def test_merging_the_slices_of_parts_gives_those_of_all_rows(n: int, cuts: list[int]) -> None:
    rows = some_rows(n, n)
    bounds = [0, *sorted(min(cut, n) for cut in cuts), n]
    parts = [
        SLICING.profile(rows.slice(low, high - low), BINNING) for low, high in pairwise(bounds)
    ]
    whole = seen(SLICING.profile(rows, BINNING))
    assert seen(merge_slices(parts, SLICING.limits)) == whole
    assert seen(merge_slices(reversed(parts), SLICING.limits)) == whole


def test_bytes_lose_nothing() -> None:
    found = SLICING.profile(some_rows(200, 2), BINNING)
    assert seen(slices_from_bytes(slices_to_bytes(found))) == seen(found)
    assert slices_from_bytes(slices_to_bytes({})) == {}
    with pytest.raises(ValueError, match="not a version"):
        slices_from_bytes(b"something else")


@given(st.integers(1, 399))
@settings(max_examples=10, deadline=None)
def test_a_limit_keeps_the_same_slices_however_the_rows_come(cut: int) -> None:
    names = [f"v{i % 400}" for i in range(800)]
    rows = pa.table({"region": [*["n"] * 10, *names], "prediction": ["1"] * 810})
    slicing = Slicing((("region",),), ())
    whole = slicing.profile(rows, BINNING)
    parts = [
        slicing.profile(rows.slice(0, cut), BINNING),
        slicing.profile(rows.slice(cut), BINNING),
    ]
    assert len(whole) == 200
    assert "region=n" in whole
    assert seen(merge_slices(parts, slicing.limits)) == seen(whole)


def test_the_family_follows_what_is_declared() -> None:
    assert Slicing((("a",),), ()).family == Slicing((("a",),), ()).family
    assert Slicing((("a",),), ()).family != Slicing((("b",),), ()).family


ROWS = pa.table(
    {
        "n": [1.0, 2.0, None, float("nan"), -3.0],
        "t": ["a", "b", None, "10", "9"],
        "b": [True, False, None, True, False],
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n > 1", [1]),
        ("n >= 1 and n <= 2", [0, 1]),
        ("n between 1 and 2", [0, 1]),
        ("not n > 1", [0, 4]),
        ("n is null", [2, 3]),
        ("n is not null", [0, 1, 4]),
        ("n in (1, '2')", [0, 1]),
        ("n not in (1)", [1, 4]),
        ("n = 'text'", []),
        ("not n = 'text'", []),
        ("t = 'a' or n = -3", [0, 4]),
        ("t > 8", [3, 4]),
        ("t = 10", [3]),
        ("t < 'b'", [0, 3, 4]),
        ("t != 'a'", [1, 3, 4]),
        ("b = true", [0, 3]),
        ("b = 'false'", [1, 4]),
        ("b = 1", [0, 3]),
        ("nowhere = 1 or b = true", [0, 3]),
        ("nowhere is null", [0, 1, 2, 3, 4]),
        ("t = true", []),
    ],
)
def test_a_predicate_by_hand(text: str, expected: list[int]) -> None:
    assert np.flatnonzero(rows_where(ROWS, parse(text))).tolist() == expected


VALUES = (
    "0",
    "-0.0",
    "1",
    "10",
    "1e999",
    "x",
    "a",
    "true",
    "2026-01-01",
    "",
    0.0,
    -0.0,
    10.0,
    1e300,
)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([*VALUES, True, False]), min_size=1, max_size=8),
    st.sampled_from(["n", "t", "b", "nothing", "at", "vectors"]),
    st.booleans(),
)
def test_one_of_many_values_is_what_comparing_with_each_gives(
    values: list[str | float | bool], column: str, negated: bool
) -> None:
    rows = pa.table(
        {
            "n": [0.0, -0.0, 10.0, None, float("nan"), 1e300],
            "t": ["0", "-0.0", "a", None, "1e1", "true"],
            "b": [True, False, None, True, False, None],
            "nothing": pa.nulls(6),
            "at": pa.array([0, None, 1, 2, 3, 1_767_225_600_000_000], pa.timestamp("us", "UTC")),
            "vectors": [[1.0], None, [], [0.0], [10.0], [1e300]],
        }
    )
    each = Either(tuple(Comparison(column, "=", value) for value in values))
    one_of: Predicate = OneOf(column, tuple(values))
    expected = rows_where(rows, Not(each) if negated else each)
    assert rows_where(rows, Not(one_of) if negated else one_of).tolist() == expected.tolist()


@pytest.mark.parametrize("rows", [ROWS.slice(0, 0), ROWS.slice(2, 1), pa.table({"x": pa.nulls(3)})])
def test_odd_tables_have_slices_too(rows: pa.Table) -> None:
    slicing = Slicing((("n",), ("t", "b"), ("x",), ("nowhere",)), (("p", "x = 1"),))
    for found in slicing.profile(rows, BINNING).values():
        assert found.rows > 0


def of_task(output: Output, n: int = 400) -> pa.Table:
    draw = np.random.default_rng(4)
    rows: dict[str, object] = {"region": draw.choice(["n", "s"], n), "weight": draw.random(n)}
    if isinstance(output, Quantity):
        rows |= {"label": draw.normal(0, 1, n), "prediction": draw.normal(0, 1, n)}
    else:
        rows |= {name: draw.choice(output.names, n) for name in ("label", "prediction")}
        rows |= {f"scores.{name}": draw.random(n) for name in output.names}
    return pa.table(rows)


@pytest.mark.parametrize("output", [ManyClasses(("a", "b", "c")), Quantity()])
def test_slices_of_every_task_merge_and_survive_their_bytes(output: Output) -> None:
    rows = of_task(output)
    binning = freeze_binning(rows, COLUMNS[:1], output)
    slicing = Slicing((("region",),), (("first", "weight < 0.1"),))
    whole = slicing.profile(rows, binning)
    mask = pa.array([value == "n" for value in rows["region"].to_pylist()])
    own = profile_performance(rows.filter(mask), binning)
    assert performance_to_bytes(whole["region=n"].performance) == performance_to_bytes(own)
    assert whole["region=n"].predicted.sum() == own.labelled
    assert len(whole["first"].predicted) == (1 if isinstance(output, Quantity) else 3)
    read = slices_from_bytes(slices_to_bytes(whole))
    for name, found in whole.items():
        assert performance_to_bytes(read[name].performance) == performance_to_bytes(
            found.performance
        )
    assert seen(read) == seen(whole)
    parts = [slicing.profile(rows.slice(at, 100), binning) for at in range(0, 400, 100)]
    for name, found in merge_slices(parts, slicing.limits).items():
        assert found.predicted.tolist() == whole[name].predicted.tolist()
        assert counted(found.performance) == counted(whole[name].performance)
