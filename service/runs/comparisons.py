"""Which rows a window is compared with, and which windows are compared with a row."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from service.ledger.calendar import Interval, same_time_before, windows_before
from service.registry.monitor import MonitorDocument
from service.registry.monitor_reference import LENGTHS, Comparison
from service.registry.monitor_values import write_duration


def periods_of(document: MonitorDocument, window: Interval) -> tuple[Interval, ...]:
    """Return the periods that a window is compared with, latest first.

    None with a training reference; of another version it is the window itself.
    """
    comparison, zone = document.reference, ZoneInfo(document.timezone)
    season = comparison.seasonal
    if season is not None:
        return tuple(same_time_before(window, document.window, season.step, season.count, zone))
    if comparison.kind in {"previous_window", "trailing"}:
        return tuple(windows_before(window, document.window, zone, comparison.trailing))
    return (window,) if comparison.kind == "version" else ()


def name_of(comparison: Comparison, periods: Sequence[Interval]) -> str:
    """Name what a window is compared with, with the times that it has.

    Examples
    --------
    >>> from datetime import UTC
    >>> day = Interval(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
    >>> name_of(Comparison("previous_window"), [day])
    'the previous window (2026-11-01T00:00Z to 2026-11-02T00:00Z)'
    """
    if comparison.version is not None:
        return f"version {comparison.version} in the same window"
    if comparison.trailing is not None:
        what = f"the {write_duration(comparison.trailing)} before"
    elif comparison.seasonal is not None:
        what = f"the {comparison.seasonal.words}"
    else:
        what = "the previous window"
    if not periods:
        return what
    first, last = min(p.start for p in periods), max(p.end for p in periods)
    return f"{what} ({_said(first)} to {_said(last)})"


def windows_compared_with(
    document: MonitorDocument, candidates: Iterable[Interval], starts: Iterable[datetime]
) -> list[Interval]:
    """Return which of the windows are compared with any of the buckets."""
    changed = sorted(set(starts))

    def holds(period: Interval) -> bool:
        first = bisect_left(changed, period.start)
        return first < len(changed) and changed[first] < period.end

    return [window for window in candidates if any(map(holds, periods_of(document, window)))]


def reach_of(document: MonitorDocument) -> timedelta:
    """Return how long after a row, at most, a window that is compared with it ends."""
    comparison, length = document.reference, LENGTHS[document.window]
    back = comparison.trailing or length
    if (season := comparison.seasonal) is not None:
        back = season.count * LENGTHS[season.step] + length
    # A day, since the clocks may be set meanwhile.
    return back + length + timedelta(days=1)


def _said(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%MZ}"
