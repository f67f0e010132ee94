"""Which windows a window is compared with, through all clocks."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ledger.calendar import BUCKET, Interval, bucket_start, windows_over
from service.registry.monitor import MonitorDocument
from service.runs.comparisons import name_of, periods_of, reach_of, windows_compared_with

ZONES = ("UTC", "Europe/Sofia", "America/New_York")
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))
# Also near the hours in which Sofia and New York set their clocks.
NEAR = st.builds(
    lambda at, hours: at + timedelta(hours=hours),
    st.sampled_from(
        [datetime(2026, month, day, tzinfo=UTC) for month, day in ((3, 29), (10, 25), (11, 1))]
    ),
    st.integers(-24 * 40, 24 * 40),
)
REFERENCES: list[Any] = [
    "previous_window",
    {"trailing": "3d"},
    {"trailing": "70d"},
    {"seasonal": "same hour yesterday"},
    {"seasonal": "same hour of the last 3 weeks"},
    {"seasonal": "same weekday last week"},
    {"version": "6"},
]


def documents() -> list[MonitorDocument]:
    found = []
    for reference in REFERENCES:
        for window, every in (
            ("1h", "1h"), ("6h", "1h"), ("1d", "1d"), ("1d", "6h"), ("1w", "1d"), ("1mo", "1mo")
        ):  # fmt: skip
            for zone in ZONES:
                content = {"model": "m", "window": window, "every": every, "timezone": zone}
                try:
                    found.append(
                        MonitorDocument.model_validate({**content, "reference": reference})
                    )
                except ValueError:
                    continue
    return found


DOCUMENTS = st.sampled_from(documents())


def windows_at(document: MonitorDocument, ts: datetime) -> list[Interval]:
    zone = ZoneInfo(document.timezone)
    return list(windows_over(bucket_start(ts), document.window, document.every, zone))


@given(document=DOCUMENTS, ts=TIMES | NEAR)
def test_a_window_is_compared_with_whole_buckets_before_it(
    document: MonitorDocument, ts: datetime
) -> None:
    for window in windows_at(document, ts):
        periods = periods_of(document, window)
        if document.reference.kind == "version":
            assert periods == (window,)
            continue
        ends = [window.start, *(period.start for period in periods)]
        for period, end in zip(periods, ends, strict=False):
            assert period.start < period.end <= end
            assert period.start == bucket_start(period.start)
            assert period.end == bucket_start(period.end)


@given(document=DOCUMENTS, ts=TIMES | NEAR, back=st.integers(0, 24 * 90))
def test_a_bucket_changes_exactly_the_windows_that_are_compared_with_it(
    document: MonitorDocument, ts: datetime, back: int
) -> None:
    bucket = bucket_start(ts) - back * BUCKET
    for window in windows_at(document, ts):
        is_compared = any(p.start <= bucket < p.end for p in periods_of(document, window))
        assert windows_compared_with(document, [window], [bucket]) == [window] * is_compared
        if is_compared:
            assert window.start < bucket + reach_of(document)


@given(ts=TIMES | NEAR, zone=st.sampled_from(ZONES), length=st.sampled_from(["1d", "1w", "1mo"]))
def test_the_previous_window_is_the_window_before(ts: datetime, zone: str, length: str) -> None:
    content = {"model": "m", "window": length, "timezone": zone, "reference": "previous_window"}
    document = MonitorDocument.model_validate(content)
    [window] = windows_at(document, ts)
    assert periods_of(document, window) == tuple(
        windows_at(document, window.start - timedelta(hours=1))
    )


def test_a_season_keeps_the_hour_of_the_wall_clock() -> None:
    # Sofia set its clocks forward on 2026-03-29 at 03:00.
    content = {"model": "m", "window": "1h", "timezone": "Europe/Sofia"}
    reference = {"seasonal": "same hour of the last 2 days"}
    document = MonitorDocument.model_validate({**content, "reference": reference})
    start = datetime(2026, 3, 30, 7, tzinfo=UTC)
    periods = periods_of(document, Interval(start, start + BUCKET))
    assert [period.start.hour for period in periods] == [7, 8]
    skipped = datetime(2026, 3, 30, 0, tzinfo=UTC)  # 03:00 in Sofia
    periods = periods_of(document, Interval(skipped, skipped + BUCKET))
    assert [period.start for period in periods] == [datetime(2026, 3, 28, 1, tzinfo=UTC)]


def test_an_hour_that_came_twice_is_compared_with_twice() -> None:
    # Sofia set its clocks back on 2026-10-25 at 04:00.
    content = {"model": "m", "window": "1h", "timezone": "Europe/Sofia"}
    reference = {"seasonal": "same hour yesterday"}
    document = MonitorDocument.model_validate({**content, "reference": reference})
    start = datetime(2026, 10, 26, 1, tzinfo=UTC)
    [period] = periods_of(document, Interval(start, start + BUCKET))
    assert period == Interval(
        datetime(2026, 10, 25, 0, tzinfo=UTC), datetime(2026, 10, 25, 2, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("window", "reference", "days"),
    [
        ("1d", {"trailing": "30d"}, [1] * 30),
        ("1w", {"trailing": "30d"}, [7] * 4),
        ("1mo", {"trailing": "62d"}, [31, 31]),
    ],
)
def test_trailing_has_the_whole_windows_that_fit(
    window: str, reference: dict[str, str], days: list[int]
) -> None:
    content = {"model": "m", "window": window, "reference": reference}
    document = MonitorDocument.model_validate(content)
    [at] = windows_at(document, datetime(2026, 9, 1, tzinfo=UTC))
    periods = periods_of(document, at)
    assert [(period.end - period.start).days for period in periods] == days


def test_a_comparison_is_named_with_its_times() -> None:
    content = {"model": "m", "window": "1w", "reference": {"trailing": "2w"}}
    document = MonitorDocument.model_validate(content)
    [window] = windows_at(document, datetime(2026, 11, 20, tzinfo=UTC))
    said = name_of(document.reference, periods_of(document, window))
    assert said == "the 2w before (2026-11-02T00:00Z to 2026-11-16T00:00Z)"
