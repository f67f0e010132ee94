"""Disparities by hand, on published data, and not by chance among equal groups."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.buckets.slicing import Slicing
from service.detection.fairness import (
    Rate,
    difference_of_rates,
    homogeneity_p_value,
    ratio_of_rates,
)
from service.evaluation.fairness import (
    DISPARITIES,
    FairnessPolicy,
    FairnessRule,
    judge_fairness,
)
from service.evaluation.measurement import Measurement, Verdict
from service.profiles.binning import Binning
from service.profiles.columns import Classes, ManyClasses, Output, Quantity
from service.profiles.freeze import freeze_binning

HMDA = Path(__file__).resolve().parents[4] / "shared" / "data" / "hmda_boston"
LIMITS: dict[str, float | None] = dict(zip(DISPARITIES, (0.8, 0.1, 0.1, 0.1), strict=True))
BINARY = Classes("0", "1")
Found = dict[tuple[str, str | None], Measurement]


def a_binning(rows: pa.Table, classes: Output) -> Binning:
    return freeze_binning(rows, [], classes)


def judge(rows: pa.Table, policy: FairnessPolicy, classes: Output = BINARY) -> Found:
    slicing = Slicing(tuple((rule.column,) for rule in policy.rules), ())
    slices = slicing.profile(rows, a_binning(rows, classes))
    return {(m.metric, m.slice or m.subject): m for m in judge_fairness(slices, classes, policy)}


def a_policy(column: str = "sex", **more: Any) -> FairnessPolicy:
    rule = FairnessRule(**{"column": column, "limits": LIMITS, **more})
    return FairnessPolicy(rules=(rule,))


def by_counts(**groups: tuple[int, int, int, int]) -> pa.Table:
    """Build rows of groups from their true negatives, false positives, misses and hits."""
    cells = [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
    rows = [
        (name, *cell)
        for name, counts in groups.items()
        for cell, count in zip(cells, counts, strict=True)
        for _ in range(count)
    ]
    names, labels, predictions = zip(*rows, strict=True)
    return pa.table({"sex": names, "label": labels, "prediction": predictions})


# Selected 60/100 and 30/100; TPR 45/50 and 20/40; FPR 15/50 and 10/60; precision .75 and 2/3.
TWO = by_counts(f=(50, 10, 20, 20), m=(35, 15, 5, 45))


def test_two_groups_by_hand_as_fairlearn_defines_them() -> None:
    found = judge(TWO, a_policy())
    assert found["selection_rate", "sex=f"].value == pytest.approx(0.3)
    assert found["recall", "sex=m"].value == pytest.approx(0.9)
    assert found["false_positive_rate", "sex=f"].value == pytest.approx(1 / 6)
    assert found["precision", "sex=f"].value == pytest.approx(2 / 3)
    values = {metric: found[metric, "sex"].value for metric in DISPARITIES}
    assert values == pytest.approx(
        {
            "disparate_impact": 0.5,
            "demographic_parity_difference": 0.3,
            "equal_opportunity_difference": 0.4,
            "equalized_odds_difference": 0.4,
        }
    )
    assert {found[metric, "sex"].verdict for metric in DISPARITIES} == {Verdict.ALERT}
    assert found["disparate_impact", "sex"].reason == "f against m"
    rate = found["selection_rate", "sex=f"]
    assert (rate.verdict, rate.n, rate.method) == (None, 100, "wilson")


def test_a_limit_of_none_is_recorded_without_a_verdict() -> None:
    found = judge(TWO, a_policy(limits={"disparate_impact": 0.8}))
    assert found["disparate_impact", "sex"].verdict is Verdict.ALERT
    assert found["equalized_odds_difference", "sex"].verdict is None
    assert found["equalized_odds_difference", "sex"].value == pytest.approx(0.4)


def test_a_reference_group_measures_the_others() -> None:
    reversed_ = judge(TWO, a_policy(reference_group="f"))["disparate_impact", "sex"]
    assert reversed_.value == pytest.approx(2.0)
    assert reversed_.verdict is Verdict.OK
    absent = judge(TWO, a_policy(reference_group="x"))["disparate_impact", "sex"]
    assert (absent.verdict, absent.reason) == (Verdict.INSUFFICIENT_DATA, "no_reference_group")


def test_a_small_group_is_suppressed_and_part_of_no_disparity() -> None:
    rows = by_counts(f=(50, 10, 20, 20), m=(50, 10, 20, 20), x=(0, 0, 0, 50))
    found = judge(rows, a_policy())
    small = found["selection_rate", "sex=x"]
    assert (small.value, small.ci_low, small.reason) == (None, None, "few_rows")
    assert small.verdict is Verdict.INSUFFICIENT_DATA
    assert found["disparate_impact", "sex"].value == 1.0
    assert found["disparate_impact", "sex"].verdict is Verdict.OK


def test_one_group_alone_cannot_be_treated_differently() -> None:
    found = judge(by_counts(f=(50, 10, 20, 20)), a_policy())
    for metric in DISPARITIES:
        assert found[metric, "sex"].verdict is Verdict.INSUFFICIENT_DATA
        assert found[metric, "sex"].reason == "fewer_than_two_groups"


def test_selection_rates_need_no_labels() -> None:
    rows = TWO.set_column(1, "label", pa.nulls(TWO.num_rows, pa.string()))
    found = judge(rows, a_policy())
    assert found["disparate_impact", "sex"].verdict is Verdict.ALERT
    assert found["equal_opportunity_difference", "sex"].verdict is Verdict.INSUFFICIENT_DATA


def test_a_large_difference_that_chance_could_make_is_no_alert() -> None:
    found = judge(by_counts(f=(40, 30, 15, 15), m=(35, 36, 9, 20)), a_policy())
    impact = found["disparate_impact", "sex"]
    assert impact.value is not None
    assert impact.threshold is not None
    assert impact.value < impact.threshold + 0.05
    assert impact.verdict is Verdict.OK


def test_the_approval_ratio_of_boston_alerts() -> None:
    path = HMDA / "hmda.parquet"
    if not path.exists():
        pytest.skip(f"the data set {path} is not here")
    data = pq.read_table(path, columns=["afam", "deny"])
    texts = [data[name].cast(pa.string()) for name in ("afam", "deny")]
    rows = pa.table(texts, names=["afam", "prediction"])
    limits = {"disparate_impact": 0.8}
    denied = judge(rows, a_policy("afam", limits=limits), Classes("no", "yes"))
    assert denied["selection_rate", "afam=yes"].value == pytest.approx(0.283186, abs=1e-6)
    assert denied["selection_rate", "afam=no"].value == pytest.approx(0.0926017, abs=1e-6)
    difference = denied["demographic_parity_difference", "afam"].value
    assert difference == pytest.approx(0.190584, abs=1e-6)
    approved = judge(
        rows, a_policy("afam", limits=limits, favourable_class="no"), Classes("no", "yes")
    )["disparate_impact", "afam"]
    assert approved.value == pytest.approx(0.789966, abs=1e-6)
    assert approved.ci_low == pytest.approx(0.738, abs=5e-4)
    assert approved.ci_high == pytest.approx(0.846, abs=5e-4)
    assert (approved.verdict, approved.reason) == (Verdict.ALERT, "yes against no")


def test_equal_groups_rarely_alarm() -> None:
    draw = np.random.default_rng(11)
    windows, alarms, differences = 300, 0, []
    for _ in range(windows):
        rows = pa.table(
            {
                "sex": np.repeat([f"g{i}" for i in range(10)], 100),
                "prediction": np.where(draw.random(1000) < 0.5, "1", "0"),
                "label": np.where(draw.random(1000) < 0.5, "1", "0"),
            }
        )
        policy = FairnessPolicy(rules=a_policy().rules, alpha=0.05)
        found = judge(rows, policy)
        differences.append(found["demographic_parity_difference", "sex"].value)
        alarms += any(m.verdict is Verdict.ALERT for m in found.values())
    # The difference of DESIGN: no limit would hold without the test of homogeneity.
    assert np.mean([d for d in differences if d is not None]) == pytest.approx(0.15, abs=0.02)
    assert alarms <= 1.7 * 0.05 * windows


RATES = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=5).map(
    lambda pairs: {f"g{i}": Rate(k, k + m + 1) for i, (k, m) in enumerate(pairs)}
)


@given(RATES)
def test_disparities_are_bounded_and_inside_their_intervals(rates: dict[str, Rate]) -> None:
    difference = difference_of_rates(rates)
    assert 0 <= difference.ci_low <= difference.value <= difference.ci_high <= 1
    assert 0 <= homogeneity_p_value(list(rates.values())) <= 1
    ratio = ratio_of_rates(rates)
    if ratio is not None:
        assert 0 <= ratio.value <= 1
        assert 0 <= ratio.ci_low <= ratio.value <= ratio.ci_high
        assert np.isfinite(ratio.ci_high)


def test_nobody_selected_has_no_ratio() -> None:
    found = judge(by_counts(f=(60, 0, 60, 0), m=(60, 0, 60, 0)), a_policy())
    impact = found["disparate_impact", "sex"]
    assert (impact.value, impact.reason) == (None, "nobody_selected")
    assert impact.verdict is Verdict.INSUFFICIENT_DATA
    assert found["demographic_parity_difference", "sex"].verdict is Verdict.OK


def test_intervals_cover_the_true_ratio_and_difference() -> None:
    draw = np.random.default_rng(3)
    covered = np.zeros(2)
    for _ in range(1000):
        rates = {"a": Rate(draw.binomial(300, 0.6), 300), "b": Rate(draw.binomial(200, 0.45), 200)}
        ratio, difference = ratio_of_rates(rates, "a"), difference_of_rates(rates)
        assert ratio is not None
        covered += [
            ratio.ci_low <= 0.75 <= ratio.ci_high,
            difference.ci_low <= 0.15 <= difference.ci_high,
        ]
    assert (covered / 1000 == pytest.approx(0.95, abs=0.02)) is True


def some_people(seed: int, classes: tuple[str, ...], n: int = 900) -> pa.Table:
    draw = np.random.default_rng(seed)
    label = draw.choice(classes, n)
    wrong = draw.random(n) < 0.3
    return pa.table(
        {
            "sex": draw.choice(["f", "m", "x"], n, p=[0.5, 0.3, 0.2]),
            "label": label,
            "prediction": np.where(wrong, draw.choice(classes, n), label),
            "weight": draw.choice([0.5, 1.0, 3.0], n),
        }
    )


RATES_OF_FAIRLEARN = {
    "selection_rate": "selection_rate",
    "recall": "true_positive_rate",
    "false_positive_rate": "false_positive_rate",
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("output", "good"),
    [(BINARY, "1"), (BINARY, "0"), (ManyClasses(("a", "b", "c")), "b")],
)
def test_disparities_are_fairlearns(
    output: Classes | ManyClasses, good: str, weighted: bool
) -> None:
    fairlearn = pytest.importorskip("fairlearn.metrics", reason="the extra 'test' has it")
    rows = some_people(7, output.names)
    if not weighted:
        rows = rows.drop_columns("weight")
    found = judge(rows, a_policy(favourable_class=good), output)
    truth, predicted = (
        [value == good for value in rows[name].to_pylist()] for name in ("label", "prediction")
    )
    groups = rows["sex"].to_pylist()
    weights = rows["weight"].to_numpy() if weighted else None
    same = {"sensitive_features": groups, "sample_weight": weights}
    expected = {
        "disparate_impact": fairlearn.demographic_parity_ratio(truth, predicted, **same),
        "demographic_parity_difference": fairlearn.demographic_parity_difference(
            truth, predicted, **same
        ),
        "equal_opportunity_difference": fairlearn.equal_opportunity_difference(
            truth, predicted, **same
        ),
        "equalized_odds_difference": fairlearn.equalized_odds_difference(truth, predicted, **same),
    }
    for metric, value in expected.items():
        assert found[metric, "sex"].value == pytest.approx(value, abs=1e-9), metric
    own = fairlearn.MetricFrame(
        metrics={ours: getattr(fairlearn, name) for ours, name in RATES_OF_FAIRLEARN.items()},
        y_true=truth,
        y_pred=predicted,
        sensitive_features=groups,
        sample_params={name: {"sample_weight": weights} for name in RATES_OF_FAIRLEARN},
    ).by_group
    for metric in own.columns:
        for group, value in own[metric].items():
            assert found[metric, f"sex={group}"].value == pytest.approx(value, abs=1e-9)


def test_many_classes_are_fair_by_the_favourable_one_against_the_rest() -> None:
    rows = some_people(7, ("a", "b", "c"))
    found = judge(rows, a_policy(favourable_class="b"), ManyClasses(("a", "b", "c")))
    two = [
        pa.array(["1" if value == "b" else "0" for value in rows[name].to_pylist()])
        for name in ("label", "prediction")
    ]
    binary = pa.table([rows["sex"], *two, rows["weight"]], names=rows.column_names)
    for key, expected in judge(binary, a_policy()).items():
        assert found[key].value == pytest.approx(expected.value)
        assert found[key].p_value == expected.p_value


@pytest.mark.parametrize("output", [ManyClasses(("a", "b", "c")), Quantity()])
def test_a_favourable_class_that_nobody_predicts_is_no_verdict(output: Output) -> None:
    classes = ("a", "b", "c")
    rows = some_people(7, classes)
    if isinstance(output, Quantity):
        rows = rows.set_column(1, "label", pa.array(range(900), pa.float64()))
        rows = rows.set_column(2, "prediction", pa.array(range(900), pa.float64()))
    for found in judge(rows, a_policy(favourable_class="d"), output).values():
        assert (found.value, found.verdict) == (None, Verdict.INSUFFICIENT_DATA)
        assert found.reason == "unknown_favourable_class"
