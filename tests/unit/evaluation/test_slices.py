"""Slices against their own baseline, critical ones against their floor, and few false alarms."""

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, fisher_exact

from service.detection.metric_value import FEWEST_IN_DENOMINATOR
from service.detection.metrics import RECORDED, measure
from service.detection.performance import METRICS
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.performance import PerformancePolicy
from service.evaluation.significance import p_value_beyond
from service.evaluation.slices import (
    OVER_CEILING,
    UNDER_FLOOR,
    Floor,
    SlicePolicy,
    SliceRule,
    judge_slices,
)
from service.profiles.columns import Classes, ManyClasses, Output, Quantity
from service.profiles.freeze import freeze_binning
from service.profiles.slices import Member, SliceProfile, profile_slices

BINNING = freeze_binning(pa.table({"score": np.linspace(0, 1, 101)}), [], Classes("0", "1"))
REGION = ("region",)
PERFORMANCE = PerformancePolicy(metrics=("accuracy", "recall"))
BY_REGION = SlicePolicy(PERFORMANCE, (SliceRule(columns=REGION),))
ACCURACY = PerformancePolicy(metrics=("accuracy",))


def a_slice(
    label: NDArray[np.int64], predicted: NDArray[np.int64], unlabelled: int = 0
) -> SliceProfile:
    labels = [*map(str, label.tolist()), *[None] * unlabelled]
    rows = pa.table(
        {
            "label": pa.array(labels, pa.string()),
            "prediction": [*map(str, predicted.tolist()), *["1"] * unlabelled],
        }
    )
    member = Member(REGION, 0, np.ones(rows.num_rows, np.bool_))
    return profile_slices(rows, {"x": member}, BINNING)["x"]


def of_rows(n: int, wrong: int, unlabelled: int = 0) -> SliceProfile:
    """Half of the rows are positive, and the first ``wrong`` are predicted wrongly."""
    label = np.arange(n) % 2
    return a_slice(label, np.where(np.arange(n) < wrong, 1 - label, label), unlabelled)


def judge(
    reference: dict[str, SliceProfile] | None,
    current: dict[str, SliceProfile],
    policy: SlicePolicy = BY_REGION,
) -> dict[tuple[str | None, str], Measurement]:
    found = judge_slices(reference, {}, current, policy, BINNING.score_edges)
    return {(m.slice, m.metric): m for m in found}


def test_a_slice_is_compared_with_itself_and_with_sidak_over_metrics_and_slices() -> None:
    reference = {"region=n": of_rows(2000, 100), "region=s": of_rows(2000, 600)}
    current = {"region=n": of_rows(500, 75), "region=s": of_rows(500, 150)}
    found = judge(reference, current)
    north, south = found["region=n", "accuracy"], found["region=s", "accuracy"]
    # What is normal in the south is a loss in the north.
    assert (north.verdict, south.verdict) == (Verdict.ALERT, Verdict.OK)
    assert (north.value, north.reference_value, north.threshold) == (0.85, 0.95, 0.94)
    exact = fisher_exact([[425, 75], [1900, 100]], alternative="less").pvalue
    assert north.p_value == pytest.approx(1 - (1 - exact) ** 4)
    assert north.ci_low is not None
    assert north.ci_low < 0.85


def test_a_critical_slice_alerts_below_its_floor_by_the_exact_binomial() -> None:
    floor = Floor("accuracy", 0.95)
    policy = SlicePolicy(ACCURACY, (SliceRule(name="big", floor=floor),))
    # The slice was as bad before, so that nothing but the floor can tell.
    before = {"big": of_rows(2000, 300)}
    alert = judge(before, {"big": of_rows(400, 60)}, policy)["big", "accuracy"]
    assert (alert.verdict, alert.reason, alert.threshold) == (Verdict.ALERT, UNDER_FLOOR, 0.95)
    assert alert.p_value == pytest.approx(2 * binom.cdf(340, 400, 0.95))
    near = judge(before, {"big": of_rows(400, 24)}, policy)["big", "accuracy"]
    assert near.value == 0.94
    assert (near.verdict, near.threshold) == (Verdict.OK, 0.95)


def test_a_floor_needs_no_reference() -> None:
    policy = SlicePolicy(PERFORMANCE, (SliceRule(columns=REGION, floor=Floor("precision", 0.9)),))
    found = judge(None, {"region=n": of_rows(400, 100)}, policy)
    assert found["region=n", "precision"].verdict is Verdict.ALERT
    assert found["region=n", "recall"].verdict is Verdict.INSUFFICIENT_DATA
    assert found["region=n", "recall"].reason == "no_reference"


def test_a_critical_slice_above_its_floor_still_alerts_when_it_falls() -> None:
    policy = SlicePolicy(ACCURACY, (SliceRule(name="big", floor=Floor("accuracy", 0.8)),))
    found = judge({"big": of_rows(5000, 0)}, {"big": of_rows(1000, 100)}, policy)["big", "accuracy"]
    assert (found.verdict, found.reason, found.threshold) == (Verdict.ALERT, None, 0.99)


@pytest.mark.parametrize(
    ("before", "now", "reason", "shown"),
    [
        (of_rows(500, 5), of_rows(99, 50), "few_rows", False),
        (of_rows(500, 5), of_rows(200, 100, 300), "label_coverage", True),
        (of_rows(9, 0), of_rows(200, 100), "reference_insufficient", True),
        (None, of_rows(200, 100), "no_reference", True),
        (of_rows(500, 5), None, "no_rows", False),
    ],
)
def test_what_cannot_be_judged_says_why(
    before: SliceProfile | None, now: SliceProfile | None, reason: str, *, shown: bool
) -> None:
    reference = {} if before is None else {"region=n": before}
    current = {} if now is None else {"region=n": now}
    found = judge(reference, current)["region=n", "accuracy"]
    assert (found.verdict, found.reason) == (Verdict.INSUFFICIENT_DATA, reason)
    assert (found.value is not None) is shown


def test_a_named_slice_without_rows_is_listed() -> None:
    found = judge({}, {}, SlicePolicy(ACCURACY, (SliceRule(name="big"),)))
    assert found["big", "accuracy"].reason == "no_rows"


@pytest.mark.parametrize("name", sorted(set(METRICS) - RECORDED))
def test_any_metric_of_odd_slices_gives_an_answer(name: str) -> None:
    odd = [
        of_rows(200, 0), of_rows(200, 200), of_rows(0, 0, 50),
        a_slice(np.ones(150, np.int64), np.ones(150, np.int64)),
        a_slice(np.arange(150) % 2, np.zeros(150, np.int64)),
    ]  # fmt: skip
    policy = SlicePolicy(
        PerformancePolicy(metrics=(name,)), (SliceRule(columns=REGION, floor=Floor(name, 0.5)),)
    )
    for before in odd:
        for now in odd:
            for found in judge({"a": before}, {"a": now}, policy).values():
                assert found.value is not None or found.reason


def test_a_floor_of_a_metric_that_is_no_proportion_uses_its_error() -> None:
    found = measure(of_rows(400, 100).performance)["balanced_accuracy", None]
    assert (
        p_value_beyond("balanced_accuracy", found, 0.95)
        < 1e-6
        < p_value_beyond("balanced_accuracy", found, 0.75)
    )
    assert found.support >= FEWEST_IN_DENOMINATOR


def test_slices_rarely_alarm_without_a_change() -> None:
    draw = np.random.default_rng(5)
    policy = SlicePolicy(
        PerformancePolicy(alpha=0.05, tolerance=0.0, metrics=("accuracy", "recall", "f1")),
        (SliceRule(columns=REGION), SliceRule(name="all", floor=Floor("accuracy", 0.9))),
    )
    names = [f"region={i}" for i in range(8)]

    def rows(n: int) -> SliceProfile:
        label = (draw.random(n) < 0.4).astype(np.int64)
        return a_slice(label, np.where(draw.random(n) < 0.1, 1 - label, label))

    windows, alarms = 100, 0
    for _ in range(windows):
        reference = {name: rows(1000) for name in names}
        current = {name: rows(200) for name in names}
        reference["all"], current["all"] = rows(2000), rows(500)
        found = judge_slices(reference, {}, current, policy, BINNING.score_edges)
        alarms += any(m.verdict is Verdict.ALERT for m in found)
    assert alarms <= 1.7 * 0.05 * windows


def of_output(output: Output, label: list[str] | list[float], predicted: object) -> SliceProfile:
    rows = pa.table({"label": label, "prediction": predicted})
    member = Member(REGION, 0, np.ones(rows.num_rows, np.bool_))
    return profile_slices(rows, {"x": member}, freeze_binning(rows, [], output))["x"]


def of_three(n: int, wrong: int) -> SliceProfile:
    """Three classes in turn; of the first ``wrong`` rows the next class is predicted."""
    names, turn = np.array(["cat", "dog", "owl"]), np.arange(n) % 3
    predicted = names[np.where(np.arange(n) < wrong, (turn + 1) % 3, turn)]
    return of_output(ManyClasses(("cat", "dog", "owl")), names[turn].tolist(), predicted)


def of_errors(n: int, error: float) -> SliceProfile:
    """Labels from 0 to 9, missed by ``error`` on either side in turn."""
    label = np.arange(n) % 10.0
    return of_output(Quantity(), label.tolist(), label + error * (-1.0) ** np.arange(n))


def test_slices_of_many_classes_are_judged_over_all_classes() -> None:
    policy = SlicePolicy(
        PerformancePolicy(metrics=("accuracy", "f1")),
        (SliceRule(columns=REGION, floor=Floor("balanced_accuracy", 0.9)),),
    )
    found = judge(
        {"region=n": of_three(3000, 150), "region=s": of_three(3000, 150)},
        {"region=n": of_three(600, 120), "region=s": of_three(600, 30)},
        policy,
    )
    assert len(found) == 6
    accuracy, floor = found["region=n", "accuracy"], found["region=n", "balanced_accuracy"]
    assert (accuracy.value, accuracy.reference_value) == (0.8, 0.95)
    assert accuracy.verdict is Verdict.ALERT
    # Four losses are judged, and the floors have the other half of alpha.
    exact = fisher_exact([[480, 120], [2850, 150]], alternative="less").pvalue
    assert accuracy.p_value == pytest.approx(2 * (1 - (1 - exact) ** 4))
    assert (floor.verdict, floor.reason) == (Verdict.ALERT, UNDER_FLOOR)
    assert {m.verdict for (name, _), m in found.items() if name == "region=s"} == {Verdict.OK}


def test_an_error_has_a_ceiling_and_its_tolerance_is_a_share() -> None:
    policy = SlicePolicy(
        PerformancePolicy(metrics=("rmse",), tolerance=0.1),
        (SliceRule(name="big", floor=Floor("mae", 1.5)),),
    )
    before = {"big": of_errors(2000, 1.0)}
    quiet = judge(before, {"big": of_errors(500, 1.05)}, policy)
    assert quiet["big", "rmse"].threshold == pytest.approx(1.1)
    assert {m.verdict for m in quiet.values()} == {Verdict.OK}
    loud = judge(before, {"big": of_errors(500, 1.6)}, policy)
    assert (loud["big", "rmse"].verdict, loud["big", "rmse"].reason) == (Verdict.ALERT, None)
    over = loud["big", "mae"]
    assert (over.verdict, over.reason, over.threshold) == (Verdict.ALERT, OVER_CEILING, 1.5)
    assert over.direction is Direction.HIGHER_IS_WORSE


def test_a_ceiling_of_a_rate_is_tested_by_the_exact_binomial() -> None:
    found = measure(of_rows(400, 60).performance)["false_positive_rate", None]
    assert found.value == 0.15
    expected = binom.sf(29, 200, 0.1)
    assert p_value_beyond("false_positive_rate", found, 0.1) == pytest.approx(expected)


def test_a_metric_of_another_task_has_no_value() -> None:
    found = judge({"region=n": of_errors(500, 1)}, {"region=n": of_errors(500, 1)}, BY_REGION)
    assert {(m.value, m.verdict) for m in found.values()} == {(None, Verdict.INSUFFICIENT_DATA)}
