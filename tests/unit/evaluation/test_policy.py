"""What is done about a window follows from its verdicts, the worst cause first."""

from dataclasses import replace

import pytest

from service.evaluation.importance import ALIKE, Importance
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.policy import (
    Action,
    decide,
    describe,
    family_of,
    family_verdict,
    ranked,
)

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


def drifts(**values: float) -> list[Measurement]:
    return [replace(a_measurement(), subject=name, value=v) for name, v in values.items()]


def subjects(alerts: list[Measurement]) -> list[str | None]:
    return [alert.subject for alert in alerts]


def test_the_strongest_drift_comes_first_and_where_importance_is_known_its_product_counts() -> None:
    alerts = drifts(income=0.31, age=0.83, row_hash=1.0)
    assert subjects(ranked(alerts, ALIKE)) == ["row_hash", "age", "income"]
    known = Importance({"income": 0.6, "age": 0.2, "row_hash": 0.001})
    assert subjects(ranked(alerts, known)) == ["income", "age", "row_hash"]
    # A p-value that is far below its level is as much as a distance that is far above.
    p_value = replace(alerts[0], subject="p", value=1e-9, threshold=0.05)
    p_value = replace(p_value, direction=Direction.LOWER_IS_WORSE)
    assert subjects(ranked([*alerts, p_value], ALIKE))[0] == "p"


def test_numbers_in_a_sentence_are_those_of_a_person() -> None:
    lost = replace(a_measurement("rmse"), value=58_012.3, reference_value=34_800.1, subject=None)
    assert describe([lost]) == "rmse 58,000 against 34,800"
    (near,) = drifts(score=0.1045)
    assert describe([near]) == "drift of score 0.104 over 0.1"
    p_value = replace(near, value=3.2e-9, threshold=0.05, direction=Direction.LOWER_IS_WORSE)
    assert describe([p_value]) == "drift of score 3.2e-09 under 0.05"
    broken = replace(lost, metric="missing_ratio", subject="age", value=0.3151, reference_value=0.0)
    assert describe([broken]) == "31.5 % of age missing against 0 %"


def test_an_estimated_loss_that_labels_deny_is_not_called_nothing() -> None:
    verdicts = {"quality": OK, "drift": OK, "estimated_performance": ALERT, "performance": OK}
    action, reason = decide(verdicts, [a_measurement("estimated_recall")])
    assert action is Action.NONE
    assert reason.startswith("labels show none of the loss that was estimated: estimated_recall")


def test_broken_features_are_named_by_their_importance() -> None:
    alerts = [replace(a_measurement("missing_ratio"), subject=name) for name in ("a", "b")]
    assert subjects(ranked(alerts, Importance({"a": 1.0, "b": 2.0}))) == ["b", "a"]
    assert subjects(ranked(alerts, ALIKE)) == ["a", "b"]


def test_drift_of_what_the_model_hardly_uses_asks_for_nothing() -> None:
    verdicts = dict.fromkeys(("quality", "estimated_performance", "performance"), OK)
    known = Importance({"income": 0.6, "row_hash": 0.0})
    action, reason = decide({**verdicts, "drift": ALERT}, drifts(row_hash=0.5), known)
    assert action is Action.NONE
    assert reason == "only what the model hardly uses has moved: drift of row_hash 0.5 over 0.1"
    both = drifts(row_hash=0.5, income=0.2)
    assert decide({**verdicts, "drift": ALERT}, both, known)[0] is Action.WATCH


def test_drift_whose_harm_nobody_can_know_asks_for_labels() -> None:
    verdicts = dict.fromkeys(("estimated_performance", "performance"), THIN)
    verdicts |= {"quality": OK, "drift": ALERT}
    action, reason = decide(verdicts, drifts(income=0.2))
    assert action is Action.COLLECT_LABELS
    assert "neither labels nor an estimate tell" in reason
    assert decide({**verdicts, "estimated_performance": OK}, drifts(income=0.2))[0] is Action.WATCH


def test_another_concept_asks_for_retraining_and_is_said_with_the_loss() -> None:
    verdicts = dict.fromkeys(("quality", "drift", "estimated_performance", "performance"), OK)
    shift = replace(a_measurement("concept_drift_accuracy"), subject=None)
    error = replace(shift, direction=Direction.HIGHER_IS_WORSE)
    shift = replace(shift, value=-0.31, direction=Direction.LOWER_IS_WORSE)
    assert describe([error]) == "accuracy higher than expected by 31 % of the reference's"
    assert family_of(shift) == family_of(a_measurement("calibration_drift")) == "concept"
    action, reason = decide({**verdicts, "concept": ALERT}, [shift])
    assert action is Action.RETRAIN
    assert reason.startswith("the output means something else, or the input moved where")
    assert reason.endswith(": accuracy 0.31 lower than the scores promise")
    loss = {**verdicts, "concept": ALERT, "performance": ALERT}
    action, reason = decide(loss, [shift, a_measurement("accuracy")])
    assert action is Action.RETRAIN
    assert reason.startswith("the model got worse: accuracy of income 0.31 against 0.9; the output")
    assert decide({**loss, "quality": ALERT}, [shift])[0] is Action.FIX_DATA


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


def test_labels_without_a_conflict_make_no_input_healthy() -> None:
    calm = a_measurement("conflicting_label_ratio", Verdict.OK)
    assert family_verdict([calm]) is Verdict.INSUFFICIENT_DATA
    assert family_verdict([calm, a_measurement("missing_ratio", Verdict.OK)]) is Verdict.OK
    loud = a_measurement("conflicting_label_ratio", Verdict.ALERT)
    assert family_verdict([loud]) is Verdict.ALERT


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


def test_labels_that_contradict_are_not_called_broken_input() -> None:
    verdicts = dict.fromkeys(("quality", "drift", "performance", "estimated_performance"), OK)
    verdicts["quality"] = verdicts["performance"] = ALERT
    told = "10.0 % of the labelled rows were given different labels"
    conflict = replace(a_measurement("conflicting_label_ratio"), subject=None, reason=told)
    action, reason = decide(verdicts, [conflict, a_measurement("roc_auc")])
    assert action is Action.FIX_DATA
    assert reason.startswith("the labels contradict each other")
    assert reason.endswith(told)
    _, reason = decide(verdicts, [conflict, a_measurement("missing_ratio")])
    assert reason.startswith("the input is broken")
