"""Drift by one of Evidently's scores: beyond its threshold, and beyond what chance would do.

Evidently's tests do not keep their level (its chi-square test alarms on a third of equal windows of
1,000 rows, its distances on most windows of 100).  A column that is watched by one of them is an
alert where our own test of chance says so too, so that the level is ours whatever the score.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from service.detection.evidently_methods import METHODS, PREFIX, Scale
from service.evaluation.drift_columns import LABEL, ColumnDriftPolicy, DriftPolicy
from service.evaluation.measurement import Direction, Measurement, Verdict

# Of the same counts as every other drift score.
TEST_OF_CHANCE = "jensen_shannon"
NO_SCORE = "Evidently gave no score"


def evidently_test(name: str, policy: DriftPolicy) -> str | None:
    """Return which of Evidently's tests a column is watched by, if by any.

    Examples
    --------
    >>> evidently_test("income", DriftPolicy(method="evidently.ks"))
    'ks'
    """
    own = policy.columns.get(name)
    method = (own.method if own is not None else None) or policy.method
    # The labels' classes are counted, not sampled.
    asked = method.startswith(PREFIX) and name != LABEL
    return method.removeprefix(PREFIX) if asked else None


def tests_of(names: Iterable[str], policy: DriftPolicy) -> dict[str, str]:
    """Return Evidently's test of each column that is watched by one."""
    found = {name: evidently_test(name, policy) for name in names}
    return {name: test for name, test in found.items() if test is not None}


def by_chance_alone(names: Collection[str], policy: DriftPolicy) -> DriftPolicy:
    """Return the policy under which Evidently's columns alert wherever chance is left behind."""
    asked = tests_of(names, policy)
    own = {
        name: policy.columns.get(name, ColumnDriftPolicy()) for name in {*policy.columns, *asked}
    }
    columns = {
        name: replace(column, method=TEST_OF_CHANCE, min_effect=0.0)
        if name in asked
        else replace(column, method=_ours(column.method))
        for name, column in own.items()
    }
    return replace(policy, method=_ours(policy.method) or TEST_OF_CHANCE, columns=columns)


def _ours(method: str | None) -> str | None:
    return TEST_OF_CHANCE if method is not None and method.startswith(PREFIX) else method


def judge_by_scores(
    judged: Sequence[Measurement], policy: DriftPolicy, findings: Sequence[Measurement]
) -> list[Measurement]:
    """Put Evidently's scores in the place of ours, where a column is watched by them.

    Parameters
    ----------
    judged
        Drift under :func:`by_chance_alone`.
    policy
        The monitor's own.
    findings
        What was found in the rows; only drift by Evidently is looked at.

    Returns
    -------
    list of Measurement
        Alerts are those of ``judged`` whose score is beyond its threshold too: at least the
        column's ``min_effect`` for a distance, below Evidently's own for a p-value.  ``p_value``
        is that of our test.
    """
    scores = scores_of(findings)
    return [
        _rescored(measured, scores.get(measured.subject or ""), policy)
        if measured.metric == "drift" and evidently_test(measured.subject or "", policy)
        else measured
        for measured in judged
    ]


def scores_of(findings: Iterable[Measurement]) -> Mapping[str, Measurement]:
    """Return Evidently's drift scores by their column."""
    return {
        found.subject: found
        for found in findings
        if found.engine == "evidently" and found.metric == "drift" and found.subject is not None
    }


def _rescored(judged: Measurement, score: Measurement | None, policy: DriftPolicy) -> Measurement:
    name = judged.subject or ""
    asked = evidently_test(name, policy)
    method = score.method if score is not None else f"{PREFIX}{asked}"
    test = METHODS[method.removeprefix(PREFIX)]
    is_p_value = test.scale is Scale.P_VALUE
    own = policy.columns.get(name, ColumnDriftPolicy()).min_effect
    effect = policy.min_effect if own is None else own
    threshold = test.threshold if is_p_value or effect is None else effect
    value = score.value if score is not None else None
    judged = replace(
        judged,
        engine="evidently",
        method=method,
        direction=Direction.LOWER_IS_WORSE if is_p_value else Direction.HIGHER_IS_WORSE,
        threshold=threshold,
        detectable_effect=None,
    )
    if value is None:
        why = score.reason if score is not None else None
        return replace(
            judged,
            value=None,
            verdict=Verdict.INSUFFICIENT_DATA,
            threshold=None,
            p_value=None,
            reason=f"{NO_SCORE}: {why}" if why else NO_SCORE,
        )
    if judged.verdict is Verdict.INSUFFICIENT_DATA:
        return replace(judged, value=value, threshold=None)
    beyond = value < threshold if is_p_value else value >= threshold
    alert = judged.verdict is Verdict.ALERT and beyond
    reason = f"{method} {value:.3g} is beyond {threshold:.3g}, and chance does not explain it"
    return replace(
        judged,
        value=value,
        verdict=Verdict.ALERT if alert else Verdict.OK,
        reason=reason if alert else None,
    )
