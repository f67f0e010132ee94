"""An alert on whole rows is beyond chance, large enough, and shares its level with the others."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from service.evaluation.drift_columns import ColumnDriftPolicy, DriftPolicy
from service.evaluation.judgement import conclude
from service.evaluation.measurement import Verdict
from service.evaluation.multivariate import MultivariatePolicy
from service.evaluation.performance import PerformancePolicy
from service.evaluation.policy import Action, family_of
from service.evaluation.quality import QualityPolicy
from service.evaluation.rows import ENGINE, Sampled, measure_rows
from service.evaluation.window import Policies
from service.profiles.columns import Classes, Column, Kind
from service.profiles.freeze import freeze_binning

COLUMNS = (
    Column("a", Kind.NUMERIC),
    Column("b", Kind.NUMERIC),
    Column("vector", Kind.EMBEDDING),
)
POLICIES = Policies(
    DriftPolicy(), QualityPolicy(), PerformancePolicy(), multivariate=MultivariatePolicy()
)


def _rows(seed: int, rows: int = 1000, *, together: float = 0.0, shift: float = 0.0) -> pa.Table:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=rows)
    b = together * a + np.sqrt(1 - together**2) * rng.normal(size=rows)
    vectors = rng.normal(size=(rows, 8)) + shift
    return pa.table({"a": a, "b": b, "vector": pa.array(vectors.tolist())})


def _sampled(current: pa.Table, reference: pa.Table | None = None) -> Sampled:
    before = _rows(1) if reference is None else reference
    return Sampled(before, current, COLUMNS, freeze_binning(before, [], Classes("0", "1")))


def test_rows_that_did_not_move_are_well_and_those_that_hang_together_otherwise_are_watched() -> (
    None
):
    quiet = measure_rows(_sampled(_rows(2)), POLICIES, ENGINE)
    assert [m.verdict for m in quiet] == [Verdict.OK] * 3
    found = measure_rows(_sampled(_rows(3, together=0.9)), POLICIES, ENGINE)
    assert [m.verdict for m in found] == [Verdict.ALERT, Verdict.ALERT, Verdict.OK]
    assert {family_of(m) for m in found} == {"multivariate"}
    judged = conclude(1000, 0, found, [], POLICIES.families)
    assert (judged.verdicts["multivariate"], judged.action) == (Verdict.ALERT, Action.WATCH)
    assert "domain_classifier_auc" in judged.reason


def test_vectors_are_a_column_of_their_own() -> None:
    *_, vectors = measure_rows(_sampled(_rows(4, shift=0.5)), POLICIES, ENGINE)
    assert (vectors.metric, vectors.subject, vectors.verdict) == ("drift", "vector", Verdict.ALERT)
    ignored = replace(
        POLICIES, drift=DriftPolicy(columns={"vector": ColumnDriftPolicy(ignore=True)})
    )
    assert len(measure_rows(_sampled(_rows(4, shift=0.5)), ignored, ENGINE)) == 2


@pytest.mark.parametrize("current", [_rows(5, 1), _rows(5, 0), pa.table({})])
def test_too_few_rows_are_not_judged(current: pa.Table) -> None:
    found = measure_rows(_sampled(current), POLICIES, ENGINE)
    assert {m.verdict for m in found} == {Verdict.INSUFFICIENT_DATA}
    assert all(m.value is None and m.reason for m in found)


def test_columns_that_say_nothing_are_not_judged() -> None:
    constant = pa.table({"a": [1.0] * 200, "b": pa.nulls(200, pa.float64())})
    found = measure_rows(_sampled(constant, constant), POLICIES, ENGINE)
    assert {m.verdict for m in found} == {Verdict.INSUFFICIENT_DATA}
    assert not any((m.reason or "").startswith("failed") for m in found)


def test_a_monitor_chooses_its_methods() -> None:
    policy = MultivariatePolicy(classifier=False, min_auc=0.9)
    found = measure_rows(
        _sampled(_rows(3, together=0.9)), replace(POLICIES, multivariate=policy), ENGINE
    )
    assert [m.metric for m in found] == ["pca_reconstruction_error", "drift"]
    assert measure_rows(_sampled(_rows(2)), replace(POLICIES, multivariate=None), ENGINE) == []


def test_a_window_like_one_of_the_reference_s_days_is_no_alert() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def days(count: int, first: int) -> pa.Table:
        rng = np.random.default_rng(first)
        levels = np.repeat(rng.normal(size=count), 100)
        times = [start + timedelta(days=first, minutes=14 * i) for i in range(count * 100)]
        other = rng.normal(size=(2, count * 100))
        return pa.table({"ts": times, "a": levels + 0.5 * other[0], "b": other[1]})

    columns = COLUMNS[:2]
    before, now = days(60, 0), days(1, 100).set_column(0, "ts", days(1, 100)["ts"])
    moved = now.set_column(1, "a", pa.array(now["a"].to_numpy() * 0 + 1.5))
    sampled = replace(_sampled(moved, before), columns=columns)
    classifier, _ = measure_rows(sampled, POLICIES, ENGINE)
    assert classifier.value is not None
    assert classifier.value > 0.8
    assert classifier.verdict is Verdict.OK
