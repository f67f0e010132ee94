"""What an incident is about: every measurement that is judged belongs to one cause."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from service.evaluation.discovery import SUMMARY as DISCOVERED
from service.evaluation.hysteresis import State
from service.evaluation.importance import ALIKE, Importance
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.policy import Action, describe, family_of
from service.evaluation.quality_rows import CONFLICTING_LABELS
from service.evaluation.slices import LIMIT_BROKEN

# The closing level lies a fifth of the way from the threshold to what is normal.
CLOSING_SHARE = 0.2
# Chance alone gives such a p-value in four of five quiet windows.
CALM_P = 0.2


class Severity(StrEnum):
    """How much an incident matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, order=True)
class Cause:
    """One thing that can be wrong with a version; parts that do not apply are empty.

    All metrics of performance are one cause, of a class another; ``metric`` tells the checks of
    quality apart.
    """

    kind: str
    metric: str = ""
    subject: str = ""
    slice: str = ""

    @property
    def key(self) -> str:
        """Return a short name that is the cause's own."""
        parts = repr((self.kind, self.metric, self.subject, self.slice))
        return hashlib.sha256(parts.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Signal:
    """What one window says about one cause; only an alert has an action and a reason."""

    cause: Cause
    state: State
    severity: Severity = Severity.INFO
    action: Action = Action.NONE
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reached:
    """What a window came to a verdict on, so that its silence about a cause means something.

    ``slices`` are those that it judged by name; it has ``searched`` for others where it had the
    labels to.
    """

    verdicts: Mapping[str, str]
    labelled: int
    slices: Collection[str] = ()
    searched: bool = True


_FAMILY_OF_KIND = {"slice": "slices", "multivariate_drift": "multivariate"}


def silence_about(cause: Cause, reached: Reached) -> State:
    """Return what it means that a window does not speak of a cause: calm, or not known.

    Examples
    --------
    >>> silence_about(Cause("slice", slice="region=north"), Reached({"quality": "ok"}, 0))
    <State.UNKNOWN: 'unknown'>
    """
    family = _FAMILY_OF_KIND.get(cause.kind, cause.kind)
    verdict = reached.verdicts.get(family)
    known = verdict is not None and verdict != Verdict.INSUFFICIENT_DATA
    if cause.kind == "slice":
        known = known and (reached.searched or cause.slice in reached.slices)
    if cause.metric == CONFLICTING_LABELS:
        known = known and reached.labelled > 0
    return State.CALM if known else State.UNKNOWN


def cause_of(measurement: Measurement) -> Cause | None:
    """Return what a measurement is about, or None if it is not judged.

    Examples
    --------
    >>> alert = Measurement(metric="drift", subject="income", value=0.3, n=100, method="psi",
    ...     direction=Direction.HIGHER_IS_WORSE, verdict=Verdict.ALERT)
    >>> cause_of(alert)
    Cause(kind='drift', metric='', subject='income', slice='')
    """
    kind, subject = family_of(measurement), measurement.subject or ""
    if measurement.metric == DISCOVERED:
        return None
    # Of the groups of a protected column nothing is judged but their disparity.
    if measurement.verdict is None or (kind == "fairness" and measurement.slice is not None):
        return None
    if kind == "slices":
        return Cause("slice", slice=measurement.slice or "")
    of_attribution = measurement.metric == "attribution_drift"
    if kind == "multivariate" or (kind == "drift" and not subject):
        return Cause("multivariate_drift", subject=subject)
    return Cause(
        kind,
        metric=measurement.metric if kind == "quality" or of_attribution else "",
        subject="" if kind == "concept" else subject,
    )


def state_of(measurement: Measurement) -> State:
    """Return what a judged measurement says for hysteresis.

    An ``ok`` is calm if the value is back on the good side of the closing level, a fifth of the
    way from the threshold to the reference's value (without one: to 0, or to 1 where lower is
    worse), or if chance explains it well (``p >= 0.2``).  A reference that is beyond the threshold
    itself leaves the threshold as the level.

    Examples
    --------
    >>> near = Measurement(metric="drift", value=0.09, threshold=0.1, p_value=1e-9, n=10_000,
    ...     method="psi", direction=Direction.HIGHER_IS_WORSE, verdict=Verdict.OK)
    >>> state_of(near)
    <State.RAISED: 'raised'>
    """
    if measurement.verdict is not Verdict.OK:
        return State.ALERT if measurement.verdict is Verdict.ALERT else State.UNKNOWN
    value, threshold = measurement.value, measurement.threshold
    likely = measurement.p_value is not None and measurement.p_value >= CALM_P
    if likely or value is None or threshold is None:
        return State.CALM
    sign = -1.0 if measurement.direction is Direction.LOWER_IS_WORSE else 1.0
    normal = measurement.reference_value
    if normal is None:
        normal = 0.0 if sign > 0 else 1.0
    room = max(sign * (threshold - normal), 0.0)
    return State.CALM if sign * (threshold - value) >= CLOSING_SHARE * room else State.RAISED


def signals_of(
    measurements: Iterable[Measurement],
    *,
    realised: bool = False,
    importance: Importance = ALIKE,
) -> list[Signal]:
    """Return what a window says about every cause that it judged.

    Parameters
    ----------
    measurements
        Of one window.
    realised
        Whether labels tell the performance: then a loss that is only estimated asks for nothing.
    importance
        Drift of a feature that the model hardly uses is no more than an information.

    Returns
    -------
    list of Signal
        One a cause, in the order of the measurements.
    """
    by_cause: defaultdict[Cause, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        cause = cause_of(measurement)
        if cause is not None:
            by_cause[cause].append(measurement)
    return [
        _signal(cause, own, realised=realised, importance=importance)
        for cause, own in by_cause.items()
    ]


_WORST_FIRST = (State.ALERT, State.RAISED, State.CALM)


def _signal(
    cause: Cause,
    measurements: list[Measurement],
    *,
    realised: bool,
    importance: Importance,
) -> Signal:
    states = {state_of(measurement) for measurement in measurements}
    state = next((state for state in _WORST_FIRST if state in states), State.UNKNOWN)
    if state is not State.ALERT:
        return Signal(cause, state)
    alerts = [m for m in measurements if m.verdict is Verdict.ALERT]
    severity, action = _CONSEQUENCES.get(cause.kind, (Severity.WARNING, Action.WATCH))
    if cause.kind == "slice" and any(alert.reason in LIMIT_BROKEN for alert in alerts):
        severity, action = Severity.CRITICAL, Action.RETRAIN
    if cause.kind == "estimated_performance" and realised:
        action = Action.WATCH
    if cause.kind == "drift" and importance.is_negligible(cause.subject):
        severity, action = Severity.INFO, Action.NONE
    return Signal(cause, state, severity, action, describe(alerts))


_CONSEQUENCES: Mapping[str, tuple[Severity, Action]] = {
    "quality": (Severity.CRITICAL, Action.FIX_DATA),
    "performance": (Severity.CRITICAL, Action.RETRAIN),
    "concept": (Severity.WARNING, Action.RETRAIN),
    "estimated_performance": (Severity.WARNING, Action.RETRAIN),
}
