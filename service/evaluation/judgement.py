"""What is concluded from a window's measurements: verdicts, signals, an action."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from service.evaluation.causes import Signal, signals_of
from service.evaluation.discovery import METHOD as FOUND
from service.evaluation.importance import ALIKE, Importance
from service.evaluation.measurement import Measurement, Verdict
from service.evaluation.policy import Action, decide, family_of, family_verdict, ranked


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is recorded of a window; ``signals`` are what it says about each cause.

    One that ``awaits_labels`` is judged again once its label horizon has passed.
    """

    rows: int
    labelled: int
    label_coverage: float | None
    measurements: tuple[Measurement, ...]
    verdicts: dict[str, Verdict]
    drifted_features: tuple[str, ...]
    alerting_metrics: tuple[str, ...]
    warnings: tuple[dict[str, str], ...]
    action: Action
    reason: str
    signals: tuple[Signal, ...] = ()
    awaits_labels: bool = False


def conclude(
    rows: int,
    labelled: int,
    measurements: Sequence[Measurement],
    warnings: Sequence[dict[str, str]],
    families: Sequence[str],
    importance: Importance = ALIKE,
) -> Judgement:
    """Return the verdicts of each family, and what should be done.

    There is a verdict on every one of ``families``, and on any other that something was measured
    of: what is found in rows comes later, and nothing is said of it before.
    """
    by_family: dict[str, list[Measurement]] = {family: [] for family in families}
    for measured in measurements:
        by_family.setdefault(family_of(measured), []).append(measured)
    verdicts = {family: family_verdict(found) for family, found in by_family.items()}
    alerts = ranked([m for m in measurements if m.verdict is Verdict.ALERT], importance)
    action, reason = decide(verdicts, alerts, importance)
    signals = signals_of(
        measurements,
        realised=verdicts["performance"] is not Verdict.INSUFFICIENT_DATA,
        importance=importance,
    )
    return Judgement(
        rows=rows,
        labelled=labelled,
        label_coverage=labelled / rows if rows else None,
        measurements=tuple(measurements),
        verdicts=verdicts,
        drifted_features=tuple(m.subject or "" for m in alerts if m.metric == "drift"),
        alerting_metrics=tuple(
            dict.fromkeys(m.metric for m in alerts if m.metric != "drift" and m.slice is None)
        ),
        warnings=tuple(warnings),
        action=action,
        reason=reason,
        signals=tuple(signals),
    )


def undeclared(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Leave out what was found of a slice that is judged as declared: on all of its rows."""
    judged = {
        one.slice
        for one in measurements
        if one.method != FOUND and one.verdict in (Verdict.OK, Verdict.ALERT)
    } - {None}
    return [one for one in measurements if one.method != FOUND or one.slice not in judged]


def require_labels(judgement: Judgement, known: int, wanted: int) -> Judgement:
    """Return a judgement that asks for labels where a loss is estimated and nobody could retrain.

    What labels show (a loss, another concept, a critical slice beyond its limit) asks for
    retraining however few they are.

    Parameters
    ----------
    judgement
        What was concluded from one window.
    known
        Labelled rows of the version, whatever their window.
    wanted
        Labelled rows that a retraining needs.
    """
    alerting = {
        signal.cause.kind for signal in judgement.signals if signal.action is Action.RETRAIN
    }
    estimated = {"estimated_performance"}
    if judgement.action is not Action.RETRAIN or alerting != estimated or known >= wanted:
        return judgement
    few = f"{known:,} labelled rows are known, and a retraining needs {wanted:,}"
    return replace(
        judgement,
        action=Action.COLLECT_LABELS,
        reason=f"{judgement.reason}; {few}",
        signals=tuple(
            replace(signal, action=Action.COLLECT_LABELS)
            if signal.action is Action.RETRAIN
            else signal
            for signal in judgement.signals
        ),
    )
