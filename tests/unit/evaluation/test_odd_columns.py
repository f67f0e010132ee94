"""Columns that nobody expects, on either side: a verdict, or null with a reason; never NaN."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.buckets.slicing import slicing_of
from service.detection.estimates import fit_calibrators
from service.detection.multiclass_joint import joint_scores
from service.evaluation.judgement import Judgement
from service.evaluation.measurement import Verdict
from service.evaluation.policy import Action
from service.evaluation.rows import ENGINE, LABELLED_ENGINE, Sampled, measure_rows
from service.evaluation.window import Baseline, judge
from service.ledger.calendar import calendar_start
from service.profiles.binning import Binning
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Classes, Column, Kind, ManyClasses, Output, Quantity
from service.profiles.derive import derive, expanded
from service.profiles.freeze import freeze_binning
from service.profiles.merge import (
    empty_features,
    empty_performance,
    merge_features,
    merge_performance,
)
from service.profiles.segments import chunk_segments, segment_reference
from service.profiles.serialise import features_from_bytes, features_to_bytes
from service.registry.monitor import MonitorDocument, fit_to_task
from service.runs.knowledge import SlicedReference, _pieces
from service.runs.policies import policies_of
from service.runs.reference_edges import derive_reference

Draw = Callable[[np.random.Generator, int], Any]
TIMES, VECTORS = pa.timestamp("us", "UTC"), pa.list_(pa.float32())
START = datetime(2026, 1, 1, tzinfo=UTC)
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
CATEGORIES, DAYS = 100_000, 12


def some(values: Any, share: float, rng: np.random.Generator) -> list[Any]:
    """Leave out a share of some values."""
    return [value if rng.random() > share else None for value in values]


def a_day(rng: np.random.Generator, n: int) -> list[datetime]:
    return [START - timedelta(minutes=int(age)) for age in rng.integers(0, 10**6, n)]


NUMBERS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "constant": lambda _, n: [7.0] * n,
    "missing": lambda _, n: [None] * n,
    "half missing": lambda rng, n: some(rng.normal(size=n), 0.5, rng),
    "single": lambda _, n: [*[None] * (n - 1), 1.0][:n],
    "infinite": lambda rng, n: rng.choice([np.inf, -np.inf, np.nan], n),
    "some infinite": lambda rng, n: rng.choice([np.inf, 0.0, 1.0, 2.0], n),
    "enormous": lambda rng, n: rng.choice([1e308, -1e308, 1e-320, 0.0, -0.0], n),
    "far": lambda rng, n: 1e15 + rng.normal(size=n),
}
NAMES: dict[str, Draw] = {
    "few": lambda rng, n: rng.choice(["a", "b", "c"], n),
    "constant": lambda _, n: ["a"] * n,
    "missing": lambda _, n: [None] * n,
    "single": lambda _, n: [*[None] * (n - 1), "a"][:n],
    "empty": lambda rng, n: some([""] * n, 0.1, rng),
    "all different": lambda rng, n: [f"{value}" for value in rng.integers(0, 10**9, n)],
    "other": lambda rng, n: rng.choice(["x", "y"], n),
}
FLAGS: dict[str, Draw] = {
    "both": lambda rng, n: (rng.random(n) < 0.5).tolist(),
    "true": lambda _, n: [True] * n,
    "missing": lambda _, n: [None] * n,
    "some": lambda rng, n: some([False] * n, 0.5, rng),
}
DATES: dict[str, Draw] = {
    "days": a_day,
    "constant": lambda _, n: [START] * n,
    "missing": lambda _, n: [None] * n,
    "far": lambda rng, n: [FIRST if rng.random() < 0.5 else LAST for _ in range(n)],
    "some": lambda rng, n: some(a_day(rng, n), 0.5, rng),
}
TEXTS: dict[str, Draw] = {
    "words": lambda rng, n: [" ".join(rng.choice(["a", "bc", "def"], 5)) for _ in range(n)],
    "constant": lambda _, n: ["the same"] * n,
    "missing": lambda _, n: [None] * n,
    "empty": lambda _, n: [""] * n,
    "no words": lambda rng, n: rng.choice(["!", "  ", "\n", "\u2603"], n),
    "new words": lambda rng, n: [f"w{value}" for value in rng.integers(0, 10**9, n)],
}
VECTOR: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=(n, 3)).tolist(),
    "zero": lambda _, n: [[0.0, 0.0, 0.0]] * n,
    "missing": lambda _, n: [None] * n,
    "largest": lambda _, n: [[3.4e38, -3.4e38, 3.4e38]] * n,
    "some": lambda rng, n: some([[1.0, 2.0, 3.0]] * n, 0.5, rng),
}
COLUMNS: dict[str, tuple[Kind, pa.DataType, dict[str, Draw]]] = {
    "x": (Kind.NUMERIC, pa.float64(), NUMBERS),
    "city": (Kind.CATEGORICAL, pa.string(), NAMES),
    "flag": (Kind.BOOLEAN, pa.bool_(), FLAGS),
    "born": (Kind.DATETIME, TIMES, DATES),
    "comment": (Kind.TEXT, pa.string(), TEXTS),
    "vector": (Kind.EMBEDDING, VECTORS, VECTOR),
    "attributions.x": (Kind.NUMERIC, pa.float64(), NUMBERS),
}
FEATURES = tuple(Column(name, kind) for name, (kind, _, _) in COLUMNS.items())
OUTPUTS: dict[str, Output] = {
    "binary": Classes("0", "1"),
    "multiclass": ManyClasses(("0", "1", "2")),
    "regression": Quantity(),
}
CLASSES: dict[str, Draw] = {
    "all": lambda rng, n: rng.choice(["0", "1"], n),
    "one": lambda _, n: ["1"] * n,
    "none": lambda _, n: [None] * n,
    "some": lambda rng, n: some(rng.choice(["0", "1"], n), 0.7, rng),
    "first": lambda _, n: ["1", *[None] * (n - 1)][:n],
}
SCORES: dict[str, Draw] = {
    "uniform": lambda rng, n: rng.random(n),
    "constant": lambda _, n: [0.5] * n,
    "certain": lambda rng, n: rng.choice([0.0, 1.0], n),
    "missing": lambda _, n: [None] * n,
    "not finite": lambda rng, n: rng.choice([np.nan, np.inf, 0.5], n),
}
WEIGHTS: dict[str, Draw] = {
    "one": lambda _, n: [1.0] * n,
    "zero": lambda _, n: [0.0] * n,
    "some": lambda rng, n: rng.choice([0.0, 0.5, 1e12], n),
    "missing": lambda _, n: [None] * n,
}
SIZES = (0, 1, 2, 130, 400)


def a_table(task: str, rows: int, odd: dict[str, str], seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    columns = {
        name: pa.array(list(draws[odd[name]](rng, rows)), kind)
        for name, (_, kind, draws) in COLUMNS.items()
    }
    days = [START + timedelta(days=i * DAYS // rows) for i in range(rows)]
    columns["ts"] = pa.array(days, TIMES)
    columns["weight"] = pa.array(WEIGHTS[odd["weight"]](rng, rows), pa.float64())
    if task == "regression":
        for name in ("prediction", "label"):
            columns[name] = pa.array(list(NUMBERS[odd[name]](rng, rows)), pa.float64())
        return pa.table(columns)
    for name in ("prediction", "label"):
        columns[name] = pa.array(list(CLASSES[odd[name]](rng, rows)), pa.string())
    names = ["score"] if task == "binary" else [f"scores.{i}" for i in range(3)]
    for name in names:
        columns[name] = pa.array(list(SCORES[odd["score"]](rng, rows)), pa.float64())
    return pa.table(columns)


def a_document(task: str) -> MonitorDocument:
    groups: dict[str, Any] = {
        "slices": [{"column": "city"}, {"name": "odd", "where": "x > 0 or born is null"}]
    }
    if task != "regression":
        critical = {"name": "c", "where": "flag = true", "critical": True, "floor": 0.5}
        groups["slices"].append(
            {**critical, "metric": "recall" if task == "binary" else "accuracy"}
        )
        groups["fairness"] = [{"column": "city", "favourable_class": "1"}]
    return fit_to_task(MonitorDocument.model_validate({"model": "m", **groups}), task)


def a_baseline(rows: pa.Table, binning: Binning, task: str, size: int) -> Baseline:
    table = derive_reference(rows, FEATURES, binning, None)
    segments = segment_reference(table, FEATURES, binning)
    key = partial(calendar_start, length="1d", zone=ZoneInfo("UTC"))
    document = a_document(task)
    slicing = slicing_of(document)
    whole = slicing.profile(table, binning)
    sliced = SlicedReference(table, binning, slicing, whole)
    pieces = _pieces(sliced, key, size, document.performance.metrics) if rows.num_rows else {}
    return Baseline(
        merge_features([empty_features(binning), *(own.features for own in segments)]),
        merge_performance([empty_performance(binning), *(own.performance for own in segments)]),
        chunk_segments(segments, key, size),
        fit_calibrators(table, binning.output),
        whole,
        pieces,
        joint=joint_scores(table, binning.output),
    )


def judged(task: str, binning: Binning, baseline: Baseline, window: pa.Table) -> Judgement:
    features = profile_features(window, FEATURES, binning)
    document = a_document(task)
    return judge(
        binning,
        FEATURES,
        baseline,
        features_from_bytes(features_to_bytes(features)),
        profile_performance(window, binning),
        policies_of(document),
        slicing_of(document).profile(window, binning),
    )


def assert_sound(judgement: Judgement) -> None:
    """Assert what nobody may miss; numbers that are not finite are refused by Measurement."""
    assert isinstance(judgement.action, Action)
    assert judgement.reason
    for verdict in judgement.verdicts.values():
        assert verdict in set(Verdict)
    for found in judgement.measurements:
        assert found.value is not None or found.reason, found
        if found.verdict is Verdict.INSUFFICIENT_DATA:
            assert found.reason, found


def odd(task: str) -> st.SearchStrategy[dict[str, str]]:
    outcome = NUMBERS if task == "regression" else CLASSES
    draws = {name: draws for name, (_, _, draws) in COLUMNS.items()}
    draws |= {"prediction": outcome, "label": outcome, "score": SCORES, "weight": WEIGHTS}
    return st.fixed_dictionaries({name: st.sampled_from(list(own)) for name, own in draws.items()})


@pytest.mark.parametrize("task", OUTPUTS)
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_columns_on_either_side_get_a_verdict_or_null_with_a_reason(
    task: str, data: st.DataObject
) -> None:
    rows = st.sampled_from(SIZES)
    reference, window = (
        a_table(task, data.draw(rows), data.draw(odd(task)), seed) for seed in (1, 2)
    )
    binning = freeze_binning(reference, FEATURES, OUTPUTS[task])
    baseline = a_baseline(reference, binning, task, window.num_rows)
    assert_sound(judged(task, binning, baseline, window))


MOST_KINDS = max(len(draws) for _, _, draws in COLUMNS.values())


def usual_but(place: int) -> dict[str, str]:
    """Return for every feature one of its oddities, such that all pairs of places pair all."""
    own = {name: list(draws)[place % len(draws)] for name, (_, _, draws) in COLUMNS.items()}
    return {**own, "prediction": "all", "label": "all", "score": "uniform", "weight": "one"}


@pytest.mark.parametrize("before", range(MOST_KINDS))
def test_every_pair_of_odd_columns_leaves_the_others_calm(before: int) -> None:
    reference = a_table("binary", 400, usual_but(before), 1)
    binning = freeze_binning(reference, FEATURES, OUTPUTS["binary"])
    baseline = a_baseline(reference, binning, "binary", 130)
    for after in range(MOST_KINDS):
        window = a_table("binary", 130, usual_but(after), 2)
        judgement = judged("binary", binning, baseline, window)
        assert_sound(judgement)
        drift = {m.subject: m.verdict for m in judgement.measurements if m.metric == "drift"}
        assert drift["score"] is not Verdict.ALERT


@pytest.mark.parametrize("task", OUTPUTS)
@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 1), (2, 0), (3, 4), (5, 6), (7, 8)])
def test_no_step_over_rows_fails_on_an_odd_column(task: str, before: int, after: int) -> None:
    usual = {"prediction": "normal", "label": "normal"} if task == "regression" else {}
    reference, window = (
        a_table(task, 400, {**usual_but(place), **usual}, seed)
        for seed, place in ((1, before), (2, after))
    )
    binning = freeze_binning(reference, FEATURES, OUTPUTS[task])
    columns = (*expanded(FEATURES), Column("vector", Kind.EMBEDDING))
    old, new = (derive(rows, FEATURES, binning.sources)[0] for rows in (reference, window))
    sampled = Sampled(old, new, columns, binning)
    policies = policies_of(a_document(task))
    for engine in (ENGINE, LABELLED_ENGINE):
        for found in measure_rows(sampled, policies, engine):
            assert found.value is not None or not (found.reason or "").startswith("failed"), found


@pytest.mark.parametrize(("before", "after"), [("many", "few"), ("few", "many"), ("many", "many")])
def test_a_hundred_thousand_categories_are_judged(before: str, after: str) -> None:
    city = {"many": [f"c{i}" for i in range(CATEGORIES)], "few": ["a", "b"] * (CATEGORIES // 2)}
    columns = (Column("city", Kind.CATEGORICAL), Column("comment", Kind.TEXT))
    tables = [
        pa.table({"city": city[side], "comment": city[side], "prediction": ["1"] * CATEGORIES})
        for side in (before, after)
    ]
    binning = freeze_binning(tables[0], columns, OUTPUTS["binary"])
    old, new = (profile_features(table, columns, binning) for table in tables)
    nothing = empty_performance(binning)
    document = a_document("binary")
    baseline = Baseline(old, nothing, [], None)
    judgement = judge(binning, columns, baseline, new, nothing, policies_of(document))
    assert_sound(judgement)
    drift = {m.subject: m.verdict for m in judgement.measurements if m.metric == "drift"}
    expected = Verdict.OK if before == after else Verdict.ALERT
    assert drift["city"] in {expected, Verdict.INSUFFICIENT_DATA}
