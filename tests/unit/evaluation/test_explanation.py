"""What explains a loss, by labels or by what scores promise."""

from typing import Any

import numpy as np
import pyarrow as pa

from service.evaluation.explanation import (
    ESTIMATED,
    REALISED,
    UNEXPLAINED,
    explain_estimated,
    explain_realised,
)
from service.evaluation.measurement import Measurement
from service.evaluation.performance import PerformancePolicy
from service.evaluation.policy import family_of
from service.profiles.columns import Classes, Column, Kind
from service.profiles.freeze import freeze_binning

COLUMNS = [Column("x", Kind.NUMERIC), Column("z", Kind.NUMERIC), Column("plan", Kind.CATEGORICAL)]
BINARY = Classes("0", "1")
BINNING = freeze_binning(pa.table({"score": np.linspace(0, 1, 101)}), [], BINARY)
POLICY = PerformancePolicy()


def some_rows(seed: int, n: int, center: float = 3.0, wrong: float = 0.0) -> pa.Table:
    """Draw rows whose scores are true; near x = 0 they are near .5, and most errors are there."""
    draw = np.random.default_rng(seed)
    x = draw.normal(center, 1, n) * draw.choice([-1, 1], n)
    score = 1 / (1 + np.exp(-x))
    label = draw.random(n) < score
    flipped = draw.random(n) < wrong
    return pa.table(
        {
            "x": np.abs(x),
            "z": draw.normal(0, 1, n),
            "plan": draw.choice(["basic", "gold"], n),
            "score": score,
            "prediction": (score >= 0.5).astype(int).astype(str),
            "label": (label ^ flipped).astype(int).astype(str),
        }
    )


def without_labels(rows: pa.Table) -> pa.Table:
    return rows.set_column(
        rows.column_names.index("label"), "label", pa.nulls(rows.num_rows, pa.string())
    )


def realised(reference: pa.Table, current: pa.Table) -> list[Measurement]:
    return explain_realised(reference, current, COLUMNS, BINNING, POLICY, {})


def estimated(reference: pa.Table, current: pa.Table, **more: Any) -> list[Measurement]:
    return explain_estimated(reference, current, COLUMNS, more.get("binning", BINNING), POLICY)


def test_the_shift_of_one_feature_ranks_first_with_labels_and_without() -> None:
    reference, current = some_rows(1, 10_000), some_rows(2, 5_000, center=1.0)
    by_labels = realised(reference, current)
    by_scores = estimated(reference, without_labels(current))
    for found, metric in ((by_labels, REALISED), (by_scores, ESTIMATED)):
        first = found[0]
        assert (first.metric, first.subject, first.verdict) == (metric, "x", None)
        assert first.value is not None
        # Some of it is within the lowest bin, where most values are lower than they were.
        assert 0.6 < first.value < 1.1
        share = f"{100 * min(first.value, 1):.0f} %"
        assert first.reason == f"the shift of x explains {share} of the rise of the loss"
        assert "z" not in {one.subject for one in found}
    assert (family_of(by_labels[0]), family_of(by_scores[0])) == ("performance", "performance")


def test_another_concept_is_said_to_be_unexplained() -> None:
    (only,) = realised(some_rows(1, 10_000), some_rows(2, 5_000, wrong=0.2))
    assert (only.value, only.reason, only.subject, only.slice) == (None, UNEXPLAINED, None, None)


def test_without_a_loss_there_is_nothing_to_explain() -> None:
    assert realised(some_rows(1, 10_000), some_rows(2, 5_000)) == []
    assert realised(some_rows(1, 10_000, center=1.0), some_rows(2, 5_000)) == []
    assert estimated(some_rows(1, 10_000), without_labels(some_rows(2, 5_000))) == []


def test_each_kind_speaks_where_the_other_cannot() -> None:
    reference, current = some_rows(1, 10_000), some_rows(2, 5_000, center=1.0)
    assert estimated(reference, current) == []
    assert realised(reference, without_labels(current)) == []
    assert estimated(without_labels(reference), without_labels(current)) == []
    assert estimated(reference.drop_columns("score"), without_labels(current)) == []
    assert realised(reference, current.slice(0, 0)) == []
