"""Buckets and calendar-aligned windows, half-open [start, end)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

BUCKET = timedelta(hours=1)

_STEPS = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "1d": timedelta(days=1),
    "1w": timedelta(weeks=1),
}
_MONDAY = datetime(1970, 1, 5)  # noqa: DTZ001  a wall-clock time; its zone is applied afterwards


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A half-open span of time [start, end) in UTC."""

    start: datetime
    end: datetime


def bucket_start(ts: datetime) -> datetime:
    """Return the start of the hour that holds ``ts``."""
    return ts.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def calendar_start(ts: datetime, length: str, zone: ZoneInfo) -> datetime:
    """Return the start of the calendar-aligned span of ``length`` that holds ``ts``.

    Examples
    --------
    >>> at = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
    >>> calendar_start(at, "1mo", ZoneInfo("UTC")).isoformat()
    '2026-11-01T00:00:00+00:00'
    >>> calendar_start(at, "1w", ZoneInfo("Europe/Sofia")).isoformat()
    '2026-11-15T22:00:00+00:00'
    """
    if length == "1h":
        return bucket_start(ts)
    return _to_utc(_floor(ts.astimezone(zone).replace(tzinfo=None), length), zone)


def steps_between(start: datetime, other: datetime, every: str, zone: ZoneInfo) -> int:
    """Return how many calendar steps ``other`` lies after ``start``; both are starts of windows.

    Examples
    --------
    >>> january, march = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    >>> steps_between(january, march, "1mo", ZoneInfo("UTC"))
    2
    """
    one, two = (at.astimezone(zone).replace(tzinfo=None) for at in (start, other))
    if every == "1mo":
        return (two.year - one.year) * 12 + two.month - one.month
    return round((two - one) / _STEPS[every])


def windows_over(bucket: datetime, length: str, every: str, zone: ZoneInfo) -> Iterator[Interval]:
    """Yield the windows that hold the bucket, latest start first; each is whole buckets.

    A step ``every`` smaller than ``length`` makes the windows slide.
    """
    if length == every == "1h":
        yield Interval(bucket, bucket + BUCKET)
        return
    local = _floor(bucket.astimezone(zone).replace(tzinfo=None), every)
    while True:
        window = Interval(_to_utc(local, zone), _to_utc(_add(local, length), zone))
        if window.end <= bucket:
            return
        yield window
        local = _before(local, every)


def _floor(local: datetime, length: str) -> datetime:
    if length == "1mo":
        return local.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return local - (local - _MONDAY) % _STEPS[length]


def _add(local: datetime, length: str) -> datetime:
    if length == "1mo":
        return (local + timedelta(days=31)).replace(day=1)
    return local + _STEPS[length]


def _before(local: datetime, length: str) -> datetime:
    if length == "1mo":
        return (local - timedelta(days=1)).replace(day=1)
    return local - _STEPS[length]


def _to_utc(local: datetime, zone: ZoneInfo) -> datetime:
    return local.replace(tzinfo=zone).astimezone(UTC)
