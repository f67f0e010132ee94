"""What should be done about a window."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from service.evaluation.concept import CALIBRATION_DRIFT, CONCEPT_DRIFT
from service.evaluation.discovery import SUMMARY as DISCOVERED
from service.evaluation.explanation import CONTRIBUTIONS
from service.evaluation.fairness import DISPARITIES
from service.evaluation.importance import ALIKE, Importance
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.multivariate import DOMAIN_CLASSIFIER, MULTIVARIATE
from service.evaluation.quality import QUALITY_METRICS, TOLD
from service.evaluation.quality_rows import CONFLICTING_LABELS
from service.evaluation.slices import LIMIT_BROKEN, OVER_CEILING, UNDER_FLOOR


class Action(StrEnum):
    """The recommendation that goes with a window."""

    NONE = "none"
    FIX_DATA = "fix_data"
    COLLECT_LABELS = "collect_labels"
    WATCH = "watch"
    RETRAIN = "retrain"


# Labels that do not contradict each other make no input healthy.
_NEVER_OK_ALONE = frozenset({"conflicting_label_ratio"})


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
    said = {one.verdict for one in measurements if one.metric not in _NEVER_OK_ALONE}
    return Verdict.OK if Verdict.OK in said else Verdict.INSUFFICIENT_DATA


# What says that the model must learn again, and what asks for attention, each the worst first.
_LOST = {
    "performance": "the model got worse",
    "concept": (
        "the output means something else, or the input moved where the reference has few rows"
    ),
}
_WATCHED = {
    "slices": "the model got worse for some",
    "fairness": "groups are treated differently",
}


def decide(
    verdicts: Mapping[str, Verdict],
    alerts: Sequence[Measurement],
    importance: Importance = ALIKE,
) -> tuple[Action, str]:
    """Return the action for a window, and the reason in a sentence.

    Broken data wins over everything: a model must not be trained on it, nor on labels that
    contradict each other.  Another concept, a
    realised loss and a critical slice beyond its limit, whatever the average, ask for retraining;
    so does an estimated loss where labels cannot tell.  Other slices and unequal groups are
    watched.  So are rows that moved as a whole,
    and drift that is known to be harmless; where neither labels nor an estimate can
    tell, labels are to be collected.  Drift of what the model hardly uses asks for nothing.  A
    reason never calls healthy what could not be judged.
    """
    if verdicts["quality"] is Verdict.ALERT:
        return Action.FIX_DATA, f"{_broken(alerts)}: {_named(alerts, 'quality')}"
    loss = _loss(verdicts, alerts)
    if loss is not None:
        return Action.RETRAIN, loss
    for family, what in _WATCHED.items():
        if verdicts.get(family) is Verdict.ALERT:
            return Action.WATCH, f"{what}: {_named(alerts, family)}"
    if verdicts["drift"] is Verdict.ALERT:
        return _of_drift(verdicts, alerts, importance)
    if verdicts.get("multivariate") is Verdict.ALERT:
        return Action.WATCH, f"the rows moved as a whole: {_named(alerts, 'multivariate')}"
    return Action.NONE, _quiet(verdicts, alerts)


def _broken(alerts: Sequence[Measurement]) -> str:
    metrics = {alert.metric for alert in alerts if family_of(alert) == "quality"}
    if metrics == {CONFLICTING_LABELS}:
        return "the labels contradict each other, and no model should learn from them"
    return "the input is broken"


def _loss(verdicts: Mapping[str, Verdict], alerts: Sequence[Measurement]) -> str | None:
    """Say what asks for retraining, the best known first, if anything does."""
    lost = [family for family in _LOST if verdicts.get(family) is Verdict.ALERT]
    if lost:
        return "; ".join(f"{_LOST[family]}: {_named(alerts, family)}" for family in lost)
    critical = [alert for alert in alerts if alert.reason in LIMIT_BROKEN]
    if critical:
        return f"a critical slice fails: {_named(critical, 'slices')}"
    realised = verdicts["performance"] is not Verdict.INSUFFICIENT_DATA
    if verdicts["estimated_performance"] is Verdict.ALERT and not realised:
        named = _named(alerts, "estimated_performance")
        return f"the model is estimated to have got worse: {named}"
    return None


def _of_drift(
    verdicts: Mapping[str, Verdict], alerts: Sequence[Measurement], importance: Importance
) -> tuple[Action, str]:
    named = _named(alerts, "drift")
    subjects = [alert.subject or "" for alert in alerts if family_of(alert) == "drift"]
    if all(importance.is_negligible(subject) for subject in subjects):
        return Action.NONE, f"only what the model hardly uses has moved: {named}"
    losses = (verdicts["performance"], verdicts["estimated_performance"])
    if all(verdict is Verdict.INSUFFICIENT_DATA for verdict in losses):
        why = "neither labels nor an estimate tell whether it harms"
        return Action.COLLECT_LABELS, f"the input moved, and {why}: {named}"
    return Action.WATCH, f"the input moved without a known loss: {named}"


def ranked(alerts: Sequence[Measurement], importance: Importance) -> list[Measurement]:
    """Return the alerts by their importance, those of whole models and slices as they were.

    Features rank by how far their drift is over its threshold, times their importance; those that
    the model hardly uses come last.
    """

    def rank(alert: Measurement) -> tuple[bool, float]:
        subject = alert.subject or ""
        if family_of(alert) == "drift":
            return importance.is_negligible(subject), -_excess(alert) * importance.weight(subject)
        return False, -importance.weight(subject) if alert.metric in QUALITY_METRICS else 0.0

    return sorted(alerts, key=rank)


# A p-value of 0 is beyond its threshold by more than can be said.
_LARGEST_EXCESS = 1e6


def _excess(alert: Measurement) -> float:
    """Return how many times its threshold a drift score is."""
    value, threshold = alert.value, alert.threshold
    if value is None or threshold is None:
        return value or 0.0
    higher = alert.direction is not Direction.LOWER_IS_WORSE
    over, under = (value, threshold) if higher else (threshold, value)
    return min(over / under, _LARGEST_EXCESS) if under > 0 else _LARGEST_EXCESS


def _quiet(verdicts: Mapping[str, Verdict], alerts: Sequence[Measurement]) -> str:
    if verdicts["estimated_performance"] is Verdict.ALERT:
        named = _named(alerts, "estimated_performance")
        return f"labels show none of the loss that was estimated: {named}"
    unknown = [name for name, verdict in verdicts.items() if verdict is Verdict.INSUFFICIENT_DATA]
    if len(unknown) == len(verdicts):
        return "nothing could be judged: too little data"
    if unknown:
        names = ", ".join(unknown).replace("_", " ")
        return f"nothing is known to be wrong; not judged: {names}"
    return "nothing is wrong"


# Metrics whose family their name says.
_FAMILIES = {
    **dict.fromkeys(DISPARITIES, "fairness"),
    **dict.fromkeys(CONTRIBUTIONS, "performance"),
    DISCOVERED: "slices",
    "attribution_drift": "drift",
    **dict.fromkeys(MULTIVARIATE, "multivariate"),
}


def family_of(measurement: Measurement) -> str:
    """Return which verdict a measurement belongs to."""
    named = _FAMILIES.get(measurement.metric)
    if named is not None:
        return named
    if measurement.slice is not None:
        judged = measurement.direction is not Direction.INFORMATION
        return "slices" if judged else "fairness"
    if measurement.metric in QUALITY_METRICS:
        return "quality"
    if measurement.method == DOMAIN_CLASSIFIER:
        return "multivariate"
    for prefix, family in _FAMILY_OF_PREFIX.items():
        if measurement.metric.startswith(prefix):
            return family
    return "performance"


_FAMILY_OF_PREFIX = {
    "drift": "drift",
    CONCEPT_DRIFT: "concept",
    CALIBRATION_DRIFT: "concept",
    "estimated_": "estimated_performance",
}
_BROKEN = {UNDER_FLOOR: "under its floor", OVER_CEILING: "over its ceiling"}

# What a share of a column's values is of.
_SHARES = {
    "missing_ratio": "missing",
    "out_of_range_ratio": "out of range",
    "unseen_ratio": "unseen before",
    "type_error_ratio": "of another type",
}

# A sentence that a person can read names no more.
SAID = 3
FIRST_WITH_COMMA = 1000


def _named(alerts: Sequence[Measurement], family: str) -> str:
    return describe([alert for alert in alerts if family_of(alert) == family])


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
    if alert.metric in _SHARES and alert.value is not None:
        before = alert.reference_value
        usual = "" if before is None else f" against {100 * before:.3g} %"
        return f"{100 * alert.value:.3g} %{subject} {_SHARES[alert.metric]}{usual}"
    if alert.metric.startswith(CONCEPT_DRIFT) and alert.value is not None:
        return f"{alert.metric.removeprefix(CONCEPT_DRIFT)}{subject} {_surprise(alert)}"
    return f"{alert.metric}{subject}{_numbers(alert)}"


def _surprise(alert: Measurement) -> str:
    """Say how far a metric is from what was expected; of an error it is a share."""
    value = alert.value or 0.0
    if alert.direction is Direction.HIGHER_IS_WORSE:
        return f"higher than expected by {100 * value:.3g} % of the reference's"
    return f"{figure(abs(value))} {'lower' if value < 0 else 'higher'} than the scores promise"


def _numbers(alert: Measurement) -> str:
    """Return the value of an alert, and the one that tells that it is bad."""
    if alert.value is None:
        return ""
    how, other = "", None
    if alert.reason in _BROKEN:
        how, other = _BROKEN[alert.reason], alert.threshold
    elif alert.reference_value is not None:
        how, other = "against", alert.reference_value
    elif alert.metric == "drift":
        # Of some of Evidently's tests the score is a p-value.
        lower = alert.direction is Direction.LOWER_IS_WORSE
        how, other = "under" if lower else "over", alert.threshold
    return f" {figure(alert.value)}" + ("" if other is None else f" {how} {figure(other)}")


def figure(value: float) -> str:
    """Return a number as a person reads it: three digits that count, thousands set apart.

    Examples
    --------
    >>> figure(0.10449), figure(58_012.3), figure(-1_649.2)
    ('0.104', '58,000', '-1,650')
    """
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= FIRST_WITH_COMMA else f"{rounded:.3g}"
