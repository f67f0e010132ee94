"""Features that tell each other are found in pairs, and nothing else is."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from service.detection.redundancy import find_redundant

ROWS = 2_000


def kinds_of(table: pa.Table) -> dict[str, str]:
    return {
        field.name: "numeric" if pa.types.is_floating(field.type) else "categorical"
        for field in table.schema
    }


def find(**columns: object) -> list[tuple[str, str]]:
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    return find_redundant(table, kinds_of(table))


def draw(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_any_rising_or_falling_function_of_a_number_is_redundant() -> None:
    x = draw().normal(size=ROWS)
    found = find(x=x, more=np.exp(x), less=-(x**3), other=draw(2).normal(size=ROWS))
    assert found == [("x", "more"), ("x", "less"), ("more", "less")]


def test_a_nearly_perfect_correlation_counts_from_spearmans_999_on() -> None:
    x, noise = draw().normal(size=ROWS), draw(2).normal(size=ROWS)
    for scale in (0.01, 0.02, 0.05, 0.08, 0.2):
        y = x + scale * noise
        expected = stats.spearmanr(x, y).statistic >= 0.999
        assert bool(find(x=x, y=y)) == expected


def test_values_that_are_missing_elsewhere_do_not_hide_a_pair() -> None:
    x = draw().normal(size=ROWS)
    gaps = [draw(seed).random(ROWS) < 0.3 for seed in (2, 3)]
    one, two = (np.where(gap, np.nan, x) for gap in gaps)
    assert find(one=one, two=two) == [("one", "two")]


def test_codes_and_names_of_the_same_things_are_redundant() -> None:
    codes = draw().integers(0, 12, ROWS)
    names = np.array([f"plan {i * 7 % 12}" for i in range(12)])[codes]
    shuffled = draw().permutation(12).astype(float)[codes]
    groups = np.array([f"group {i // 3}" for i in range(12)])[codes]
    found = find(code=codes.astype(str), name=names, number=shuffled, group=groups)
    assert found == [("code", "name"), ("code", "number"), ("name", "number")]


def test_ids_and_nearly_constant_columns_are_redundant_with_nothing() -> None:
    ids = [f"id {i}" for i in range(ROWS)]
    rare = ["yes"] + ["no"] * (ROWS - 1)
    assert find(one=ids, two=ids[::-1], rare=rare, rarer=rare) == []


@pytest.mark.parametrize("values", [[], [None] * 500, [1.0] * 500, [np.nan] * 500])
def test_columns_without_values_are_no_pair(values: list[float | None]) -> None:
    column = pa.array(values, pa.float64())
    assert find_redundant(pa.table({"x": column, "y": column}), {"x": "numeric"}) == []
    assert find(x=column, y=column) == []


def test_two_hundred_columns_that_only_resemble_each_other_are_no_pairs() -> None:
    rng = draw()
    base = rng.normal(size=(20_000, 1))
    numbers = base + rng.normal(size=(20_000, 150))
    words = rng.integers(0, 9, (20_000, 50)).astype(str)
    table = {f"x{i}": numbers[:, i] for i in range(150)} | {f"k{i}": words[:, i] for i in range(50)}
    assert find(**table) == []
