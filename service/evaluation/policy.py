"""What should be done about a window."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from service.evaluation.fairness import DISPARITIES
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.quality import QUALITY_METRICS, TOLD
from service.evaluation.slices import LIMIT_BROKEN, OVER_CEILING, UNDER_FLOOR


class Action(StrEnum):
    """The recommendation that goes with a window."""

    NONE = "none"
    FIX_DATA = "fix_data"
    COLLECT_LABELS = "collect_labels"
    WATCH = "watch"
    RETRAIN = "retrain"


def family_verdict(measurements: list[Measurement]) -> Verdict:
    """Return the verdict of measurements that are judged together.

    One alert is an alert; all that could be judged being ok is ok; nothing that could be judged
    is insufficient data.

    Examples
    --------
    >>> family_verdict([])
    <Verdict.INSUFFICIENT_DATA: 'insufficient_data'>
    """
    verdicts = {measurement.verdict for measurement in measurements}
    if Verdict.ALERT in verdicts:
        return Verdict.ALERT
    return Verdict.OK if Verdict.OK in verdicts else Verdict.INSUFFICIENT_DATA


# What asks for attention, not for a retraining.
_WATCHED = {
    "slices": "the model got worse for some",
    "fairness": "groups are treated differently",
    "drift": "moved without a known loss",
}


def decide(verdicts: Mapping[str, Verdict], alerts: list[Measurement]) -> tuple[Action, str]:
    """Return the action for a window, and the reason in a sentence.

    Broken data wins over everything: a model must not be trained on it.  A realised loss, where it
    could be measured, wins over an estimated one.  A critical slice under its floor is a loss,
    whatever the average; other slices, unequal groups and drift without loss are watched.  A
    reason never calls healthy what could not be judged.
    """
    quality = _named(alerts, "quality")
    if verdicts["quality"] is Verdict.ALERT:
        return Action.FIX_DATA, f"the input is broken: {quality}"
    if verdicts["performance"] is Verdict.ALERT:
        return Action.RETRAIN, f"the model got worse: {_named(alerts, 'performance')}"
    critical = [alert for alert in alerts if alert.reason in LIMIT_BROKEN]
    if critical:
        return Action.RETRAIN, f"a critical slice fails: {_named(critical, 'slices')}"
    realised = verdicts["performance"] is not Verdict.INSUFFICIENT_DATA
    if verdicts["estimated_performance"] is Verdict.ALERT and not realised:
        named = _named(alerts, "estimated_performance")
        return Action.RETRAIN, f"the model is estimated to have got worse: {named}"
    for family, what in _WATCHED.items():
        if verdicts.get(family) is Verdict.ALERT:
            return Action.WATCH, f"{what}: {_named(alerts, family)}"
    return Action.NONE, _quiet(verdicts)


def _quiet(verdicts: Mapping[str, Verdict]) -> str:
    unknown = [name for name, verdict in verdicts.items() if verdict is Verdict.INSUFFICIENT_DATA]
    if len(unknown) == len(verdicts):
        return "nothing could be judged: too little data"
    if unknown:
        names = ", ".join(unknown).replace("_", " ")
        return f"nothing is known to be wrong; not judged: {names}"
    return "nothing is wrong"


def family_of(measurement: Measurement) -> str:
    """Return which verdict a measurement belongs to."""
    if measurement.metric in DISPARITIES:
        return "fairness"
    if measurement.slice is not None:
        return "fairness" if measurement.direction is Direction.INFORMATION else "slices"
    if measurement.metric == "drift":
        return "drift"
    if measurement.metric in QUALITY_METRICS:
        return "quality"
    if measurement.metric.startswith("estimated_"):
        return "estimated_performance"
    return "performance"


_BROKEN = {UNDER_FLOOR: "under its floor", OVER_CEILING: "over its ceiling"}

# A sentence that a person can read names no more.
SAID = 3


def _named(alerts: list[Measurement], family: str) -> str:
    own = [alert for alert in alerts if family_of(alert) == family]
    if family == "drift":
        own.sort(key=lambda alert: -(alert.value or 0.0))
    return describe(own)


def describe(alerts: Sequence[Measurement]) -> str:
    """Return a clause that names the first alerts with their numbers, and counts the rest."""
    said = [_sentence(alert) for alert in alerts]
    more = f" and {len(said) - SAID} more" if len(said) > SAID else ""
    return ", ".join(said[:SAID]) + more


def _sentence(alert: Measurement) -> str:
    named = alert.slice or alert.subject
    subject = f" of {named}" if named else ""
    if alert.metric in TOLD and alert.reason is not None:
        return f"{alert.subject or ''} {alert.reason}".strip()
    if alert.value is None:
        return f"{alert.metric}{subject}"
    if alert.reason in _BROKEN:
        how = _BROKEN[alert.reason]
        return f"{alert.metric}{subject} {alert.value:.3g} {how} {alert.threshold:.3g}"
    if alert.reference_value is not None:
        return f"{alert.metric}{subject} {alert.value:.3g} against {alert.reference_value:.3g}"
    if alert.metric == "drift" and alert.threshold is not None:
        return f"drift{subject} {alert.value:.2f} over {alert.threshold:.2f}"
    return f"{alert.metric}{subject} {alert.value:.3g}"
