"""Recorded results as samples: rows of the database in, one exposition out."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from service import clock
from service.exporter import repository
from service.exporter.exposition import Exposition, Sample, render, within_budget
from service.exporter.groups import class_samples, slice_samples
from service.exporter.histories import drifting_in_a_row, mature_coverages
from service.exporter.incidents import alert_samples
from service.exporter.measured import feature_samples, model_samples, share_samples
from service.exporter.repository import LiveVersion
from service.registry.documents import read_stored
from service.registry.monitor import MonitorDocument
from service.runs.tables import Window

BUDGET = 50_000
# Samples of the export itself.
_OWN = 4

FAMILIES = ("data", "estimate", "performance")
STATES = ("open", "acknowledged", "retraining", "resolved", "dismissed")
QUEUES = (
    *("bucket_rows", "bucket_labels", "evaluation", "window", "evidently", "report"),
    "webhooks",
)
VERDICTS = {"ok": 0.0, "alert": 1.0, "insufficient_data": 2.0}

# Which family's newest window speaks for a verdict; later kinds follow the labels.
FAMILY_OF_VERDICT = {
    "quality": "data",
    "drift": "data",
    "estimated_performance": "estimate",
    "fairness": "data",
}

EVERY_SECONDS = {"1h": 3_600, "6h": 21_600, "1d": 86_400, "1w": 604_800, "1mo": 2_678_400}


def render_results(read: "Results", *, budget: int = BUDGET) -> Exposition:
    """Render the newest results of every live version.

    The last value stays while the version is live, for a series that vanishes resolves its alert;
    the age of a result is a metric of its own.
    """
    essential: list[Sample] = []
    slices: list[Sample] = []
    classes: list[Sample] = []
    alerting: list[Sample] = []
    features: list[tuple[float, Sample]] = []
    for version in read.versions:
        essential.extend(_of_version(read, version))
        slices.extend(_of_slices(read, version))
        classes.extend(_of_classes(read, version))
        alerting.extend(_of_incidents(read, version))
        features.extend(_of_features(read, version))
    features.sort(key=lambda found: -found[0])
    ranked = [*read.service, *essential, *slices, *classes, *alerting]
    kept, dropped = within_budget([*ranked, *(s for _, s in features)], budget - _OWN)
    kept += [
        Sample("modelwatch_export_series", (), float(len(kept) + _OWN)),
        Sample("modelwatch_export_series_dropped", (), float(dropped)),
        Sample("modelwatch_export_refresh_timestamp_seconds", (), read.at.timestamp()),
        Sample("modelwatch_export_refresh_duration_seconds", (), time.monotonic() - read.began),
    ]
    return render(kept)


@dataclass(frozen=True, slots=True)
class Results:
    """What the database says of live versions and of the service, and when it was asked."""

    began: float
    at: datetime
    service: Sequence[Sample]
    versions: Sequence[LiveVersion]
    windows: Mapping[tuple[int, str], Window]
    measured: Mapping[int, Sequence[Any]]
    slices: Mapping[int, Sequence[Any]]
    alerting: Mapping[int, Sequence[Any]]
    importances: Mapping[tuple[int, str], float]
    requests: Mapping[tuple[int, str], int]
    incidents: Mapping[int, Sequence[tuple[datetime, tuple[str, ...]]]]
    in_a_row: Mapping[int, Mapping[str, int]]
    monitors: Mapping[int, MonitorDocument]
    coverages: Mapping[int, tuple[datetime, float]]


def read_results(session: Session) -> Results:
    """Read all that is exported; nothing of the session is needed afterwards."""
    began, at = time.monotonic(), clock.now()
    versions = repository.live_versions(session)
    ids = [version.id for version in versions]
    windows = repository.latest_windows(session, ids)
    incidents = repository.open_incidents(session, ids)
    monitors = {version.id: _monitor_of(version) for version in versions}
    horizons = {i: m.performance.label_horizon for i, m in monitors.items()}
    return Results(
        began=began,
        at=at,
        service=list(_of_service(session)),
        versions=versions,
        windows=windows,
        measured=repository.measurements_of(session, [w.id for w in windows.values()]),
        slices=repository.slices_of(
            session, [w.id for (_, family), w in windows.items() if family == "performance"]
        ),
        alerting=repository.alerting_of(
            session, [w.id for (version, _), w in windows.items() if version in incidents]
        ),
        importances=repository.importances(session, ids),
        requests=repository.request_counts(session, ids),
        incidents=incidents,
        in_a_row=drifting_in_a_row(session, ids),
        monitors=monitors,
        coverages=mature_coverages(session, horizons),
    )


def _of_service(session: Session) -> Iterator[Sample]:
    alive = repository.last_heartbeat(session)
    if alive is not None:
        yield Sample("modelwatch_worker_heartbeat_timestamp_seconds", (), alive.timestamp())
    for model, count in repository.pending_labels(session):
        yield Sample("modelwatch_labels_pending", (model,), float(count))
    pending = repository.pending(session)
    for queue in (*QUEUES, *sorted(set(pending) - set(QUEUES))):
        count, age = pending.get(queue, (0, 0.0))
        yield Sample("modelwatch_jobs_pending", (queue,), float(count))
        yield Sample("modelwatch_job_oldest_pending_age_seconds", (queue,), age)


def _of_version(read: Results, version: LiveVersion) -> Iterator[Sample]:
    own = (version.model, version.version)
    monitor = read.monitors[version.id]

    def sample(name: str, value: float, *metric_labels: str) -> Sample:
        return Sample(f"modelwatch_{name}", (*own, *metric_labels), float(value))

    yield sample("model_info", 1, version.task, version.stage, version.owner)
    yield sample("model_deployed_timestamp_seconds", version.created_at.timestamp())
    yield sample("evaluation_interval_seconds", EVERY_SECONDS[monitor.every])
    yield sample("expected_prediction_interval_seconds", _expected_interval(monitor))
    yield sample("label_coverage_floor_ratio", monitor.performance.min_label_coverage)
    if version.last_prediction is not None:
        yield sample("last_prediction_timestamp_seconds", version.last_prediction.timestamp())
    for state in STATES:
        yield sample("retraining_requests", read.requests.get((version.id, state), 0), state)
    yield from _late_labels(read, version)
    for family in FAMILIES:
        window = read.windows.get((version.id, family))
        if window is None:
            continue
        rows = window.labelled if family == "performance" else window.rows
        yield sample("evaluation_window_end_timestamp_seconds", window.end.timestamp(), family)
        yield sample("evaluation_window_rows", rows, family)
        for kind, verdict in sorted(window.verdicts.items()):
            if FAMILY_OF_VERDICT.get(kind, "performance") == family and verdict in VERDICTS:
                yield sample("verdict", VERDICTS[verdict], kind)
        measured = read.measured.get(window.id, ())
        yield from model_samples(own, family, measured, monitor.performance.tolerance)
    # There may be many; a verdict says at least that there is one.
    for since, metric_labels in read.incidents.get(version.id, ()):
        yield sample("incident_open", 1, *metric_labels)
        yield sample("incident_since_timestamp_seconds", since.timestamp(), *metric_labels)


def _late_labels(read: Results, version: LiveVersion) -> Iterator[Sample]:
    """Yield the coverage of a window that should have its labels, and is not judged by them yet."""
    judged = read.windows.get((version.id, "performance"))
    end, coverage = read.coverages.get(version.id, (None, 0.0))
    if end is not None and (judged is None or judged.end < end):
        # What comes later of the same metric does not count.
        own = (version.model, version.version)
        yield Sample("modelwatch_label_coverage_ratio", own, coverage)


def _of_slices(read: Results, version: LiveVersion) -> Iterator[Sample]:
    window = read.windows.get((version.id, "performance"))
    if window is not None:
        own = (version.model, version.version)
        found = read.slices.get(window.id, ())
        yield from slice_samples(own, found, read.monitors[version.id].slices)


def _of_classes(read: Results, version: LiveVersion) -> Iterator[Sample]:
    own = (version.model, version.version)
    for family, samples in (("performance", class_samples), ("data", share_samples)):
        window = read.windows.get((version.id, family))
        if window is not None:
            yield from samples(own, read.measured.get(window.id, ()))


def _of_incidents(read: Results, version: LiveVersion) -> Iterator[Sample]:
    incidents = [metric_labels for _, metric_labels in read.incidents.get(version.id, ())]
    found = [read.windows.get((version.id, family)) for family in FAMILIES]
    # One window may be the newest of all families.
    windows = {w.id: (w.end, read.alerting.get(w.id, ())) for w in found if w is not None}
    yield from alert_samples((version.model, version.version), incidents, windows.values())


def _expected_interval(monitor: MonitorDocument) -> float:
    # A few rows an hour may leave an hour out; nobody says that rows come evenly.
    least = monitor.quality.min_rows_per_hour
    return max(3_600, 3_600 / least) if least else EVERY_SECONDS[monitor.every]


def _monitor_of(version: LiveVersion) -> MonitorDocument:
    return read_stored(MonitorDocument, version.monitor or {"model": version.model})


def _of_features(read: Results, version: LiveVersion) -> Iterator[tuple[float, Sample]]:
    window = read.windows.get((version.id, "data"))
    if window is None:
        return
    own = (version.model, version.version)
    measured = read.measured.get(window.id, ())
    in_a_row = read.in_a_row.get(version.id, {})
    for feature, sample in feature_samples(own, measured, in_a_row):
        yield read.importances.get((version.id, feature), 0.0), sample
