"""A window is judged: profiles in, measurements, verdicts and an action out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from service.detection.estimates import Calibrators
from service.detection.multiclass_joint import JointScores
from service.evaluation.concept import judge_concept
from service.evaluation.discovery import DiscoveryPolicy
from service.evaluation.drift import drift_warnings, judge_drift
from service.evaluation.drift_columns import SCORE, DriftPolicy
from service.evaluation.evidently_drift import (
    by_chance_alone,
    evidently_test,
    judge_by_scores,
)
from service.evaluation.fairness import FairnessPolicy, judge_fairness
from service.evaluation.judgement import Judgement, conclude, undeclared
from service.evaluation.label_drift import judge_label_drift, label_share
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
from service.evaluation.policy import family_of
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
    ``trained``, the reference that the calibrator was fitted on.  ``joint`` are some of its rows.
    """

    features: FeatureProfile
    performance: Performance
    chunks: Sequence[Segment]
    calibrator: Calibrators | None
    slices: Slices = field(default_factory=dict)
    pieces: Pieces = field(default_factory=dict)
    trained: "Baseline | None" = None
    period: str | None = None
    joint: JointScores | None = None

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
    window = _Window(
        binning, columns, features, performance, slices or {}, traffic, findings, policies,
        maturity.withheld,
    )  # fmt: skip
    warnings = [*traffic_warnings(traffic), *maturity.warnings]
    if baseline is None:
        warnings.append({"code": "no-reference", "detail": "nothing to compare the window with"})
        measurements = _judge_alone(window)
    else:
        warnings += _warn(baseline, features, policies.drift.min_rows)
        measurements = _judge_against(window, baseline)
    judgement = conclude(
        features.rows,
        performance.labelled,
        undeclared([*_not_found_in_rows(measurements, findings), *_findings(window, baseline)]),
        warnings,
        _families(binning, policies),
        policies.drift.importance,
    )
    return replace(judgement, awaits_labels=maturity.waits and performance.labelled > 0)


@dataclass(frozen=True, slots=True)
class _Window:
    """What is known of the window, and how it is to be judged; ``withheld`` as of its labels."""

    binning: Binning
    columns: Sequence[Column]
    features: FeatureProfile
    performance: Performance
    slices: Slices
    traffic: Traffic
    findings: Sequence[Measurement]
    policies: Policies
    withheld: str | None


def _judge_alone(window: _Window) -> list[Measurement]:
    """Record the window's figures, and judge what needs no comparison."""
    policies, performance = window.policies, window.performance
    rows = window.features.rows
    return [
        *judge_traffic(rows, window.columns, window.traffic, policies.quality, performance),
        *record_outputs(window.binning, None, window.features),
        *judge_performance(
            None, [], performance, rows, policies.performance, window.binning.score_edges
        ),
        *_judge_groups(window, None),
    ]


def _judge_against(window: _Window, baseline: Baseline) -> list[Measurement]:
    """Compare the window with its baseline, and with what scores promised when they were fitted."""
    binning, features, performance = window.binning, window.features, window.performance
    policies, promised = window.policies, baseline.trained or baseline
    before = baseline.labels(policies.performance)
    measurements = [
        *_judge_distributions(window, baseline, before or empty_performance(binning)),
        *judge_quality(
            binning, baseline.features, [chunk.features for chunk in baseline.chunks], features,
            policies.quality, columns=window.columns, traffic=window.traffic,
            performance=performance,
        ),
        *judge_estimate(
            promised.performance, promised.calibrator, features, binning, policies.performance,
            baseline.joint,
        ),
        *record_outputs(binning, baseline.features, features),
        *judge_performance(
            before, [chunk.performance for chunk in baseline.chunks], performance, features.rows,
            policies.performance, binning.score_edges, baseline.joint,
        ),
        *judge_concept(
            binning, promised.performance, [chunk.performance for chunk in promised.chunks],
            promised.calibrator, performance, features.rows, policies.performance,
        ),
        *_judge_groups(window, baseline if before else None),
    ]  # fmt: skip
    if baseline.period is None:
        return measurements
    return [_name_period(measured, baseline.period) for measured in measurements]


def _judge_distributions(
    window: _Window, baseline: Baseline, labels: Performance
) -> list[Measurement]:
    """Judge the drift of features, score and label, which have one ``alpha`` together."""
    binning, policies = window.binning, window.policies
    own = by_chance_alone([*binning.columns, SCORE], policies.drift)
    share = 1 - label_share(binning, labels, own)
    chunks = [chunk.features for chunk in baseline.chunks]
    drift = judge_drift(binning, baseline.features, chunks, window.features, own, share)
    return [
        *judge_by_scores(drift, policies.drift, window.findings),
        *judge_label_drift(
            binning,
            labels,
            [chunk.performance for chunk in baseline.chunks],
            window.performance,
            window.features.rows,
            own,
            policies.performance.min_label_coverage,
            window.withheld,
        ),
    ]


def _not_found_in_rows(
    measurements: Sequence[Measurement], findings: Sequence[Measurement]
) -> list[Measurement]:
    """Leave out what a profile cannot estimate, once rows were looked at for it."""
    found = {(m.metric, m.subject) for m in findings}
    return [
        m for m in measurements if m.reason != NO_ESTIMATOR or (m.metric, m.subject) not in found
    ]


def _findings(window: _Window, baseline: Baseline | None) -> list[Measurement]:
    """Return what was found in rows, without the scores that the drift was judged by."""
    return [
        _withhold(finding, window.withheld)
        for finding in window.findings
        if baseline is None
        or finding.engine != "evidently"
        or evidently_test(finding.subject or "", window.policies.drift) is None
    ]


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


def _judge_groups(window: _Window, baseline: Baseline | None) -> list[Measurement]:
    binning, slices, policies = window.binning, window.slices, window.policies
    found: list[Measurement] = []
    if policies.slices is not None:
        before, pieces, joint = (
            (baseline.slices, baseline.pieces, baseline.joint) if baseline else (None, {}, None)
        )
        found += judge_slices(before, pieces, slices, policies.slices, binning.slice_edges, joint)
    if policies.fairness is not None:
        # A protected column that is declared as slices, too, is measured once.
        known = {(m.metric, m.slice) for m in found}
        fair = judge_fairness(slices, binning.output, policies.fairness)
        found += [m for m in fair if (m.metric, m.slice) not in known]
    return found
