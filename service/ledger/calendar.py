"""Buckets and calendar-aligned windows, half-open [start, end)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from zoneinfo import ZoneInfo

BUCKET = timedelta(hours=1)

_STEPS = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "1d": timedelta(days=1),
    "1w": timedelta(weeks=1),
}
_SHORTEST_MONTH, _LONGEST_MONTH = timedelta(days=28), timedelta(days=31)
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


@dataclass(frozen=True, slots=True)
class Calendar:
    """The windows of one monitor: their length, the step between their starts, and the zone."""

    length: str
    every: str
    zone: ZoneInfo

    def has(self, window: Interval) -> bool:
        """Say whether a window is one of these, and not of another length or zone.

        Examples
        --------
        >>> day = Interval(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
        >>> Calendar("1d", "1d", ZoneInfo("UTC")).has(day)
        True
        >>> Calendar("1d", "1d", ZoneInfo("Europe/Sofia")).has(day)
        False
        """
        if self.every == "1h" and self.length == "1h":
            return window.end - window.start == BUCKET
        local = window.start.astimezone(self.zone).replace(tzinfo=None)
        return (
            _floor(local, self.every) == local
            and _to_utc(_add(local, self.length), self.zone) == window.end
        )

    def position(self, origin: datetime, start: datetime) -> int:
        """Return how many steps after ``origin`` a window starts."""
        return steps_between(origin, start, self.every, self.zone)

    def steps(self, span: timedelta) -> int:
        """Return how many steps last at least ``span``."""
        return ceil(span / _STEPS.get(self.every, _SHORTEST_MONTH))

    def before(self, start: datetime, steps: int) -> datetime:
        """Return a time that is at least so many steps before ``start``, and not much more."""
        return start - (steps * _STEPS.get(self.every, _LONGEST_MONTH) + timedelta(days=1))

    def walk(self, window: Interval, count: int) -> Iterator[Interval]:
        """Yield ``count`` windows that start after this one, one a step; backwards if negative.

        Examples
        --------
        >>> day = Interval(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))
        >>> calendar = Calendar("1d", "1d", ZoneInfo("UTC"))
        >>> [window.start.day for window in calendar.walk(day, 2)]
        [2, 3]
        >>> [window.start.day for window in calendar.walk(day, -2)]
        [28, 27]
        """
        move = _before if count < 0 else _add
        zone = ZoneInfo("UTC") if self.every == self.length == "1h" else self.zone
        local = window.start.astimezone(zone).replace(tzinfo=None)
        for _ in range(abs(count)):
            local = move(local, self.every)
            yield Interval(_to_utc(local, zone), _to_utc(_add(local, self.length), zone))


def windows_before(
    window: Interval, length: str, zone: ZoneInfo, within: timedelta | None = None
) -> list[Interval]:
    """Return the whole windows of the same length that end at its start, latest first.

    As many as lie ``within`` that time before it, by the local calendar; ``None``: one.

    Examples
    --------
    >>> day = Interval(datetime(2026, 3, 29, 22, tzinfo=UTC), datetime(2026, 3, 30, 22, tzinfo=UTC))
    >>> [before] = windows_before(day, "1d", ZoneInfo("Europe/Berlin"))
    >>> (before.end - before.start) / timedelta(hours=1)  # clocks were set forward
    23.0
    """
    # Windows of an hour are those of UTC, whatever the clocks do.
    own = ZoneInfo("UTC") if length == "1h" else zone
    end, now = window.start, window.start.astimezone(own).replace(tzinfo=None)
    local = _before(now, length)
    earliest = local if within is None else now - within
    found: list[Interval] = []
    while local >= earliest:
        found.append(Interval(_to_utc(local, own), end))
        end, local = found[-1].start, _before(local, length)
    return found


def same_time_before(
    window: Interval, length: str, step: str, count: int, zone: ZoneInfo
) -> list[Interval]:
    """Return the window's local times in each of ``count`` days or weeks before, latest first.

    An hour that was skipped when the clocks were set forward is left out; one that came twice has
    both.

    Examples
    --------
    >>> noon = datetime(2026, 3, 30, 10, tzinfo=UTC)
    >>> window = Interval(noon, noon + BUCKET)
    >>> [before] = same_time_before(window, "1h", "1w", 1, ZoneInfo("Europe/Berlin"))
    >>> before.start.isoformat()
    '2026-03-23T11:00:00+00:00'
    """
    start = window.start.astimezone(zone).replace(tzinfo=None)
    end, found = _add(start, length), []
    for _ in range(count):
        start, end = start - _STEPS[step], end - _STEPS[step]
        earlier = Interval(_to_utc(start, zone), _to_utc(end, zone))
        if earlier.start < earlier.end:
            found.append(earlier)
    return found


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


def steps_in(span: str, every: str) -> int:
    """Return how many steps make a span; at least 1, and 1 where the step is a month.

    Examples
    --------
    >>> steps_in("1w", "1d"), steps_in("1d", "1d"), steps_in("1mo", "1mo")
    (7, 1, 1)
    """
    if "1mo" in {span, every}:
        return 1
    return max(_STEPS[span] // _STEPS[every], 1)


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
