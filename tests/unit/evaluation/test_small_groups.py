"""Nothing is told of fewer than twenty rows: no name, no count, no value."""

import numpy as np
import pandas as pd
import pytest

from service.detection.comparison import compare_column
from service.detection.evidently_columns import OTHER, with_other
from service.detection.methods import METHODS, Sample
from service.detection.rare import RareCell
from service.evaluation.fairness import FairnessPolicy, FairnessRule, judge_fairness
from service.evaluation.measurement import SMALL_GROUP, SMALLEST_GROUP, Verdict
from service.evaluation.performance import PerformancePolicy
from service.evaluation.rare import describe_cell
from service.evaluation.slices import SlicePolicy, SliceRule
from service.profiles.binning import CategoricalBins
from service.profiles.columns import Classes
from tests.unit.evaluation.test_slices import BY_REGION, REGION, judge, of_rows

# Somebody who is told of ten rows is told of nineteen as well; `min_rows` does not decide it.
EAGER = PerformancePolicy(metrics=("accuracy",), min_rows=1)
BY_VALUE = SlicePolicy(EAGER, (SliceRule(columns=REGION),))
BY_NAME = SlicePolicy(EAGER, (SliceRule(name="big"),))


def test_a_value_that_few_rows_have_is_not_named() -> None:
    for rows, named in ((SMALLEST_GROUP - 1, False), (SMALLEST_GROUP, True)):
        few = {"region=Tiny": of_rows(rows, 1), "region=n": of_rows(200, 1)}
        assert ({name for name, _ in judge({}, few, BY_VALUE)} == {*few}) is named
        # Rows without a label count: they are rows of somebody.
        unlabelled = {"region=Tiny": of_rows(0, 0, rows)}
        assert bool(judge({}, unlabelled, BY_REGION)) is named
        assert bool(judge(unlabelled, {}, BY_REGION)) is named


@pytest.mark.parametrize(("rows", "unlabelled"), [(19, 0), (3, 500)])
def test_of_a_slice_that_has_become_small_neither_value_nor_count_is_told(
    rows: int, unlabelled: int
) -> None:
    now = of_rows(rows, 1, unlabelled)
    for name, policy in (("region=n", BY_VALUE), ("big", BY_NAME)):
        found = judge({name: of_rows(500, 5)}, {name: now}, policy)[name, "accuracy"]
        assert (found.verdict, found.reason) == (Verdict.INSUFFICIENT_DATA, SMALL_GROUP)
        assert (found.value, found.n, found.n_eff, found.ci_low) == (None, 0, None, None)


def test_a_slice_that_was_small_in_the_reference_has_no_baseline() -> None:
    found = judge({"big": of_rows(19, 19)}, {"big": of_rows(500, 5)}, BY_NAME)["big", "accuracy"]
    assert (found.reference_value, found.n_reference) == (None, None)
    assert found.value == 0.99


def test_a_small_protected_group_is_not_named() -> None:
    groups = {"region=n": of_rows(200, 1), "region=s": of_rows(200, 1), "region=x": of_rows(19, 9)}
    rule = FairnessRule(column="region", limits={"disparate_impact": 0.8})
    policy = FairnessPolicy(rules=[rule], min_rows=1)
    found = judge_fairness(groups, Classes("0", "1"), policy)
    assert {m.slice for m in found} == {"region=n", "region=s", None}


@pytest.mark.parametrize(("rows", "named"), [(19, False), (20, True)])
def test_a_category_that_few_rows_have_is_in_no_reason(rows: int, *, named: bool) -> None:
    bins = CategoricalBins(("common", "Tiny"), frozenset())
    before, after = np.array([4995, 5, 0, 0]), np.array([1000 - rows, rows, 0, 0])
    compared = compare_column(bins, Sample(before), [], Sample(after), METHODS["psi"])
    said = describe_cell(compared, RareCell(1, 0.001, rows / 1000, 1e-9))
    assert ("Tiny" in said) is named
    assert said.startswith("rare category")


def test_a_chart_folds_categories_that_few_rows_have() -> None:
    before = pd.Series(["a"] * 50 + ["b"] * 19 + ["c"] * 20)
    now = pd.Series(["a"] * 50 + ["b"] * 19 + ["d"])
    left, right = with_other(before, now, 50, 20)
    assert set(left) == {"a", "c", OTHER}
    assert set(right) == {"a", OTHER}
    assert (len(left), len(right)) == (len(before), len(now))
    assert with_other(before, now)[0] is before
