"""Windows are calendar-aligned, half-open, and whole buckets."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ledger.calendar import BUCKET, bucket_start, calendar_start, windows_over

ZONES = ("UTC", "Europe/Sofia", "America/New_York")
LENGTHS = ("1h", "6h", "1d", "1w", "1mo")
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


@given(ts=TIMES, length=st.sampled_from(LENGTHS), zone=st.sampled_from(ZONES))
def test_exactly_one_aligned_window_holds_a_bucket(ts: datetime, length: str, zone: str) -> None:
    bucket = bucket_start(ts)
    (window,) = windows_over(bucket, length, length, ZoneInfo(zone))
    assert window.start <= bucket < bucket + BUCKET <= window.end
    assert window.start == calendar_start(ts, length, ZoneInfo(zone))


@given(ts=TIMES, length=st.sampled_from(LENGTHS), zone=st.sampled_from(ZONES))
def test_successive_windows_meet(ts: datetime, length: str, zone: str) -> None:
    (window,) = windows_over(bucket_start(ts), length, length, ZoneInfo(zone))
    (after,) = windows_over(window.end, length, length, ZoneInfo(zone))
    assert after.start == window.end


@given(ts=TIMES, zone=st.sampled_from(ZONES))
def test_a_window_that_slides_by_a_day_holds_each_bucket_seven_times(
    ts: datetime, zone: str
) -> None:
    bucket = bucket_start(ts)
    windows = list(windows_over(bucket, "1w", "1d", ZoneInfo(zone)))
    assert len(windows) == 7
    assert all(window.start <= bucket < window.end for window in windows)


@pytest.mark.parametrize(
    ("day", "hours"),
    [("2026-03-29", 23), ("2026-10-25", 25), ("2026-11-20", 24)],
)
def test_a_day_has_the_hours_that_its_zone_gives_it(day: str, hours: int) -> None:
    noon = datetime.fromisoformat(f"{day}T12:00:00+02:00")
    (window,) = windows_over(bucket_start(noon), "1d", "1d", ZoneInfo("Europe/Sofia"))
    assert window.end - window.start == timedelta(hours=hours)


def test_weeks_start_on_monday() -> None:
    start = calendar_start(datetime(2026, 11, 20, tzinfo=UTC), "1w", ZoneInfo("UTC"))
    assert start == datetime(2026, 11, 16, tzinfo=UTC)
