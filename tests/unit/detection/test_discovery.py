"""Predicates as people write them, and the search for what got worse."""

from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.buckets.predicates import rows_where
from service.detection.discovery import (
    MOST_PRIOR,
    Losses,
    excess_score,
    find_worse_slices,
    prior_rows,
    sums_of,
)
from service.detection.predicates import Mask, learn_vocabulary
from service.profiles.columns import Column, Kind
from service.registry.predicates import parse

COLUMNS = [
    Column("income", Kind.NUMERIC),
    Column("children", Kind.NUMERIC),
    Column("region", Kind.CATEGORICAL),
    Column("owner", Kind.BOOLEAN),
    Column("empty", Kind.NUMERIC),
    Column("constant", Kind.NUMERIC),
]


def some_rows(seed: int, n: int = 4000) -> pa.Table:
    draw = np.random.default_rng(seed)
    return pa.table(
        {
            "income": pa.array(draw.lognormal(10, 1, n), mask=draw.random(n) < 0.05),
            "children": draw.poisson(1, n).astype(float),
            "region": draw.choice(["north", "south", "west"], n, p=[0.1, 0.5, 0.4]),
            "owner": draw.random(n) < 0.5,
            "empty": pa.nulls(n, pa.float64()),
            "constant": np.ones(n),
            "tags.channel": draw.choice(["web", "app"], n),
        }
    )


REFERENCE = some_rows(0)
WORDS = learn_vocabulary(REFERENCE, COLUMNS)
NAMES = {WORDS.describe([i]): i for i in range(WORDS.size)}


def test_predicates_are_what_people_would_write() -> None:
    assert {"region=north", "owner=true", "tags.channel=web", "children < 1"} <= NAMES.keys()
    assert {"children >= 3", "income is null"} <= NAMES.keys()
    assert not any(name.startswith(("empty", "constant")) for name in NAMES)
    cuts = [p.low for p in WORDS.predicates if p.name == "income" and p.low is not None]
    assert len(cuts) == 15
    # Quantiles of incomes around 22,000, to two digits or three.
    assert all(float(f"{cut:.3g}") == cut for cut in cuts)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_predicate_is_true_where_the_declared_one_would_be(name: str) -> None:
    text = name
    if "=" in name and ">=" not in name:
        column, value = name.split("=")
        text = f"{column} = '{value}'"
    rows = some_rows(1, 500)
    found = WORDS.mask(WORDS.codes(rows), [NAMES[name]])
    assert found.tolist() == rows_where(rows, parse(text)).tolist()


def test_values_that_the_reference_has_not_are_in_no_slice_of_a_value() -> None:
    rows = pa.table({"region": ["east", None], "income": [float("nan"), 1e9]})
    codes = WORDS.codes(rows)
    assert not WORDS.mask(codes, [NAMES["region=north"]]).any()
    assert WORDS.mask(codes, [NAMES["income is null"]]).tolist() == [True, False]
    assert WORDS.mask(codes, [NAMES["children is null"]]).all()


def losses_of(rows: pa.Table, seed: int, share: Any) -> Losses:
    draw = np.random.default_rng(seed)
    wrong = draw.random(rows.num_rows) < share
    return Losses(WORDS.codes(rows), wrong.astype(np.float64))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 30.0]))
def test_the_search_scores_every_pair_as_counting_its_rows_would(seed: int, prior: float) -> None:
    before, now = (losses_of(some_rows(s, 300), s, 0.3) for s in (seed, seed + 1))
    chosen = find_worse_slices(WORDS, before, now, min_rows=20, most=1, most_predicates=2)
    scores = {}
    for pair in [*((i,) for i in range(WORDS.size)), *combinations(range(WORDS.size), 2)]:
        new, old = (sums_of(side, WORDS.mask(side.codes, pair)) for side in (now, before))
        score = float(excess_score(new, old, 20, prior_rows(WORDS, before)))
        scores[pair] = score - (len(pair) - 1)
    best = max(scores.values())
    assert not chosen or scores[chosen[0]] == pytest.approx(best, rel=1e-4)
    assert bool(chosen) == (best >= 1.5)


def test_the_slice_that_broke_is_found_and_one_that_was_always_hard_is_not() -> None:
    before, now = some_rows(2), some_rows(3)

    def is_of(rows: pa.Table, name: str) -> Mask:
        return WORDS.mask(WORDS.codes(rows), [NAMES[name]])

    hard = [np.where(is_of(rows, "owner=true"), 0.3, 0.1) for rows in (before, now)]
    broken = np.where(is_of(now, "region=north"), 0.5, hard[1])
    found = find_worse_slices(
        WORDS, losses_of(before, 4, hard[0]), losses_of(now, 5, broken), min_rows=50, most=2
    )
    assert WORDS.describe(found[0]) == "region=north"
    everywhere = find_worse_slices(
        WORDS, losses_of(before, 4, hard[0]), losses_of(now, 5, hard[1] + 0.2), min_rows=50, most=1
    )
    assert "owner" not in " ".join(WORDS.describe(one) for one in everywhere)


def test_a_slice_of_two_predicates_is_found_by_both() -> None:
    before, now = some_rows(6, 8000), some_rows(7, 8000)
    both = [NAMES["owner=true"], NAMES["tags.channel=web"], NAMES["region=west"]]
    share = np.where(WORDS.mask(WORDS.codes(now), both), 0.5, 0.1)
    found = find_worse_slices(
        WORDS, losses_of(before, 8, 0.1), losses_of(now, 9, share), min_rows=50, most=1
    )
    assert WORDS.describe(found[0]) == "region=west & owner=true & tags.channel=web"


def test_the_prior_is_strong_where_all_lose_alike() -> None:
    assert prior_rows(WORDS, losses_of(REFERENCE, 1, 0.2)) > 500
    codes = WORDS.codes(REFERENCE)
    hard = np.where(WORDS.mask(codes, [NAMES["owner=true"]]), 0.5, 0.1)
    # The variance of the means .5 and .1 is .08, that of a row .21.
    assert prior_rows(WORDS, losses_of(REFERENCE, 1, hard)) == pytest.approx(0.21 / 0.08, rel=0.2)
    assert prior_rows(WORDS, Losses(codes[:0], np.empty(0))) == MOST_PRIOR


def test_nothing_is_found_among_no_rows_or_no_features() -> None:
    none = losses_of(REFERENCE.slice(0, 0), 0, 0.1)
    assert find_worse_slices(WORDS, none, none, min_rows=50) == []
    empty = learn_vocabulary(REFERENCE.select(["empty"]), COLUMNS)
    assert empty.size == 0
    rows = Losses(empty.codes(REFERENCE), np.zeros(REFERENCE.num_rows))
    assert find_worse_slices(empty, rows, rows, min_rows=50) == []
