"""Every judged measurement belongs to one cause, and is calm only below its closing level."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.evaluation.causes import (
    Cause,
    Reached,
    Severity,
    cause_of,
    signals_of,
    silence_about,
    state_of,
)
from service.evaluation.hysteresis import State
from service.evaluation.importance import Importance
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.policy import Action

HARDLY_ROW_HASH = Importance({"row_hash": 0.0, "income": 1.0})

OK, ALERT, THIN = Verdict.OK, Verdict.ALERT, Verdict.INSUFFICIENT_DATA


def a_measurement(metric: str = "drift", **more: Any) -> Measurement:
    base = Measurement(
        metric=metric,
        subject="income" if metric == "drift" else None,
        value=0.31,
        threshold=0.1,
        n=1000,
        method="m",
        direction=Direction.HIGHER_IS_WORSE,
        verdict=ALERT,
    )
    return replace(base, **more)


@pytest.mark.parametrize(
    ("measurement", "cause"),
    [
        (a_measurement(), Cause("drift", subject="income")),
        (a_measurement(subject=None), Cause("multivariate_drift")),
        (a_measurement("missing_ratio", subject="age"), Cause("quality", "missing_ratio", "age")),
        (a_measurement("roc_auc"), Cause("performance")),
        (a_measurement("accuracy"), Cause("performance")),
        (a_measurement("recall", subject="cat"), Cause("performance", subject="cat")),
        (a_measurement("estimated_recall"), Cause("estimated_performance")),
        (a_measurement("recall", slice="region=north"), Cause("slice", slice="region=north")),
        (a_measurement("disparate_impact", subject="sex"), Cause("fairness", subject="sex")),
        (a_measurement("recall", slice="sex=f", direction=Direction.INFORMATION), None),
        (a_measurement(verdict=None), None),
    ],
)
def test_the_cause_of_a_measurement(measurement: Measurement, cause: Cause | None) -> None:
    assert cause_of(measurement) == cause


def test_causes_have_different_keys() -> None:
    causes = [Cause("a", "b"), Cause("a", "", "b"), Cause("a", "", "", "b"), Cause("ab")]
    assert len({cause.key for cause in causes}) == len(causes)
    assert all(len(cause.key) == 32 for cause in causes)


@pytest.mark.parametrize(
    ("value", "threshold", "normal", "direction", "state"),
    [
        # A fifth of the way from the threshold to 0 is 0.08.
        (0.09, 0.1, None, Direction.HIGHER_IS_WORSE, State.RAISED),
        (0.079, 0.1, None, Direction.HIGHER_IS_WORSE, State.CALM),
        # From .85 to .90 it is .86.
        (0.855, 0.85, 0.9, Direction.LOWER_IS_WORSE, State.RAISED),
        (0.87, 0.85, 0.9, Direction.LOWER_IS_WORSE, State.CALM),
        # Without a reference a ratio should be 1: .8 closes at .84.
        (0.83, 0.8, None, Direction.LOWER_IS_WORSE, State.RAISED),
        (0.85, 0.8, None, Direction.LOWER_IS_WORSE, State.CALM),
        # A reference that is under the floor itself cannot lower the level.
        (0.94, 0.95, 0.9, Direction.LOWER_IS_WORSE, State.RAISED),
        (0.96, 0.95, 0.9, Direction.LOWER_IS_WORSE, State.CALM),
    ],
)
def test_an_ok_is_calm_on_the_good_side_of_the_closing_level(
    value: float, threshold: float, normal: float | None, direction: Direction, state: State
) -> None:
    measured = a_measurement(
        verdict=OK,
        value=value,
        threshold=threshold,
        reference_value=normal,
        direction=direction,
        p_value=1e-6,
    )
    assert state_of(measured) is state
    assert state_of(replace(measured, p_value=0.5)) is State.CALM


@given(st.sampled_from([OK, ALERT, THIN]), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_alerts_alert_and_too_little_data_says_nothing(
    verdict: Verdict, value: float, threshold: float, p_value: float
) -> None:
    measured = a_measurement(verdict=verdict, value=value, threshold=threshold, p_value=p_value)
    state = state_of(measured)
    assert (state is State.ALERT) == (verdict is ALERT)
    assert (state is State.UNKNOWN) == (verdict is THIN)


def test_the_metrics_of_one_cause_are_one_signal_and_the_worst_counts() -> None:
    signals = signals_of(
        [
            a_measurement("label_coverage", verdict=THIN),
            a_measurement("roc_auc", verdict=OK, value=0.01),
            a_measurement("accuracy", reference_value=0.9),
            a_measurement(verdict=THIN),
        ]
    )
    loss, drift = signals
    assert (loss.cause, loss.state) == (Cause("performance"), State.ALERT)
    assert (loss.severity, loss.action) == (Severity.CRITICAL, Action.RETRAIN)
    assert loss.reason == "accuracy 0.31 against 0.9"
    assert (drift.state, drift.reason) == (State.UNKNOWN, "")


@pytest.mark.parametrize(
    ("measurement", "severity", "action"),
    [
        (a_measurement(), Severity.WARNING, Action.WATCH),
        (a_measurement(subject="row_hash"), Severity.INFO, Action.NONE),
        (a_measurement("missing_ratio"), Severity.CRITICAL, Action.FIX_DATA),
        (a_measurement("estimated_recall"), Severity.WARNING, Action.RETRAIN),
        (a_measurement("recall", slice="a=b"), Severity.WARNING, Action.WATCH),
        (
            a_measurement("recall", slice="a=b", reason="under_floor"),
            Severity.CRITICAL,
            Action.RETRAIN,
        ),
        (
            a_measurement("rmse", slice="a=b", reason="over_ceiling"),
            Severity.CRITICAL,
            Action.RETRAIN,
        ),
        (a_measurement("disparate_impact"), Severity.WARNING, Action.WATCH),
    ],
)
def test_the_severity_of_a_signal_and_what_it_asks_for(
    measurement: Measurement, severity: Severity, action: Action
) -> None:
    (signal,) = signals_of([measurement], importance=HARDLY_ROW_HASH)
    assert (signal.severity, signal.action) == (severity, action)


def test_an_estimate_that_labels_contradict_asks_for_nothing() -> None:
    (signal,) = signals_of([a_measurement("estimated_recall")], realised=True)
    assert (signal.state, signal.action) == (State.ALERT, Action.WATCH)


FAMILIES = ("quality", "drift", "performance", "slices", "fairness", "concept", "multivariate")
CAUSES = (
    Cause("quality", "missing_ratio", "age"),
    Cause("quality", "conflicting_label_ratio"),
    Cause("drift", subject="income"),
    Cause("performance"),
    Cause("slice", slice="region=north"),
    Cause("fairness", subject="sex"),
    Cause("concept"),
    Cause("multivariate_drift"),
)


@given(
    st.dictionaries(st.sampled_from(FAMILIES), st.sampled_from([one.value for one in Verdict])),
    st.sampled_from(CAUSES),
)
def test_silence_is_calm_only_with_a_verdict_of_the_family(
    verdicts: dict[str, str], cause: Cause
) -> None:
    family = {"slice": "slices", "multivariate_drift": "multivariate"}.get(cause.kind, cause.kind)
    reached = verdicts.get(family) in ("ok", "alert")
    said = silence_about(cause, Reached(verdicts, labelled=100))
    assert said is (State.CALM if reached else State.UNKNOWN)


def test_silence_of_what_rests_on_labels_is_not_known_without_them() -> None:
    north, conflicts = CAUSES[4], CAUSES[1]
    verdicts = {"quality": "ok", "slices": "ok"}
    blind = Reached(verdicts, 0, searched=False)
    assert {silence_about(cause, blind) for cause in (north, conflicts)} == {State.UNKNOWN}
    judged = Reached(verdicts, 100, slices={"region=north"}, searched=False)
    assert {silence_about(cause, judged) for cause in (north, conflicts)} == {State.CALM}
