"""Labels that have only begun to come are shown and not judged, and a selection of them is said."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from service.evaluation import maturity
from service.evaluation.drift_columns import DriftPolicy
from service.evaluation.fairness import FairnessPolicy, FairnessRule
from service.evaluation.judgement import Judgement
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.performance import PerformancePolicy
from service.evaluation.quality import QualityPolicy
from service.evaluation.slices import Floor, SlicePolicy, SliceRule
from service.evaluation.window import Baseline, Policies, judge
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Classes, ManyClasses, Output, Quantity
from service.profiles.freeze import freeze_binning
from service.profiles.slices import Member, profile_slices

Bools = NDArray[np.bool_]
PERFORMANCE = PerformancePolicy(metrics=("accuracy", "recall"))
OUTPUTS: dict[str, Output] = {
    "binary": Classes("0", "1"),
    "multiclass": ManyClasses(("a", "b", "c")),
    "regression": Quantity(),
}


def some_rows(task: str, n: int, seed: int = 0, *, wrong: float = 0.05) -> pa.Table:
    rng = np.random.default_rng(seed)
    if task == "regression":
        predicted = rng.lognormal(0, 1, n)
        return pa.table({"prediction": predicted, "label": predicted + rng.normal(0, 0.3, n)})
    if task == "multiclass":
        scores, names = rng.dirichlet((1.0, 0.7, 0.4), n), np.array(["a", "b", "c"])
        drawn = (scores.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, 2)
        columns = {f"scores.{name}": scores[:, i] for i, name in enumerate(names)}
        return pa.table(
            {"prediction": names[scores.argmax(axis=1)], "label": names[drawn], **columns}
        )
    score = 1 / (1 + np.exp(-rng.normal(-1, 1.5, n)))
    truth = (rng.random(n) < score) != (rng.random(n) < wrong)
    return pa.table(
        {
            "prediction": np.where(score > 0.5, "1", "0"),
            "score": score,
            "label": np.where(truth, "1", "0"),
        }
    )


def keep_labels(rows: pa.Table, kept: Bools) -> pa.Table:
    position = rows.column_names.index("label")
    label = pa.array(rows["label"].to_pylist(), mask=~kept)
    return rows.set_column(position, "label", label)


def first_come(rows: pa.Table, others: float, seed: int = 9) -> Bools:
    """Return which labels are in: those of positives (or the largest) first, some others."""
    label = np.array(rows["label"])
    positive = label > 2 if label.dtype.kind == "f" else (label == "1") | (label == "c")
    kept: Bools = positive | (np.random.default_rng(seed).random(len(label)) < others)
    return kept


def judged(
    task: str,
    rows: pa.Table,
    *,
    horizon_passed: bool | None,
    findings: Sequence[Measurement] = (),
) -> Judgement:
    before = some_rows(task, 5000, 77)
    binning = freeze_binning(before, [], OUTPUTS[task])
    baseline = Baseline(
        profile_features(before, [], binning), profile_performance(before, binning), [], None
    )
    metrics = PERFORMANCE.metrics if task != "regression" else ("mae", "rmse")
    performance = PerformancePolicy(metrics=metrics)
    groups = profile_slices(
        rows, {"sex=f": Member(("sex",), 0, np.arange(rows.num_rows) % 2 == 0)}, binning
    )
    floor = Floor(metrics[0], 0.9999 if task != "regression" else 0.0001)
    fair = FairnessRule(
        column="sex", limits={"equal_opportunity_difference": 0.1}, favourable_class="a"
    )
    policies = Policies(
        DriftPolicy(),
        QualityPolicy(),
        performance,
        SlicePolicy(performance, (SliceRule(columns=("sex",), floor=floor),)),
        FairnessPolicy(rules=(fair,)) if task != "regression" else None,
    )
    return judge(
        binning, [], baseline, profile_features(rows, [], binning),
        profile_performance(rows, binning), policies, groups, findings=findings,
        horizon_passed=horizon_passed,
    )  # fmt: skip


@pytest.mark.parametrize("task", OUTPUTS)
def test_when_labels_of_positives_come_first_nothing_is_judged_by_them(task: str) -> None:
    rows = some_rows(task, 3000, wrong=0.2)
    early = keep_labels(rows, first_come(rows, 0.6))
    for horizon_passed, reason in ((False, "immature"), (None, "selected_labels")):
        found = judged(task, early, horizon_passed=horizon_passed)
        assert [w["code"] for w in found.warnings if "label" in w["code"]] == ["selected-labels"]
        for family in ("performance", "slices", "fairness"):
            if family in found.verdicts:
                assert found.verdicts[family] is Verdict.INSUFFICIENT_DATA, family
        by_labels = [m for m in found.measurements if m.verdict is None or m.reason == reason]
        named = {m.metric for m in by_labels if m.reason == reason}
        assert named >= {"label_coverage", *(["drift"] if task != "regression" else [])}
        assert all(m.value is not None for m in by_labels if m.metric in {"accuracy", "mae"})
        assert found.awaits_labels is (reason == "immature")


@pytest.mark.parametrize("task", OUTPUTS)
def test_once_the_horizon_has_passed_or_nearly_all_labels_are_in_they_are_judged(task: str) -> None:
    rows = some_rows(task, 3000)
    random = np.random.default_rng(1).random(3000)
    cases: list[tuple[pa.Table, bool | None]] = [
        (keep_labels(rows, random < 0.97), False),
        (keep_labels(rows, random < 0.6), True),
        (keep_labels(rows, random < 0.6), None),
    ]
    for window, horizon_passed in cases:
        found = judged(task, window, horizon_passed=horizon_passed)
        assert found.verdicts["performance"] is Verdict.OK
        assert not found.awaits_labels
        assert not found.warnings


def test_a_window_without_any_label_waits_for_nothing() -> None:
    rows = keep_labels(some_rows("binary", 500), np.zeros(500, bool))
    assert not judged("binary", rows, horizon_passed=False).awaits_labels


def test_a_slice_that_was_found_in_the_rows_waits_for_their_labels_as_well() -> None:
    rows = some_rows("binary", 3000)
    early = keep_labels(rows, np.arange(3000) % 3 > 0)
    found = Measurement(
        metric="accuracy", slice="plan = 'gold'", value=0.7, n=400, method="discovered",
        direction=Direction.LOWER_IS_WORSE, verdict=Verdict.ALERT,
    )  # fmt: skip
    for horizon_passed, verdict in ((False, Verdict.INSUFFICIENT_DATA), (True, Verdict.ALERT)):
        judgement = judged("binary", early, horizon_passed=horizon_passed, findings=[found])
        assert [m.verdict for m in judgement.measurements if m.slice == found.slice] == [verdict]


def test_after_the_horizon_a_selection_is_said_and_the_loss_is_judged() -> None:
    rows = some_rows("binary", 3000, wrong=0.3)
    found = judged("binary", keep_labels(rows, first_come(rows, 0.6)), horizon_passed=True)
    assert [w["code"] for w in found.warnings] == ["selected-labels"]
    assert found.verdicts["performance"] is Verdict.ALERT


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("binary", "have higher scores than"),
        ("multiclass", "have higher scores of c than"),
        ("regression", "have higher predictions than"),
    ],
)
def test_a_selection_is_said_with_its_direction(task: str, said: str) -> None:
    rows = some_rows(task, 3000)
    kept = first_come(rows, 0.3)
    for labelled, word in ((kept, said), (~kept, said.replace("higher", "lower"))):
        [warning] = judged(task, keep_labels(rows, labelled), horizon_passed=False).warnings
        assert f"the {labelled.sum()} rows with a label" in warning["detail"]
        assert word in warning["detail"]


def at_random(rows: pa.Table, rng: np.random.Generator) -> Bools:
    kept: Bools = rng.random(rows.num_rows) < 0.6
    return kept


def positives_first(rows: pa.Table, rng: np.random.Generator) -> Bools:
    return first_come(rows, 0.6, int(rng.integers(1 << 30)))


@pytest.mark.parametrize("task", OUTPUTS)
@pytest.mark.parametrize(("choice", "low", "high"), [(at_random, 0, 8), (positives_first, 90, 100)])
def test_selections_are_found_and_chance_is_not(
    task: str,
    choice: Callable[[pa.Table, np.random.Generator], Bools],
    low: int,
    high: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of 100 windows at 2 % (a level of 1 % would need more of them to be seen broken).
    monkeypatch.setattr(maturity, "ALPHA", 0.02)
    if choice is at_random:
        monkeypatch.setattr(maturity, "MIN_DISTANCE", 0.0)
        monkeypatch.setattr(maturity, "MIN_DEVIATIONS", 0.0)
    binning = freeze_binning(some_rows(task, 5000, 77), [], OUTPUTS[task])
    rng, warned = np.random.default_rng(4), 0
    for seed in range(100):
        rows = some_rows(task, 1000, seed)
        rows = keep_labels(rows, choice(rows, rng))
        features, performance = (
            profile_features(rows, [], binning),
            profile_performance(rows, binning),
        )
        found: Any = maturity.assess_labels(binning, features, performance, horizon_passed=None)
        warned += bool(found.warnings)
    assert low <= warned <= high
