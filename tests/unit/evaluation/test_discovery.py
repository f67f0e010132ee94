"""Slices that nobody declared: found when they break, and hardly ever when nothing does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from service.evaluation.discovery import METHOD, SUMMARY, DiscoveryPolicy, discover
from service.evaluation.judgement import undeclared
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.performance import PerformancePolicy
from service.evaluation.policy import family_of
from service.profiles.binning import Binning
from service.profiles.columns import Classes, Column, Kind, ManyClasses, Output, Quantity
from service.profiles.freeze import freeze_binning

COLUMNS = [
    Column("region", Kind.CATEGORICAL),
    Column("plan", Kind.CATEGORICAL),
    *(Column(f"x{i}", Kind.NUMERIC) for i in range(4)),
]


def some_rows(seed: int, n: int, output: Output, broken: float | None = None) -> pa.Table:
    """Draw rows; the north is 4 % of them, and has its own share of errors if it broke."""
    draw = np.random.default_rng(seed)
    rows: dict[str, Any] = {
        "region": np.where(draw.random(n) < 0.04, "north", draw.choice(["south", "west"], n)),
        "plan": draw.choice(["basic", "gold", "free"], n),
        **{f"x{i}": draw.normal(0, 1, n) for i in range(4)},
    }
    north = rows["region"] == "north"
    if isinstance(output, Quantity):
        label = draw.normal(10, 2, n)
        spread = np.where(north & (broken is not None), broken or 1.0, 1.0)
        return pa.table(
            {**rows, "label": label, "prediction": label + draw.normal(0, 1, n) * spread}
        )
    names = np.array(output.names)
    wrong = draw.random(n) < np.where(north & (broken is not None), broken or 0.1, 0.1)
    label_code = draw.integers(0, len(names), n)
    named = {"label": names[label_code], "prediction": names[(label_code + wrong) % len(names)]}
    return pa.table({**rows, **named})


def a_binning(output: Output) -> Binning:
    return freeze_binning(pa.table({"prediction": [0.0, 1.0]}), [], output)


def judge(
    reference: pa.Table, current: pa.Table, output: Output, **policy: Any
) -> list[Measurement]:
    metric = "rmse" if isinstance(output, Quantity) else "accuracy"
    performance = PerformancePolicy(metrics=(metric,), **policy)
    own = DiscoveryPolicy(performance=performance)
    return discover(reference, current, COLUMNS, a_binning(output), own).measurements


BINARY = Classes("0", "1")


@pytest.mark.parametrize(
    ("output", "broken"),
    [(BINARY, 0.35), (ManyClasses(("a", "b", "c")), 0.35), (Quantity(), 2.5)],
)
def test_a_broken_slice_of_any_task_is_found_by_its_name(output: Output, broken: float) -> None:
    reference, current = some_rows(1, 10_000, output), some_rows(2, 5_000, output, broken)
    summary, found, *others = judge(reference, current, output)
    assert not others
    assert (summary.metric, summary.value, summary.verdict) == (SUMMARY, 1, Verdict.OK)
    assert (found.slice, found.method) == ("region=north", "discovered")
    assert found.verdict is Verdict.ALERT
    assert found.p_value is not None
    assert found.p_value < 0.01
    assert found.value is not None
    assert found.reference_value is not None
    assert found.ci_low is not None
    assert found.ci_high is not None
    assert found.ci_low < found.value < found.ci_high
    # It is of the rows that confirm it, two thirds.
    north = sum(value == "north" for value in current["region"].to_pylist())
    assert found.n == pytest.approx(0.65 * north, rel=0.2)
    assert {family_of(summary), family_of(found)} == {"slices"}


def test_the_same_rows_give_the_same_slices() -> None:
    reference, current = some_rows(1, 5_000, BINARY), some_rows(2, 5_000, BINARY, 0.4)
    assert judge(reference, current, BINARY) == judge(reference, current, BINARY)


def test_what_was_always_hard_is_no_news_and_a_loss_everywhere_is_no_slices() -> None:
    hard = some_rows(1, 10_000, BINARY, 0.35), some_rows(2, 5_000, BINARY, 0.35)
    assert [m.metric for m in judge(*hard, BINARY)] == [SUMMARY]
    draw = np.random.default_rng(3)
    current = some_rows(4, 5_000, BINARY)
    worse = np.where(draw.random(5_000) < 0.2, "0", current["prediction"].to_numpy())
    everywhere = current.set_column(
        current.column_names.index("prediction"), "prediction", pa.array(worse)
    )
    found = judge(some_rows(1, 10_000, BINARY), everywhere, BINARY)
    # Half of the predictions that were 0 already stay right: the loss is alike in every slice.
    assert [m.metric for m in found] == [SUMMARY]


@pytest.mark.parametrize(
    ("n", "unlabelled", "before", "reason"),
    [
        (150, 0, 5_000, "few_rows"),
        (1_000, 600, 5_000, "label_coverage"),
        (1_000, 0, 150, "reference_insufficient"),
        (0, 0, 5_000, "few_rows"),
    ],
)
def test_what_cannot_be_searched_says_why(
    n: int, unlabelled: int, before: int, reason: str
) -> None:
    current = some_rows(2, n, BINARY)
    labels = current["label"].to_pylist()
    labels[:unlabelled] = [None] * unlabelled
    current = current.set_column(
        current.column_names.index("label"), "label", pa.array(labels, pa.string())
    )
    (summary,) = judge(some_rows(1, before, BINARY), current, BINARY)
    assert (summary.value, summary.verdict) == (None, Verdict.INSUFFICIENT_DATA)
    assert summary.reason == reason


def test_odd_columns_and_infinite_numbers_are_no_exception() -> None:
    n = 1_000
    odd = {
        "region": pa.nulls(n, pa.string()),
        "plan": [f"v{i}" for i in range(n)],
        "x0": pa.nulls(n, pa.float64()),
        "x1": np.full(n, np.inf),
        "x2": np.full(n, 3.0),
        "x3": np.arange(n) * 1e300,
    }
    label = np.arange(n) % 2
    binary = pa.table({**odd, "label": label.astype(str), "prediction": ["1"] * n})
    numbers = pa.table(
        {**odd, "label": label * 1e300, "prediction": np.where(label == 1, np.nan, 1e200)}
    )
    assert judge(binary, binary, BINARY)[0].metric == SUMMARY
    assert judge(numbers, numbers, Quantity())[0].metric == SUMMARY


@pytest.mark.parametrize("output", [BINARY, Quantity()])
def test_hardly_any_slice_is_found_where_nothing_changed(output: Output) -> None:
    windows, alarms = 25, 0
    for seed in range(windows):
        reference = some_rows(1_000 + seed, 1_500, output)
        found = judge(reference, some_rows(seed, 800, output), output, alpha=0.05, tolerance=0.0)
        alarms += len(found) > 1
    # At the level of .05 more than 5 of 25 happen once in 800 runs.
    assert alarms <= 5


@pytest.mark.parametrize(
    ("verdict", "kept"), [(Verdict.OK, 1), (Verdict.ALERT, 1), (Verdict.INSUFFICIENT_DATA, 2)]
)
def test_what_is_found_of_a_slice_that_is_judged_as_declared_is_left_out(
    verdict: Verdict, kept: int
) -> None:
    found = Measurement(
        metric="accuracy",
        slice="region=south",
        value=0.49,
        n=159,
        method=METHOD,
        direction=Direction.LOWER_IS_WORSE,
        verdict=Verdict.ALERT,
    )
    declared = replace(found, n=248, method="wilson", verdict=verdict)
    elsewhere = replace(found, slice="region=north")
    said = undeclared([declared, found, elsewhere])
    assert said == [declared, found, elsewhere][:: 2 if kept == 1 else 1]
