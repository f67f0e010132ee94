"""A window is judged: profiles in, measurements, verdicts and an action out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from service.detection.estimates import Calibrators
from service.evaluation.causes import Signal, signals_of
from service.evaluation.concept import judge_concept
from service.evaluation.discovery import DiscoveryPolicy
from service.evaluation.drift import (
    SCORE,
    DriftPolicy,
    drift_warnings,
    judge_drift,
    judge_label_drift,
    label_share,
)
from service.evaluation.evidently_drift import (
    by_chance_alone,
    evidently_test,
    judge_by_scores,
)
from service.evaluation.fairness import FairnessPolicy, judge_fairness
from service.evaluation.importance import ALIKE, Importance
from service.evaluation.maturity import assess_labels
from service.evaluation.measurement import Measurement, Verdict
from service.evaluation.multivariate import MultivariatePolicy
from service.evaluation.outputs import record_outputs
from service.evaluation.performance import (
    NO_ESTIMATOR,
    PerformancePolicy,
    judge_estimate,
    judge_performance,
)
from service.evaluation.policy import Action, decide, family_of, family_verdict, ranked
from service.evaluation.quality import QualityPolicy, judge_quality, judge_traffic
from service.evaluation.quality_rows import traffic_warnings
from service.evaluation.slices import Pieces, SlicePolicy, judge_slices
from service.evaluation.traffic import NO_TRAFFIC, Traffic
from service.profiles.binning import Binning
from service.profiles.columns import Column, Quantity
from service.profiles.merge import empty_performance
from service.profiles.profile import FeatureProfile, Performance
from service.profiles.segments import Segment
from service.profiles.slices import SliceProfile, Slices

FAMILIES = ("quality", "drift", "estimated_performance", "performance", "concept")
_LABELLED = frozenset({"slices", "concept"})


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a window is compared with: the whole reference, its chunks, and its calibrator.

    ``slices`` are the reference's own, and ``pieces`` their metrics in each chunk.  Where the
    reference is other windows, ``period`` names them; what scores promise is then held against
    ``trained``, the reference that the calibrator was fitted on.
    """

    features: FeatureProfile
    performance: Performance
    chunks: Sequence[Segment]
    calibrator: Calibrators | None
    slices: Slices = field(default_factory=dict)
    pieces: Pieces = field(default_factory=dict)
    trained: "Baseline | None" = None
    period: str | None = None

    def labels(self, policy: PerformancePolicy) -> Performance | None:
        """Return the labelled rows; ``None`` for windows with too few: theirs may be selected."""
        found, rows = self.performance, self.features.rows
        needed = max(policy.min_rows, policy.min_label_coverage * rows)
        return found if self.period is None or found.labelled >= needed else None


@dataclass(frozen=True, slots=True)
class Policies:
    """What the monitor asks for."""

    drift: DriftPolicy
    quality: QualityPolicy
    performance: PerformancePolicy
    slices: SlicePolicy | None = None
    fairness: FairnessPolicy | None = None
    discovery: DiscoveryPolicy | None = None
    multivariate: MultivariatePolicy | None = None

    @property
    def families(self) -> tuple[str, ...]:
        """Return what there is a verdict on: slices and fairness where they are declared."""
        declared = {"slices": self.slices, "fairness": self.fairness}
        return (*FAMILIES, *(name for name, policy in declared.items() if policy is not None))

    def for_parts(self, parts: Mapping[str, str]) -> "Policies":
        """Return them for columns that are derived from features, which these are parts of."""
        importance = replace(self.drift.importance, parts=parts)
        return replace(self, drift=replace(self.drift, importance=importance))

    def withholding(self, reason: str | None) -> "Policies":
        """Return the policies under which no verdict rests on labels, for that reason."""
        performance, fairness = replace(self.performance, withheld=reason), self.fairness
        return replace(
            self,
            performance=performance,
            slices=self.slices and replace(self.slices, performance=performance),
            fairness=fairness and replace(fairness, withheld=reason),
        )


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


def judge(
    binning: Binning,
    columns: Sequence[Column],
    baseline: Baseline | None,
    features: FeatureProfile,
    performance: Performance,
    policies: Policies,
    slices: Mapping[str, SliceProfile] | None = None,
    traffic: Traffic = NO_TRAFFIC,
    findings: Sequence[Measurement] = (),
    *,
    horizon_passed: bool | None = None,
) -> Judgement:
    """Judge one window by its merged profiles, and by what was found in its rows.

    Without a baseline the window's figures are recorded, and only what needs no comparison is
    judged: the floors of critical slices and fairness.  ``horizon_passed`` says whether the window
    is older than its labels take to come; ``None`` if nobody knows how long that is.
    """
    maturity = assess_labels(binning, features, performance, horizon_passed=horizon_passed)
    policies = policies.for_parts(binning.parts).withholding(maturity.withheld)
    measurements: list[Measurement] = []
    warnings = [*traffic_warnings(traffic), *maturity.warnings]
    before = baseline.labels(policies.performance) if baseline else None
    promised: Baseline | None = None
    if baseline is None:
        warnings.append({"code": "no-reference", "detail": "nothing to compare the window with"})
        measurements += judge_traffic(
            features.rows, columns, traffic, policies.quality, performance
        )
    else:
        promised = baseline.trained or baseline
        chunks = [chunk.features for chunk in baseline.chunks]
        labels = before or empty_performance(binning)
        own_drift = by_chance_alone([*binning.columns, SCORE], policies.drift)
        share = 1 - label_share(binning, labels, own_drift)
        measurements += judge_by_scores(
            judge_drift(binning, baseline.features, chunks, features, own_drift, share),
            policies.drift,
            findings,
        )
        measurements += judge_label_drift(
            binning,
            labels,
            [chunk.performance for chunk in baseline.chunks],
            performance,
            features.rows,
            own_drift,
            policies.performance.min_label_coverage,
            maturity.withheld,
        )
        measurements += judge_quality(
            binning, baseline.features, chunks, features, policies.quality,
            columns=columns, traffic=traffic, performance=performance,
        )  # fmt: skip
        measurements += judge_estimate(
            promised.performance,
            promised.calibrator,
            features,
            binning,
            policies.performance,
        )
        warnings += _warn(baseline, features, policies.drift.min_rows)
    measurements += record_outputs(binning, baseline.features if baseline else None, features)
    measurements += judge_performance(
        before,
        [chunk.performance for chunk in baseline.chunks] if baseline else [],
        performance,
        features.rows,
        policies.performance,
        binning.score_edges,
    )
    if promised is not None:
        measurements += judge_concept(
            binning,
            promised.performance,
            [chunk.performance for chunk in promised.chunks],
            promised.calibrator,
            performance,
            features.rows,
            policies.performance,
        )
    measurements += _judge_groups(binning, baseline if before else None, slices or {}, policies)
    if baseline is not None and baseline.period is not None:
        measurements = [_name_period(m, baseline.period) for m in measurements]
    found = {(m.metric, m.subject) for m in findings}
    # What a profile cannot estimate is there once rows were looked at.
    measurements = [
        m for m in measurements if m.reason != NO_ESTIMATOR or (m.metric, m.subject) not in found
    ]
    measurements += [
        _withhold(finding, maturity.withheld)
        for finding in findings
        # These have been judged.
        if baseline is None
        or finding.engine != "evidently"
        or evidently_test(finding.subject or "", policies.drift) is None
    ]
    judgement = conclude(
        features.rows, performance.labelled, measurements, warnings, _families(binning, policies),
        policies.drift.importance,
    )  # fmt: skip
    return replace(judgement, awaits_labels=maturity.waits and performance.labelled > 0)


def _families(binning: Binning, policies: Policies) -> tuple[str, ...]:
    """Return what there is a verdict on; it takes rows to tell what was expected of numbers."""
    scored = not isinstance(binning.output, Quantity)
    return tuple(family for family in policies.families if scored or family != "concept")


def _withhold(finding: Measurement, reason: str | None) -> Measurement:
    """Return what was found in rows; a slice that is worse, and a concept, rest on their labels."""
    if reason is None or finding.verdict is None or family_of(finding) not in _LABELLED:
        return finding
    return replace(finding, verdict=Verdict.INSUFFICIENT_DATA, reason=reason)


def _warn(baseline: Baseline, features: FeatureProfile, min_rows: int) -> list[dict[str, str]]:
    if baseline.period is None:
        found = drift_warnings(baseline.features, features)
        return [{"code": "small-reference", "detail": detail} for detail in found]
    if (rows := baseline.features.rows) >= min_rows:
        return []
    detail = f"{baseline.period}: {rows} rows, fewer than {min_rows}"
    return [{"code": "small-comparison", "detail": detail}]


def _name_period(measurement: Measurement, period: str) -> Measurement:
    """Say which windows the reference is, where it is why something could not be judged."""
    reason = measurement.reason or ""
    if measurement.verdict is not Verdict.INSUFFICIENT_DATA or "reference" not in reason:
        return measurement
    return replace(measurement, reason=f"{reason}: {period}")


def _judge_groups(
    binning: Binning, baseline: Baseline | None, slices: Slices, policies: Policies
) -> list[Measurement]:
    found: list[Measurement] = []
    if policies.slices is not None:
        before, pieces = (baseline.slices, baseline.pieces) if baseline else (None, {})
        found += judge_slices(before, pieces, slices, policies.slices, binning.slice_edges)
    if policies.fairness is not None:
        # A protected column that is declared as slices, too, is measured once.
        known = {(m.metric, m.slice) for m in found}
        fair = judge_fairness(slices, binning.output, policies.fairness)
        found += [m for m in fair if (m.metric, m.slice) not in known]
    return found


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
