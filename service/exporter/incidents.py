"""What open incidents alert about as samples (pure)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from service.evaluation.causes import Cause, cause_of
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.policy import SAID
from service.exporter.exposition import Sample
from service.exporter.measured import method_label

Labels = tuple[str, ...]


def alert_samples(
    own: tuple[str, str], incidents: Collection[Labels], windows: Iterable[tuple[datetime, Any]]
) -> Iterator[Sample]:
    """Yield the numbers of each incident, of the newest window that alerts about it.

    They are those of its first measurements, as many as a sentence about it names.

    Parameters
    ----------
    own
        Model and version.
    incidents
        Kind, check, subject and slice of each, and more.
    windows
        The end of each window, and its measurements that alert.
    """
    wanted = {labels[:4] for labels in incidents}
    for end, alerting in sorted(windows, key=lambda window: window[0], reverse=True):
        found: defaultdict[Labels, list[Any]] = defaultdict(list)
        for row in alerting:
            cause = _cause_of(row)
            if cause in wanted and row.value is not None:
                found[cause].append(row)
        for cause, rows in found.items():
            wanted.discard(cause)
            name = "modelwatch_incident_window_end_timestamp_seconds"
            yield Sample(name, (*own, *cause), end.timestamp())
            yield from _numbers((*own, *cause), rows[:SAID])


def _cause_of(row: Any) -> Labels:
    measurement = Measurement(
        metric=row.metric,
        subject=row.subject,
        slice=row.slice,
        value=0.0,
        n=row.n,
        method=row.method,
        direction=Direction(row.direction),
        verdict=Verdict.ALERT,
    )
    cause = cause_of(measurement) or Cause("")
    return cause.kind, cause.metric, cause.subject, cause.slice


def _numbers(incident: Labels, rows: Sequence[Any]) -> Iterator[Sample]:
    for row in rows:
        of_drift = row.metric == "drift"
        values = {
            "value": row.value,
            "ci_lower": row.ci_low,
            "ci_upper": row.ci_high,
            # A rare value that became common moves no score: it alerts by a test of its own.
            "threshold": None if of_drift and _within(row) else row.threshold,
            "reference": row.reference_value,
            "rows": float(row.n),
        }
        metric = method_label(row.method) if of_drift else row.metric
        for name, value in values.items():
            if value is not None:
                yield Sample(f"modelwatch_incident_{name}", (*incident, metric), value)


def _within(row: Any) -> bool:
    higher = row.direction == Direction.HIGHER_IS_WORSE
    return higher and row.threshold is not None and row.value < row.threshold
