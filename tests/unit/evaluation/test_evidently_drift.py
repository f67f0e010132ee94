"""Drift by Evidently's scores: our level, its score, and never a guess without it."""

import numpy as np
import pyarrow as pa
import pytest

from service.detection.evidently_methods import METHODS, PREFIX, Scale
from service.evaluation.drift import judge_drift
from service.evaluation.drift_columns import ColumnDriftPolicy, DriftPolicy
from service.evaluation.evidently_drift import (
    by_chance_alone,
    evidently_test,
    judge_by_scores,
)
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.profiles.build import profile_features
from service.profiles.columns import Classes, Column, Kind
from service.profiles.freeze import freeze_binning

COLUMNS = [Column("income", Kind.NUMERIC)]


def _rows(seed: int, shift: float = 0.0) -> pa.Table:
    return pa.table({"income": np.random.default_rng(seed).normal(shift, 1, 800)})


def _judge(
    policy: DriftPolicy, current: pa.Table, test: str | None, value: float | None
) -> Measurement:
    reference = _rows(1)
    binning = freeze_binning(reference, COLUMNS, Classes("0", "1"))
    before, after = (profile_features(rows, COLUMNS, binning) for rows in (reference, current))
    own = by_chance_alone(["income"], policy)
    judged = judge_drift(binning, before, [], after, own)
    scores = []
    if test is not None:
        scores = [
            Measurement(
                metric="drift",
                subject="income",
                value=value,
                n=800,
                method=f"{PREFIX}{test}",
                engine="evidently",
                direction=Direction.HIGHER_IS_WORSE,
                verdict=None,
                reason=None if value is not None else "too_few_rows",
            )
        ]
    [found] = [m for m in judge_by_scores(judged, policy, scores) if m.subject == "income"]
    return found


@pytest.mark.parametrize("test", sorted(name for name, m in METHODS.items() if m.kinds))
def test_an_alert_is_beyond_chance_and_beyond_the_score_s_threshold(test: str) -> None:
    policy = DriftPolicy(method=f"{PREFIX}{test}")
    is_p_value = METHODS[test].scale is Scale.P_VALUE
    bad, good = (0.001, 0.9) if is_p_value else (0.9, 0.001)
    moved = _judge(policy, _rows(2, 1.0), test, bad)
    assert (moved.verdict, moved.engine, moved.method) == (
        Verdict.ALERT,
        "evidently",
        f"{PREFIX}{test}",
    )
    assert (moved.direction is Direction.LOWER_IS_WORSE) == is_p_value
    assert moved.threshold == METHODS[test].threshold
    assert _judge(policy, _rows(2, 1.0), test, good).verdict is Verdict.OK
    # Evidently's score alone is no alert: chance makes such scores, too.
    assert _judge(policy, _rows(3), test, bad).verdict is Verdict.OK


def test_a_distance_has_the_monitor_s_own_threshold() -> None:
    policy = DriftPolicy(
        columns={"income": ColumnDriftPolicy(method="evidently.psi", min_effect=0.5)}
    )
    assert _judge(policy, _rows(2, 1.0), "psi", 0.4).verdict is Verdict.OK
    assert _judge(policy, _rows(2, 1.0), "psi", 0.6).verdict is Verdict.ALERT


@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("test", [None, "wasserstein"])
def test_without_a_score_there_is_no_verdict(test: str | None, shift: float) -> None:
    found = _judge(DriftPolicy(method="evidently.wasserstein"), _rows(3, shift), test, None)
    assert (found.verdict, found.value) == (Verdict.INSUFFICIENT_DATA, None)
    assert found.reason is not None
    assert found.reason.startswith("Evidently gave no score")


def test_the_label_is_never_watched_by_evidently() -> None:
    policy = DriftPolicy(method="evidently.psi")
    assert evidently_test("label", policy) is None
    assert by_chance_alone(["income"], policy).method == "jensen_shannon"
