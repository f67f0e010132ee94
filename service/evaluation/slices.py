"""Verdicts on slices: whether the model is worse for some, whatever it is on average."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from service.detection.metric_value import FEWEST_IN_DENOMINATOR, MetricValue
from service.detection.metrics import HIGHER_IS_WORSE, METRICS_OF, measure
from service.detection.multiclass import Key
from service.detection.multiclass_joint import JointScores
from service.evaluation.measurement import SMALL_GROUP, SMALLEST_GROUP, Measurement, Verdict
from service.evaluation.multiplicity import sidak_adjust
from service.evaluation.performance import (
    PerformancePolicy,
    direction_of,
    is_worse,
    threshold_of,
)
from service.evaluation.significance import p_value_beyond, p_value_of_loss
from service.profiles.profile import Floats
from service.profiles.slices import SliceProfile, Slices

UNDER_FLOOR = "under_floor"
OVER_CEILING = "over_ceiling"
LIMIT_BROKEN = frozenset({UNDER_FLOOR, OVER_CEILING})
# Of many slices some disagree by chance, and the variance of three pieces hides any loss.
FEWEST_PIECES = 10

Pieces = Mapping[str, Sequence[Mapping[Key, MetricValue]]]


@dataclass(frozen=True, slots=True)
class Floor:
    """What a metric of a critical slice must not be significantly worse than.

    It is a ceiling where higher is worse.
    """

    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class SliceRule:
    """One declaration: the slices of ``columns``, or the one of that ``name``."""

    columns: tuple[str, ...] = ()
    name: str | None = None
    floor: Floor | None = None


@dataclass(frozen=True, slots=True)
class SlicePolicy:
    """Which slices are judged, and how strictly: by the metrics and levels of performance.

    They have a ``share``-th of its alpha.
    """

    performance: PerformancePolicy
    rules: Sequence[SliceRule] = ()
    share: int = 1


@dataclass(slots=True)
class _Cell:
    """One metric of one slice, and its tests while they are counted."""

    slice: str
    metric: str
    now: MetricValue
    before: MetricValue | None
    floor: float | None
    reason: str | None
    suppressed: bool
    thin: str | None = None
    p_loss: float | None = None
    p_floor: float | None = None
    threshold: float | None = field(default=None)


def judge_slices(
    reference: Slices | None,
    pieces: Pieces,
    current: Slices,
    policy: SlicePolicy,
    edges: Floats | None = None,
    joint: JointScores | None = None,
) -> list[Measurement]:
    """Measure the declared slices of a window, and compare each with itself in the reference.

    A metric alerts if it is worse than the same slice's baseline by more than the tolerance *and*
    chance is ruled out (Šidák over metrics and slices); of a critical slice it also alerts if it is
    significantly worse than its floor (exact binomial for proportions, else a z-test; Šidák over
    the floors).  Where there are floors, each of the two has half of ``alpha``.

    Parameters
    ----------
    reference
        The reference's slices; ``None`` without one.
    pieces
        The metrics of a slice in each chunk of the reference; may be empty.
    current
        The window's slices.
    policy
        What is declared.
    edges
        Inner edges of the score histograms, for the metrics that need them.
    joint
        Rows of the reference, for the errors of means over many classes.

    Returns
    -------
    list of Measurement
        Each with its ``slice``: the monitor's metrics, and that of the floor, over all classes.  A
        slice with fewer labelled rows than ``min_rows`` has no values, one of a column's value with
        fewer than ``SMALLEST_GROUP`` on both sides is left out.  ``p_value`` compares to ``alpha``.
    """
    known = partial(_values, edges=edges, joint=joint)
    cells = list(_cells(reference or {}, current, policy, known))
    for cell in cells:
        _test(cell, pieces.get(cell.slice, ()), policy.performance)
    losses = sum(cell.p_loss is not None for cell in cells)
    floors = sum(cell.p_floor is not None for cell in cells)
    share = policy.share * (2 if floors else 1)
    return [_measure(cell, policy.performance, losses, floors, share) for cell in cells]


def _cells(
    reference: Slices,
    current: Slices,
    policy: SlicePolicy,
    values_of: Callable[[SliceProfile | None, Sequence[str]], dict[str, MetricValue]],
) -> Iterator[_Cell]:
    for rule in policy.rules:
        for name in _names(rule, reference, current):
            floor = rule.floor
            now, before = current.get(name), reference.get(name)
            thin = None
            if before is not None and is_small(before):
                before, thin = None, "reference_insufficient"
            metrics = list(dict.fromkeys(policy.performance.metrics))
            if floor is not None and floor.metric not in metrics:
                metrics.append(floor.metric)
            reason = _blocked(now, policy.performance)
            if reason == SMALL_GROUP:
                now = None
            values, baselines = values_of(now, metrics), values_of(before, metrics)
            for metric in metrics:
                yield _Cell(
                    slice=name,
                    metric=metric,
                    now=values.get(metric, MetricValue(None, 0, "none", reason="no_rows")),
                    before=baselines.get(metric),
                    floor=floor.value if floor and floor.metric == metric else None,
                    reason=reason,
                    suppressed=reason == "few_rows",
                    thin=thin,
                )


def _values(
    found: SliceProfile | None,
    metrics: Sequence[str],
    edges: Floats | None,
    joint: JointScores | None,
) -> dict[str, MetricValue]:
    """Return the metrics over all classes; one that the task does not have is left out."""
    if found is None:
        return {}
    known = METRICS_OF[type(found.performance)]
    names = [name for name in metrics if name in known]
    measured = measure(found.performance, names, edges, joint)
    return {name: value for (name, label), value in measured.items() if label is None}


def _names(rule: SliceRule, reference: Slices, current: Slices) -> list[str]:
    if rule.name is not None:
        return [rule.name]
    found = {
        name
        for slices in (reference, current)
        for name, profile in slices.items()
        if profile.columns == rule.columns and not is_small(profile)
    }
    return sorted(found)


def is_small(found: SliceProfile) -> bool:
    """Say whether a slice has so few rows that nothing is told of it, not even its name."""
    return found.rows < SMALLEST_GROUP


def _blocked(now: SliceProfile | None, policy: PerformancePolicy) -> str | None:
    if now is None or not now.rows:
        return "no_rows"
    labelled = now.performance.labelled
    if is_small(now) or 0 < labelled < SMALLEST_GROUP:
        return SMALL_GROUP
    if labelled < policy.min_rows:
        return "few_rows"
    if policy.withheld is not None:
        return policy.withheld
    return "label_coverage" if labelled / now.rows < policy.min_label_coverage else None


def _test(
    cell: _Cell, pieces: Sequence[Mapping[Key, MetricValue]], policy: PerformancePolicy
) -> None:
    now, before = cell.now, cell.before
    if before is not None:
        cell.threshold = threshold_of(cell.metric, before, policy.tolerance, now.value)
    cell.reason = cell.reason or now.reason
    if cell.reason is None and now.support < FEWEST_IN_DENOMINATOR:
        cell.reason = "few_in_denominator"
    if cell.reason is not None or now.value is None:
        return
    if cell.floor is not None:
        cell.p_floor = p_value_beyond(cell.metric, now, cell.floor)
    if before is None:
        cell.thin = cell.thin or "no_reference"
    elif before.value is None or before.support < FEWEST_IN_DENOMINATOR:
        cell.thin = "reference_insufficient"
    elif cell.metric in policy.metrics:
        key = (cell.metric, None)
        known = [piece[key] for piece in pieces if key in piece]
        usable = sum(p.value is not None and p.support >= FEWEST_IN_DENOMINATOR for p in known)
        known = known if usable >= FEWEST_PIECES else []
        cell.p_loss = p_value_of_loss(cell.metric, now, before, known)


def _measure(
    cell: _Cell, policy: PerformancePolicy, losses: int, floors: int, share: int
) -> Measurement:
    now, before = cell.now, cell.before
    shown = now.value is not None and not cell.suppressed
    p_loss = None if cell.p_loss is None else min(share * sidak_adjust(cell.p_loss, losses), 1.0)
    p_floor = None if cell.p_floor is None else min(share * sidak_adjust(cell.p_floor, floors), 1.0)
    reason, threshold = cell.reason, cell.threshold
    known = [p for p in (p_loss, p_floor) if p is not None]
    if known:
        verdict = Verdict.OK
        baseline = None if before is None else before.value
        worse = is_worse(cell.metric, now.value, baseline, cell.threshold)
        if p_loss is not None and worse and p_loss < policy.alpha:
            verdict = Verdict.ALERT
        if p_floor is not None and p_floor < policy.alpha:
            above = cell.metric in HIGHER_IS_WORSE
            verdict, reason = Verdict.ALERT, OVER_CEILING if above else UNDER_FLOOR
            threshold = cell.floor
        elif cell.floor is not None and verdict is Verdict.OK:
            threshold = cell.floor
    else:
        verdict, reason = Verdict.INSUFFICIENT_DATA, reason or cell.thin
    return Measurement(
        metric=cell.metric,
        slice=cell.slice,
        value=now.value if shown else None,
        n=now.n,
        method=now.method,
        direction=direction_of(cell.metric),
        verdict=verdict,
        ci_low=now.ci_low if shown else None,
        ci_high=now.ci_high if shown else None,
        n_eff=now.n_eff if shown else None,
        n_reference=None if before is None else before.n,
        reference_value=None if before is None else before.value,
        threshold=threshold,
        p_value=min(known, default=None),
        reason=reason,
    )
