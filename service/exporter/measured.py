"""Measurements of one window as samples (pure)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from service.detection.metrics import RECORDED, RELATIVE, SIGNED
from service.detection.outputs import OUTPUTS, SELECTION_RATE
from service.detection.shares import PREDICTION_SHARE
from service.evaluation.causes import Severity
from service.evaluation.concept import CALIBRATION_DRIFT, CONCEPT_DRIFT
from service.evaluation.multivariate import MULTIVARIATE
from service.evaluation.quality import QUALITY_METRICS
from service.exporter.exposition import Sample
from service.runs.delays import LABEL_DELAY

LABEL = "label"
TARGETS = frozenset({"prediction", "score", LABEL})
_TARGET_PREFIX = "scores."
UNBOUNDED = frozenset(
    {"log_loss", "mae", "rmse", "rmsle", "mape", "mean_error", "r2", "prediction_mean"}
)
COVERAGE = "label_coverage"
# How many, not how good.
DISCOVERED = "discovered_slices"
_ESTIMATED = "estimated_"
NOTHING: Mapping[str, int] = MappingProxyType({})

_OF_FEATURE = {
    "missing_ratio": "feature_missing_ratio",
    "out_of_range_ratio": "feature_out_of_range_ratio",
    "unseen_ratio": "feature_unseen_ratio",
}
# Checks of every judged window that are recorded only where they find something.
_FOUND_ONLY = ("constant", "unit_change", "type_error_ratio", "rejected_ratio")
# Metrics of the data family that are not of the labels, whichever window they are recorded in.
_OF_DATA = frozenset({"drift", "rows", *_OF_FEATURE}) | OUTPUTS | MULTIVARIATE


def method_label(method: str) -> str:
    """Return a method's name as the value of a metric label.

    Examples
    --------
    >>> method_label("evidently.wasserstein")
    'evidently_wasserstein'
    """
    return method.replace(".", "_")


def _is_target(subject: str) -> bool:
    """Say whether a column is the model's output; no feature may have such a name."""
    return subject in TARGETS or subject.startswith(_TARGET_PREFIX)


def feature_samples(
    own: tuple[str, str], measured: Sequence[Any], in_a_row: Mapping[str, int] = NOTHING
) -> Iterator[tuple[str, Sample]]:
    """Yield each feature's name with a sample of it, from the newest data window.

    ``in_a_row`` are the windows in a row in which a feature drifts, if it does.
    """
    for row in measured:
        if row.subject is None or _is_target(row.subject):
            continue
        if row.metric == "drift":
            metric_labels = (*own, row.subject, method_label(row.method))
            yield row.subject, Sample("modelwatch_feature_drift_score", metric_labels, row.value)
            if row.threshold is not None:
                yield (
                    row.subject,
                    Sample("modelwatch_feature_drift_threshold", metric_labels, row.threshold),
                )
            if row.engine == "profile":
                name = "modelwatch_feature_drift_consecutive_windows"
                windows = float(in_a_row.get(row.subject, 0))
                yield row.subject, Sample(name, (*own, row.subject), windows)
        elif row.metric in _OF_FEATURE:
            name = f"modelwatch_{_OF_FEATURE[row.metric]}"
            yield row.subject, Sample(name, (*own, row.subject), row.value)


def model_samples(
    own: tuple[str, str], family: str, measured: Sequence[Any], tolerance: float
) -> Iterator[Sample]:
    """Yield the samples of the model as a whole that belong to the family."""
    if family == "data":
        yield from _drift(own, measured)
        yield from _of_rows(own, measured)
        yield from _quality(own, measured)
        for row in measured:
            if row.metric in OUTPUTS and row.subject is None:
                yield from _performance(own, row, tolerance)
        return
    estimated = family == "estimate"
    if not estimated:
        yield from _target_drift(
            own, (row for row in measured if row.metric == "drift" and row.subject == LABEL)
        )
        yield from _delays(own, measured)
    for row in measured:
        if row.subject is not None or row.metric in _OF_DATA or row.metric == DISCOVERED:
            continue
        if row.metric == COVERAGE and not estimated:
            yield Sample("modelwatch_label_coverage_ratio", own, row.value)
        elif row.metric == CALIBRATION_DRIFT or row.metric.startswith(CONCEPT_DRIFT):
            yield from () if estimated else _concept(own, row)
        elif row.metric != COVERAGE and row.metric.startswith(_ESTIMATED) == estimated:
            yield from _performance(own, row, tolerance)


def share_samples(own: tuple[str, str], measured: Iterable[Any]) -> Iterator[Sample]:
    """Yield how the predictions of the newest data window are distributed, and the reference's."""
    for row in measured:
        # Of many classes the rate of each is its share.
        if row.metric not in {PREDICTION_SHARE, SELECTION_RATE} or row.subject is None:
            continue
        metric_labels = (*own, row.subject)
        yield Sample("modelwatch_prediction_share_ratio", metric_labels, row.value)
        if row.reference_value is not None:
            name = "modelwatch_prediction_reference_share_ratio"
            yield Sample(name, metric_labels, row.reference_value)


def _drift(own: tuple[str, str], measured: Sequence[Any]) -> Iterator[Sample]:
    monitored, drifting = set(), set()
    for row in measured:
        if row.metric != "drift" or row.subject is None:
            continue
        if not _is_target(row.subject):
            if row.engine == "profile":
                monitored.add(row.subject)
            if row.verdict == "alert":
                drifting.add(row.subject)
            continue
        # Labels come later: the newest window that has them belongs to another family.
        if row.subject != LABEL:
            yield from _target_drift(own, [row])
    yield Sample("modelwatch_features_monitored", own, float(len(monitored)))
    yield Sample("modelwatch_features_drifting", own, float(len(drifting)))


def _quality(own: tuple[str, str], measured: Sequence[Any]) -> Iterator[Sample]:
    """Yield whether each check fails; those of columns are recorded only where they find something.

    What could not be judged has no sample: it did not pass.
    """
    verdicts: dict[str, bool] = {}
    for row in measured:
        if row.metric in QUALITY_METRICS and row.verdict in {"ok", "alert"}:
            verdicts[row.metric] = verdicts.get(row.metric, False) or row.verdict == "alert"
    if "missing_ratio" in verdicts:
        verdicts = dict.fromkeys(_FOUND_ONLY, False) | verdicts
    for check, failed in sorted(verdicts.items()):
        name = "modelwatch_data_quality_check_failed"
        yield Sample(name, (*own, check, Severity.CRITICAL.value), float(failed))


def _target_drift(own: tuple[str, str], measured: Iterable[Any]) -> Iterator[Sample]:
    for row in measured:
        metric_labels = (*own, row.subject, method_label(row.method))
        yield Sample("modelwatch_drift_score", metric_labels, row.value)
        if row.threshold is not None:
            yield Sample("modelwatch_drift_threshold", metric_labels, row.threshold)


def _delays(own: tuple[str, str], measured: Iterable[Any]) -> Iterator[Sample]:
    for row in measured:
        if row.metric == LABEL_DELAY:
            yield Sample("modelwatch_label_delay_seconds", (*own, row.subject), row.value)


def _of_rows(own: tuple[str, str], measured: Iterable[Any]) -> Iterator[Sample]:
    for row in measured:
        if row.metric in MULTIVARIATE and row.value is not None:
            metric_labels = (*own, "rows", method_label(row.method))
            yield Sample("modelwatch_drift_score", metric_labels, row.value)
            yield Sample("modelwatch_drift_threshold", metric_labels, row.threshold)


def _performance(own: tuple[str, str], row: Any, tolerance: float) -> Iterator[Sample]:
    metric = row.metric.removeprefix(_ESTIMATED)
    prefix = "estimated_performance" if row.metric != metric else "performance"
    unit = "error" if metric in UNBOUNDED else "ratio"
    values = {
        "": row.value,
        "_ci_lower": row.ci_low,
        "_ci_upper": row.ci_high,
        "_baseline": row.reference_value,
        "_tolerance": _tolerance(metric, row.reference_value, tolerance),
    }
    for sibling, value in values.items():
        if value is not None:
            yield Sample(f"modelwatch_{prefix}{sibling}_{unit}", (*own, metric), value)


def _concept(own: tuple[str, str], row: Any) -> Iterator[Sample]:
    if row.metric == CALIBRATION_DRIFT:
        yield Sample("modelwatch_calibration_drift_ratio", own, row.value)
    else:
        metric_labels = (*own, row.metric.removeprefix(CONCEPT_DRIFT))
        yield Sample("modelwatch_concept_drift_ratio", metric_labels, row.value)


def _tolerance(metric: str, baseline: float | None, tolerance: float) -> float | None:
    # A bias has a threshold on either side; what is recorded only has none.
    if metric in RECORDED | OUTPUTS | SIGNED:
        return None
    # Of losses the tolerance is a share of the baseline; exported is the loss itself.
    if metric not in RELATIVE:
        return tolerance
    return None if baseline is None else tolerance * baseline
