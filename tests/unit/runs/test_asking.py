"""What an event says of a window that asks for retraining."""

from dataclasses import replace

from service.evaluation.causes import cause_of
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.retraining.events import MOST_SIGNALS
from service.runs.asking import _signals

LOSS = Measurement(
    metric="roc_auc",
    value=0.6,
    n=600,
    method="delong",
    direction=Direction.LOWER_IS_WORSE,
    verdict=Verdict.ALERT,
)
DRIFT = replace(LOSS, metric="drift", method="psi", direction=Direction.HIGHER_IS_WORSE)


def test_drift_of_a_hundred_features_does_not_hide_the_loss_that_asks() -> None:
    drifting = [replace(DRIFT, subject=f"x{number}") for number in range(2 * MOST_SIGNALS)]
    cause = cause_of(LOSS)
    assert cause is not None
    told = _signals([*drifting, LOSS, replace(LOSS, verdict=Verdict.OK)], {cause})
    assert len(told) == len(drifting) + 1
    assert told[0]["metric"] == "roc_auc"
    assert [signal["subject"] for signal in told[1:]] == [alert.subject for alert in drifting]
