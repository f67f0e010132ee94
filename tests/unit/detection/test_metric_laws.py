"""Every metric of every task declares laws, and every law it declares holds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.detection import metric_laws as laws
from service.detection.metric_laws import METRIC_SPECS
from service.detection.metric_value import MetricValue
from service.detection.metrics import KNOWN, METRICS_OF, measure
from service.detection.multiclass import Key
from service.detection.outputs import OUTPUTS, measure_outputs
from service.evaluation.measurement import Direction
from service.evaluation.performance import direction_of
from service.profiles.binning import Binning
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Classes, ManyClasses, Output, Quantity
from service.profiles.freeze import freeze_binning
from service.profiles.merge import merge_features, merge_performance

Values = dict[Key, MetricValue]
NAMES = np.array(["a", "b", "c"])
TASKS: dict[str, Output] = {
    "binary": Classes("0", "1"),
    "multiclass": ManyClasses(("a", "b", "c")),
    "regression": Quantity(),
}
FEET = 3.28


def some_rows(task: str, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(40, 300))
    if task == "binary":
        score = rng.beta(0.7, 1.2, n)
        label = (rng.random(n) < score).astype(int)
        predicted = np.where(score > 0.5, "1", "0")
        return pa.table({"score": score, "prediction": predicted, "label": label.astype(str)})
    if task == "multiclass":
        scores = rng.dirichlet((1.0, 0.7, 0.4), n)
        label = (scores.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, 2)
        return scored(scores, NAMES[scores.argmax(axis=1)], NAMES[label])
    label = rng.uniform(1, 70, n)
    return pa.table({"prediction": np.abs(label + rng.normal(1, 4, n)), "label": label})


def scored(scores: Any, predicted: Any, label: Any) -> pa.Table:
    columns = {f"scores.{name}": scores[:, i] for i, name in enumerate(NAMES)}
    return pa.table({"prediction": predicted, "label": label, **columns})


def edges_of(task: str, rows: pa.Table) -> Binning:
    return freeze_binning(rows, [], TASKS[task])


def values_of(binning: Binning, *parts: pa.Table) -> Values:
    performance = merge_performance([profile_performance(part, binning) for part in parts])
    features = merge_features([profile_features(part, [], binning) for part in parts])
    found = measure(performance, edges=binning.score_edges)
    return found | measure_outputs(features, binning)


def measured(task: str, rows: pa.Table, *, weight: Any = None) -> Values:
    binning = edges_of(task, rows)
    if weight is not None:
        rows = rows.append_column("weight", pa.array(np.broadcast_to(weight, rows.num_rows) * 1.0))
    return values_of(binning, rows)


def same(a: Values, b: Values, law: str, tolerance: float = 1e-9, factor: float = 1.0) -> None:
    assert set(a) == set(b)
    for key in obeying(a, law):
        assert b[key].reason == a[key].reason, key
        for one, other in ((a[key].value, b[key].value), (a[key].ci_low, b[key].ci_low)):
            assert (one is None) == (other is None), key
            if one is not None:
                assert other == pytest.approx(factor * one, rel=tolerance, abs=tolerance), key


def obeying(values: Values, law: str) -> list[Key]:
    return [key for key in values if law in METRIC_SPECS[key[0]].laws]


def row_order(task: str, rows: pa.Table, draw: np.random.Generator) -> None:
    mixed = rows.take(draw.permutation(rows.num_rows))
    same(measured(task, rows), measured(task, mixed), laws.ROW_ORDER)


def unit_weights(task: str, rows: pa.Table, _: np.random.Generator) -> None:
    same(measured(task, rows), measured(task, rows, weight=1), laws.UNIT_WEIGHTS)


def same_weights(task: str, rows: pa.Table, draw: np.random.Generator) -> None:
    weight = draw.choice([0.01, 3.7, 1e6])
    same(measured(task, rows), measured(task, rows, weight=weight), laws.SAME_WEIGHTS)


def whole_weights(task: str, rows: pa.Table, draw: np.random.Generator) -> None:
    weight = draw.integers(1, 4, rows.num_rows)
    binning = edges_of(task, rows)
    repeated = values_of(binning, rows.take(np.repeat(np.arange(rows.num_rows), weight)))
    weighted = values_of(binning, rows.append_column("weight", pa.array(weight * 1.0)))
    for key in obeying(weighted, laws.WHOLE_WEIGHTS):
        # Of many classes bins do not tell a row of weight 2 from two rows that differ.
        binned = task == "multiclass" and key[0] == "average_precision"
        value = repeated[key].value
        found = None if value is None else pytest.approx(value, abs=0.05 if binned else 1e-9)
        assert weighted[key].value == found, key


def merge(task: str, rows: pa.Table, draw: np.random.Generator) -> None:
    binning = edges_of(task, rows)
    cut = int(draw.integers(0, rows.num_rows))
    parts = values_of(binning, rows.slice(0, cut), rows.slice(cut))
    same(values_of(binning, rows), parts, laws.MERGE)


def perfect(task: str, rows: pa.Table, _: np.random.Generator) -> None:
    label = rows["label"]
    truth = np.array(label)
    if task == "binary":
        exact = pa.table({"score": (truth == "1") * 1.0, "prediction": label, "label": label})
    elif task == "multiclass":
        exact = scored((truth[:, None] == NAMES) * 1.0, label, label)
    else:
        exact = pa.table({"prediction": label, "label": label})
    values = measured(task, exact)
    for key in obeying(values, laws.PERFECT):
        if values[key].value is not None:
            assert values[key].value == pytest.approx(METRIC_SPECS[key[0]].perfect, abs=1e-12), key


def moved(rows: pa.Table, factor: float, constant: float) -> pa.Table:
    label, predicted = np.array(rows["label"]), np.array(rows["prediction"])
    return pa.table({"label": factor * label, "prediction": factor * predicted + constant})


def shift(task: str, rows: pa.Table, _: np.random.Generator) -> None:
    before, after = measured(task, rows), measured(task, moved(rows, 1.0, 5.0))
    for key in obeying(before, laws.SHIFT):
        assert after[key].value == pytest.approx((before[key].value or 0.0) + 5.0), key


def unit(task: str, rows: pa.Table, _: np.random.Generator) -> None:
    feet = measured(task, moved(rows, FEET, 0.0))
    same(measured(task, rows), feet, laws.UNIT, factor=FEET)


def no_unit(task: str, rows: pa.Table, _: np.random.Generator) -> None:
    same(measured(task, rows), measured(task, moved(rows, FEET, 0.0)), laws.NO_UNIT)


def monotone(task: str, rows: pa.Table, _: np.random.Generator) -> None:
    other = rows
    for position, name in enumerate(rows.column_names):
        if name.startswith("score"):
            other = other.set_column(position, name, pa.array(np.array(rows[name]) ** 2))
    # Few rows of two classes are ranked one by one, those of many by bin.
    tolerance = 1e-9 if task == "binary" else 0.05
    same(measured(task, rows), measured(task, other), laws.MONOTONE, tolerance)


Law = Callable[[str, pa.Table, np.random.Generator], None]
TESTED: dict[str, Law] = {
    laws.ROW_ORDER: row_order,
    laws.UNIT_WEIGHTS: unit_weights,
    laws.SAME_WEIGHTS: same_weights,
    laws.WHOLE_WEIGHTS: whole_weights,
    laws.MERGE: merge,
    laws.PERFECT: perfect,
    laws.SHIFT: shift,
    laws.UNIT: unit,
    laws.NO_UNIT: no_unit,
    laws.MONOTONE: monotone,
}


def test_every_metric_declares_its_laws_and_none_declares_a_wish() -> None:
    assert METRIC_SPECS.keys() == KNOWN | OUTPUTS
    for name, spec in METRIC_SPECS.items():
        assert {laws.ROW_ORDER, laws.MERGE, laws.UNIT_WEIGHTS} <= set(spec.laws), name
        assert set(spec.laws) <= set(TESTED), "a law without a test is a wish"
        assert (laws.PERFECT in spec.laws) is (spec.perfect is not None), name
        assert Direction(spec.direction) is direction_of(name), name


def test_every_task_measures_every_metric_it_has() -> None:
    for task, names in zip(TASKS, METRICS_OF.values(), strict=True):
        assert {name for name, _ in measured(task, some_rows(task, 1))} - OUTPUTS == set(names)


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_values_and_intervals_are_within_the_range_that_a_metric_declares(
    task: str, seed: int
) -> None:
    for (name, _), value in measured(task, some_rows(task, seed)).items():
        spec = METRIC_SPECS[name]
        known = [x for x in (value.value, value.ci_low, value.ci_high) if x is not None]
        assert spec.lower is None or min(known, default=spec.lower) >= spec.lower, name
        assert spec.upper is None or max(known, default=spec.upper) <= spec.upper, name


@pytest.mark.parametrize(
    ("task", "law"),
    [
        (task, law)
        for task, names in zip(TASKS, METRICS_OF.values(), strict=True)
        for law in TESTED
        if any(law in METRIC_SPECS[name].laws for name in names)
    ],
)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_law_holds(task: str, law: str, seed: int) -> None:
    TESTED[law](task, some_rows(task, seed), np.random.default_rng(seed))
