"""Verdicts on whether groups of a protected column are treated alike."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.detection.fairness import (
    Disparity,
    Rate,
    difference_of_rates,
    homogeneity_p_value,
    ratio_of_rates,
)
from service.detection.metric_value import FEWEST_IN_DENOMINATOR, wilson
from service.evaluation.measurement import SMALLEST_GROUP, Direction, Measurement, Verdict
from service.evaluation.multiplicity import holm_adjust
from service.profiles.columns import Classes, Output, Quantity
from service.profiles.profile import RegressionProfile
from service.profiles.slices import SliceProfile, Slices

RATIO, DIFFERENCE = "katz", "newcombe"
FEWEST_GROUPS = 2
UNKNOWN_CLASS = "unknown_favourable_class"

SELECTION, TPR, FPR, PRECISION = "selection_rate", "recall", "false_positive_rate", "precision"
GROUP_METRICS = (SELECTION, TPR, FPR, PRECISION)
DISPARITIES = (
    "disparate_impact",
    "demographic_parity_difference",
    "equal_opportunity_difference",
    "equalized_odds_difference",
)
# The rates whose equality each disparity is about.
_RATES: Mapping[str, tuple[str, ...]] = {
    "disparate_impact": (SELECTION,),
    "demographic_parity_difference": (SELECTION,),
    "equal_opportunity_difference": (TPR,),
    "equalized_odds_difference": (TPR, FPR),
}

Rates = Mapping[str, Rate]


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessRule:
    """A protected column; a limit of ``None`` is recorded without being judged.

    ``favourable_class`` is the prediction that is good for a person, of two by default the positive
    one; of many it counts against all others together.
    """

    column: str
    reference_group: str | None = None
    favourable_class: str | None = None
    limits: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessPolicy:
    """The protected columns, and the rate of false alarms of a window over all of them.

    ``withheld`` is why no verdict may rest on this window's labels.
    """

    rules: Sequence[FairnessRule] = ()
    alpha: float = 0.01
    min_rows: int = 100
    min_label_coverage: float = 0.5
    withheld: str | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """One disparity before the multiplicity is known."""

    rule: FairnessRule
    metric: str
    disparity: Disparity | None
    n: int
    reason: str | None
    p_value: float | None


def judge_fairness(slices: Slices, output: Output, policy: FairnessPolicy) -> list[Measurement]:
    """Measure how differently the groups of each protected column are treated.

    A disparity alerts if it crosses its limit *and* the rates that it is about are not the same in
    all groups (Fisher for two, else the larger p of X² and G; Holm over all disparities judged):
    with ten equal groups of 100 rows the largest difference averages .15 by chance.

    Parameters
    ----------
    slices
        The window's slices; groups are those of one protected column.
    output
        Whose classes the model predicts.  A regression has none, hence no rates.
    policy
        What is protected.

    Returns
    -------
    list of Measurement
        Per group (``slice``) its rates with Wilson's interval, without values under ``min_rows``;
        per column (``subject``) ``DISPARITIES`` over the other groups.
    """
    measurements: list[Measurement] = []
    found: list[_Found] = []
    for rule in policy.rules:
        groups = {
            name: found
            for name, found in slices.items()
            if found.columns == (rule.column,) and found.rows >= SMALLEST_GROUP
        }
        good = favourable(rule, output)
        rates = _rates({} if good is None else groups, good or 0)
        large = {name for name, group in groups.items() if group.rows >= policy.min_rows}
        for name, group in sorted(groups.items()):
            missing = "few_rows" if name not in large else UNKNOWN_CLASS if good is None else None
            measurements += _of_group(name, group, rates, missing)
        judged = {name: groups[name] for name in large}
        found += _disparities(rule, judged, rates, policy, known=good is not None)
    tested = [f for f in found if f.p_value is not None and f.rule.limits.get(f.metric) is not None]
    hypotheses = {(f.rule.column, _RATES[f.metric]): f.p_value or 0.0 for f in tested}
    adjusted = dict(zip(hypotheses, holm_adjust(list(hypotheses.values())), strict=True))
    measurements += [
        _measure(f, adjusted.get((f.rule.column, _RATES[f.metric])), policy.alpha) for f in found
    ]
    return measurements


def favourable(rule: FairnessRule, output: Output) -> int | None:
    """Return the position of the favourable class, ``None`` if the model does not have it."""
    if isinstance(output, Quantity):
        return None
    if rule.favourable_class in output.names:
        return output.names.index(rule.favourable_class)
    return 1 if isinstance(output, Classes) and rule.favourable_class is None else None


def _rates(groups: Slices, good: int) -> dict[str, dict[str, Rate]]:
    """Return the groups' rates by metric; a group without rows to divide by has none."""
    rates: dict[str, dict[str, Rate]] = {metric: {} for metric in GROUP_METRICS}
    for name, group in groups.items():
        performance = group.performance
        assert not isinstance(performance, RegressionProfile)
        table = (performance.confusion_weights, performance.confusion_weights_squared)
        parts = {
            SELECTION: (group.predicted_weights, group.predicted_weights_squared),
            TPR: tuple(cells[good] for cells in table),
            FPR: tuple(np.delete(cells, good, axis=0).sum(axis=0) for cells in table),
            PRECISION: tuple(cells[:, good] for cells in table),
        }
        for metric, (weights, squares) in parts.items():
            rate = _rate(weights, squares, good)
            if rate is not None:
                rates[metric][name] = rate
    return rates


def _rate(weights: NDArray[np.float64], squares: NDArray[np.float64], good: int) -> Rate | None:
    total = float(weights.sum())
    if not (total > 0 and np.isfinite(total * total)):
        return None
    n = total * total / float(squares.sum())
    return Rate(float(weights[good]) / total * n, n)


def _of_group(
    name: str, group: SliceProfile, rates: Mapping[str, Rates], missing: str | None
) -> Iterator[Measurement]:
    for metric in GROUP_METRICS:
        rate = None if missing else rates[metric].get(name)
        low, high = (None, None) if rate is None else wilson(min(rate.value, 1.0), rate.n)
        rows = group.rows if metric == SELECTION else group.performance.labelled
        yield Measurement(
            metric=metric,
            slice=name,
            value=None if rate is None else min(rate.value, 1.0),
            n=rows,
            n_eff=None if rate is None else rate.n,
            ci_low=low,
            ci_high=high,
            method="wilson",
            direction=Direction.INFORMATION,
            verdict=Verdict.INSUFFICIENT_DATA if missing else None,
            reason=missing or (None if rate else "no_rows"),
        )


def _disparities(
    rule: FairnessRule,
    groups: Slices,
    rates: Mapping[str, Rates],
    policy: FairnessPolicy,
    *,
    known: bool,
) -> Iterator[_Found]:
    rows = sum(group.rows for group in groups.values())
    labelled = sum(group.performance.labelled for group in groups.values())
    covered = bool(rows) and labelled / rows >= policy.min_label_coverage
    reference = f"{rule.column}={rule.reference_group}" if rule.reference_group else None
    for metric in DISPARITIES:
        own = {
            which: {
                name: rate
                for name, rate in rates[which].items()
                if name in groups and rate.n >= FEWEST_IN_DENOMINATOR
            }
            for which in _RATES[metric]
        }
        n = rows if _RATES[metric] == (SELECTION,) else labelled
        reason = None
        if not known:
            reason = UNKNOWN_CLASS
        elif min(len(named) for named in own.values()) < FEWEST_GROUPS:
            reason = "fewer_than_two_groups"
        elif _RATES[metric] != (SELECTION,) and (policy.withheld or not covered):
            reason = policy.withheld or "label_coverage"
        elif metric == "disparate_impact" and reference and reference not in own[SELECTION]:
            reason = "no_reference_group"
        if reason is not None:
            yield _Found(rule, metric, None, n, reason, None)
            continue
        disparity = _disparity(metric, own, reference)
        tests = [homogeneity_p_value(list(named.values())) for named in own.values()]
        p_value = min(min(tests) * len(tests), 1.0)
        reason = None if disparity else "nobody_selected"
        yield _Found(rule, metric, disparity, n, reason, p_value if disparity else None)


def _disparity(metric: str, rates: Mapping[str, Rates], reference: str | None) -> Disparity | None:
    if metric == "disparate_impact":
        return ratio_of_rates(rates[SELECTION], reference)
    return max((difference_of_rates(named) for named in rates.values()), key=lambda d: d.value)


def _measure(found: _Found, p_value: float | None, alpha: float) -> Measurement:
    metric, disparity, limit = found.metric, found.disparity, found.rule.limits.get(found.metric)
    is_ratio = metric == "disparate_impact"
    verdict = None if limit is None else Verdict.INSUFFICIENT_DATA
    reason = found.reason
    if disparity is not None and limit is not None and p_value is not None:
        crossed = disparity.value < limit if is_ratio else disparity.value > limit
        verdict = Verdict.ALERT if crossed and p_value < alpha else Verdict.OK
    if disparity is not None:
        low, high = (
            name.removeprefix(f"{found.rule.column}=") for name in (disparity.low, disparity.high)
        )
        reason = f"{low} against {high}"
    return Measurement(
        metric=metric,
        subject=found.rule.column,
        value=None if disparity is None else disparity.value,
        n=found.n,
        ci_low=None if disparity is None else disparity.ci_low,
        ci_high=None if disparity is None else disparity.ci_high,
        method=RATIO if is_ratio else DIFFERENCE,
        direction=Direction.LOWER_IS_WORSE if is_ratio else Direction.HIGHER_IS_WORSE,
        verdict=verdict,
        threshold=limit,
        p_value=p_value if limit is not None else None,
        reason=reason,
    )
