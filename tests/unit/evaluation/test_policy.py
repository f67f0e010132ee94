"""What is done about a window follows from its verdicts, the worst cause first."""

from dataclasses import replace

import pytest

from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.policy import Action, decide, family_of, family_verdict

OK, ALERT, THIN = Verdict.OK, Verdict.ALERT, Verdict.INSUFFICIENT_DATA


def a_measurement(metric: str = "drift", verdict: Verdict | None = ALERT) -> Measurement:
    return Measurement(
        metric=metric,
        subject="income",
        value=0.31,
        threshold=0.1,
        reference_value=None if metric == "drift" else 0.9,
        n=1000,
        method="m",
        direction=Direction.HIGHER_IS_WORSE,
        verdict=verdict,
    )


ALERTS = [
    a_measurement(metric) for metric in ("drift", "missing_ratio", "estimated_roc_auc", "roc_auc")
]


@pytest.mark.parametrize(
    ("quality", "drift", "estimated", "performance", "action"),
    [
        (OK, OK, OK, OK, Action.NONE),
        (THIN, THIN, THIN, THIN, Action.NONE),
        (OK, ALERT, OK, OK, Action.WATCH),
        (OK, ALERT, OK, THIN, Action.WATCH),
        (OK, OK, OK, ALERT, Action.RETRAIN),
        (OK, OK, ALERT, THIN, Action.RETRAIN),
        (OK, OK, ALERT, OK, Action.NONE),
        (OK, ALERT, ALERT, OK, Action.WATCH),
        (ALERT, ALERT, ALERT, ALERT, Action.FIX_DATA),
    ],
)
def test_the_action_follows_from_the_verdicts(
    quality: Verdict, drift: Verdict, estimated: Verdict, performance: Verdict, action: Action
) -> None:
    verdicts = {
        "quality": quality,
        "drift": drift,
        "estimated_performance": estimated,
        "performance": performance,
    }
    alerts = [alert for alert in ALERTS if verdicts[family_of(alert)] is ALERT]
    decided, reason = decide(verdicts, alerts)
    assert decided is action
    assert reason


def test_a_reason_names_the_number_and_what_it_is_compared_with() -> None:
    verdicts = dict.fromkeys(("quality", "drift", "estimated_performance"), OK)
    _, reason = decide({**verdicts, "performance": ALERT}, [a_measurement("accuracy")])
    assert reason == "the model got worse: accuracy of income 0.31 against 0.9"


def test_what_is_stuck_is_told_in_words() -> None:
    verdicts = dict.fromkeys(("performance", "drift", "estimated_performance"), OK)
    stuck = replace(a_measurement("constant"), reason="stuck at 42")
    _, reason = decide({**verdicts, "quality": ALERT}, [stuck])
    assert reason == "the input is broken: income stuck at 42"


@pytest.mark.parametrize(
    ("performance", "rest", "reason"),
    [
        (OK, OK, "nothing is wrong"),
        (THIN, OK, "nothing is known to be wrong; not judged: performance"),
        (THIN, THIN, "nothing could be judged: too little data"),
    ],
)
def test_a_reason_never_calls_healthy_what_was_not_judged(
    performance: Verdict, rest: Verdict, reason: str
) -> None:
    verdicts = dict.fromkeys(("quality", "drift", "estimated_performance"), rest)
    assert decide({**verdicts, "performance": performance}, []) == (Action.NONE, reason)


def test_the_strongest_drift_is_named_first() -> None:
    verdicts = dict.fromkeys(("quality", "estimated_performance", "performance"), OK)
    weak = a_measurement()
    strong = replace(weak, subject="age", value=0.83)
    _, reason = decide({**verdicts, "drift": ALERT}, [weak, strong])
    assert reason.index("age") < reason.index("income")


def test_a_reason_names_at_most_three() -> None:
    verdicts = dict.fromkeys(("quality", "estimated_performance", "performance"), OK)
    _, reason = decide({**verdicts, "drift": ALERT}, [a_measurement()] * 5)
    assert reason.endswith("and 2 more")


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        ([], THIN),
        ([None, None], THIN),
        ([THIN, None], THIN),
        ([THIN, OK], OK),
        ([OK, THIN, ALERT], ALERT),
    ],
)
def test_one_alert_is_an_alert_and_nothing_judged_is_not_ok(
    verdicts: list[Verdict | None], verdict: Verdict
) -> None:
    assert family_verdict([a_measurement("roc_auc", each) for each in verdicts]) is verdict


def a_slice_alert(reason: str | None = None) -> Measurement:
    alert = a_measurement("recall")
    return replace(alert, subject=None, slice="big-tickets", threshold=0.95, reason=reason)


def test_a_critical_slice_under_its_floor_asks_for_a_retraining_and_another_slice_for_a_look() -> (
    None
):
    verdicts = dict.fromkeys(("quality", "drift", "estimated_performance", "performance"), OK)
    verdicts["slices"] = ALERT
    action, reason = decide(verdicts, [a_slice_alert("under_floor")])
    assert action is Action.RETRAIN
    assert "recall of big-tickets 0.31 under its floor 0.95" in reason
    assert decide(verdicts, [a_slice_alert()])[0] is Action.WATCH
    # Nobody should retrain on broken data, however critical the slice.
    broken = [a_measurement("missing_ratio"), a_slice_alert("under_floor")]
    assert decide({**verdicts, "quality": ALERT}, broken)[0] is Action.FIX_DATA


def test_unequal_groups_are_looked_at() -> None:
    verdicts = dict.fromkeys(("quality", "drift", "estimated_performance", "performance"), OK)
    action, reason = decide({**verdicts, "fairness": ALERT}, [a_measurement("disparate_impact")])
    assert action is Action.WATCH
    assert "disparate_impact of income" in reason


@pytest.mark.parametrize(
    ("measurement", "family"),
    [
        (a_slice_alert(), "slices"),
        (replace(a_slice_alert(), direction=Direction.INFORMATION), "fairness"),
        (a_measurement("equalized_odds_difference"), "fairness"),
        (a_measurement("recall"), "performance"),
    ],
)
def test_the_family_of_a_slice_or_a_disparity(measurement: Measurement, family: str) -> None:
    assert family_of(measurement) == family
