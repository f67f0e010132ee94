"""A window is judged by its profiles, its reference, and what was found in its rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from service.buckets.columns import columns_of
from service.buckets.slicing import slicing_of
from service.evaluation.evidently import ENGINE as EVIDENTLY
from service.evaluation.judgement import Judgement
from service.evaluation.measurement import Measurement
from service.evaluation.traffic import Traffic
from service.evaluation.window import Baseline, judge
from service.ledger.marks import Item
from service.profiles.binning import Binning
from service.profiles.merge import (
    empty_features,
    empty_performance,
    merge_features,
    merge_performance,
)
from service.profiles.serialise import features_from_bytes, performance_from_bytes
from service.profiles.slices import merge_slices, slices_from_bytes
from service.registry.values import MonitorSpec, VersionSpec
from service.runs.findings import Basis, digest_of, held_findings, wanted_engines
from service.runs.knowledge import Knowledge, LoadedReference
from service.runs.policies import importance_of, policies_of
from service.runs.tables import RowFinding


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a window is judged by, as it is stored.

    ``compared`` is there where a window is compared with others instead of its reference.
    """

    item: Item
    version: VersionSpec
    monitor: MonitorSpec
    revision: int | None
    reference: LoadedReference | None
    binning: Binning
    features: list[bytes]
    performance: list[bytes]
    slices: list[bytes]
    traffic: Traffic
    findings: Sequence[RowFinding]
    horizon_passed: bool | None
    compared: Baseline | None = None
    rows_gone: bool = False
    delays: Sequence[Measurement] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """A judgement, what it is of, and the engines that have not seen these rows.

    It ``waits`` where a verdict is to be by what they find.
    """

    judgement: Judgement
    basis: Basis
    missing: tuple[str, ...]
    waits: bool


def judge_inputs(knowledge: Knowledge, inputs: Inputs) -> Outcome:
    """Merge the profiles of a window, and judge it by them and by what still holds."""
    features = merge_features(
        [empty_features(inputs.binning), *map(features_from_bytes, inputs.features)]
    )
    performance = merge_performance(
        [empty_performance(inputs.binning), *map(performance_from_bytes, inputs.performance)]
    )
    slicing = slicing_of(inputs.monitor.document)
    slices = merge_slices(map(slices_from_bytes, inputs.slices), slicing.limits)
    baseline = _baseline(knowledge, inputs, features.rows)
    basis = Basis(
        digest_of(features, inputs.revision),
        inputs.revision,
        inputs.monitor.revision,
        performance.labelled,
    )
    held = held_findings(inputs.findings, basis)
    wanted: tuple[str, ...] = ()
    # A silent window has no rows to see, an old one has them no more.
    if features.rows and not inputs.rows_gone:
        wanted = wanted_engines(inputs.item, inputs.monitor.document, basis)
    judgement = judge(
        inputs.binning,
        columns_of(inputs.version),
        baseline,
        features,
        performance,
        policies_of(inputs.monitor.document, importance_of(inputs.version)),
        slices,
        inputs.traffic,
        [finding for found in held.values() for finding in found],
        horizon_passed=inputs.horizon_passed,
    )
    judgement = replace(judgement, measurements=(*judgement.measurements, *inputs.delays))
    missing = tuple(engine for engine in wanted if engine not in held)
    waits = EVIDENTLY in missing and inputs.monitor.document.drift.waits_for_rows
    return Outcome(judgement, basis, missing, waits)


def _baseline(knowledge: Knowledge, inputs: Inputs, rows: int) -> Baseline | None:
    trained = None
    if inputs.reference is not None:
        trained = knowledge.baseline(inputs.reference, inputs.monitor, rows)
    if inputs.compared is None:
        return trained
    joint = None if trained is None else trained.joint
    return replace(inputs.compared, trained=trained, joint=joint)
