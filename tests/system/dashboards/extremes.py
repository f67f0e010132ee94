"""More models, as they would be exported: one with much of everything, one silent, one new."""

from collections.abc import Iterator

from tests.system.dashboards.history import Past
from tests.system.dashboards.world import VERSION

CROWD, SILENT, NEW = "crowd", "silent", "new"
MANY = 200
HOUR, DAY = 3_600, 86_400


def open_metrics(past: Past, labels: str) -> Iterator[str]:
    """Yield their past as OpenMetrics."""
    times = []
    at = past.start
    while at < past.end:
        times.append(at.timestamp())
        at += past.step
    found: dict[str, list[str]] = {}
    for name, own, first, last in [*_crowd(), *_silent(times[-1]), _new()]:
        lines = found.setdefault(f"modelwatch_{name}", [])
        key = f'modelwatch_{name}{{{labels},model_version="{VERSION}",{own}}}'
        for place, time in enumerate(times):
            value = first + (last - first) * place / (len(times) - 1)
            lines.append(f"{key} {value!r} {time:.0f}")
    for name, lines in found.items():
        yield f"# TYPE {name} gauge"
        yield from lines
    yield "# EOF"


def _crowd() -> Iterator[tuple[str, str, float, float]]:
    """Yield each series with its first and its last value: who was the worst is so no longer."""
    own = f'model="{CROWD}"'
    yield "model_info", own, 1, 1
    yield "performance_ratio", f'{own},metric="roc_auc"', 0.9, 0.9
    for number in range(MANY):
        up, down = number / MANY, 1 - number / MANY
        of_slice = f'{own},slice="segment={number}"'
        measured = f'{of_slice},metric="roc_auc"'
        yield "slice_performance_ratio", f'{measured},critical="true"', down, up
        yield "slice_floor_ratio", measured, 0.5, 0.5
        yield "slice_rows", of_slice, 1_000 * down, 1_000 * up
        of_class = f'{own},class="class {number}"'
        yield "class_recall_ratio", of_class, down, up
        yield "class_recall_floor_ratio", of_class, 0.5, 0.5
        yield "class_support_rows", of_class, 1_000 * down, 1_000 * up
        target = f'{own},target="scores.class {number}",method="psi"'
        yield "drift_score", target, 0, up
        yield "drift_threshold", target, 0.1, 0.1
        feature = f'{own},feature="column {number}"'
        yield "feature_drift_consecutive_windows", feature, 0, number
        yield "feature_out_of_range_ratio", feature, down, 0
        yield "feature_unseen_ratio", feature, down, 0


def _new() -> tuple[str, str, float, float]:
    return "model_info", f'model="{NEW}"', 1, 1


def _silent(end: float) -> Iterator[tuple[str, str, float, float]]:
    own = f'model="{SILENT}"'
    yield "model_info", own, 1, 1
    yield "verdict", f'{own},kind="drift"', 0, 0
    ended = end - 12 * HOUR
    yield "evaluation_window_end_timestamp_seconds", f'{own},kind="data"', ended, ended
    yield "evaluation_interval_seconds", own, DAY, DAY
    yield "last_prediction_timestamp_seconds", own, ended, ended
    yield "expected_prediction_interval_seconds", own, HOUR, HOUR
