"""Nobody can retrain without labels: an estimated loss asks for them first."""

from dataclasses import replace

import pytest

from service.evaluation.judgement import Judgement, conclude, require_labels
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.policy import Action
from service.evaluation.window import FAMILIES


def a_judgement(*metrics: str, reason: str | None = None) -> Judgement:
    alerts = [
        Measurement(
            metric=metric,
            slice="big" if reason else None,
            value=0.8,
            threshold=0.85,
            reference_value=0.9,
            n=1000,
            method="m",
            direction=Direction.LOWER_IS_WORSE,
            verdict=Verdict.ALERT,
            reason=reason,
        )
        for metric in metrics
    ]
    return conclude(1000, 0, alerts, [], [*FAMILIES, "slices"])


def test_an_estimated_loss_asks_for_labels_while_there_are_few() -> None:
    judgement = a_judgement("estimated_roc_auc")
    assert judgement.action is Action.RETRAIN
    few = require_labels(judgement, 999, 1000)
    assert few.action is Action.COLLECT_LABELS
    assert few.reason == (
        "the model is estimated to have got worse: estimated_roc_auc 0.8 against 0.9;"
        " 999 labelled rows are known, and a retraining needs 1,000"
    )
    assert [signal.action for signal in few.signals] == [Action.COLLECT_LABELS]
    assert require_labels(judgement, 1000, 1000) == judgement
    assert require_labels(judgement, 0, 0) == judgement


@pytest.mark.parametrize(
    "judgement",
    [
        a_judgement("roc_auc"),
        a_judgement("roc_auc", "estimated_roc_auc"),
        a_judgement("recall", reason="under_floor"),
        a_judgement("estimated_roc_auc", "missing_ratio"),
    ],
)
def test_what_labels_show_and_what_is_no_loss_stays(judgement: Judgement) -> None:
    assert require_labels(judgement, 0, 1000) == judgement


def test_a_critical_slice_beside_an_estimated_loss_asks_for_retraining() -> None:
    both = a_judgement("estimated_roc_auc")
    critical = a_judgement("recall", reason="under_floor")
    both = replace(both, signals=(*both.signals, *critical.signals))
    assert require_labels(both, 0, 1000).action is Action.RETRAIN
