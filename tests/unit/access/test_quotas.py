"""Limits of a key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.quotas import Bucket, Meter
from service.errors import RateLimitedError


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_after_so_many_requests_it_is_said_when_to_come_back() -> None:
    clock = Clock()
    meter = Meter(3, None, None, clock)
    for _ in range(3):
        meter.admit(10)
    with pytest.raises(RateLimitedError) as refused:
        meter.admit(10)
    assert refused.value.retry_after == 20
    clock.at = 20.0
    meter.admit(10)


def test_rows_and_bytes_are_known_late_and_paid_for_afterwards() -> None:
    clock = Clock()
    meter = Meter(None, 600, 6_000, clock)
    meter.admit(0)
    meter.take_rows(1_200)
    meter.take_bytes(100)
    with pytest.raises(RateLimitedError) as refused:
        meter.admit(0)
    assert refused.value.retry_after == 61
    clock.at = 61.0
    meter.admit(0)


def test_a_refused_request_costs_nothing() -> None:
    clock = Clock()
    meter = Meter(1, None, 1_000, clock)
    meter.admit(500)
    for _ in range(50):
        with pytest.raises(RateLimitedError):
            meter.admit(500)
    clock.at = 60.0
    meter.admit(0)


def test_without_limits_nothing_is_limited() -> None:
    meter = Meter(None, None, None)
    for _ in range(1_000):
        meter.admit(1 << 40)
        meter.take_rows(1 << 40)


@given(
    st.integers(1, 1_000),
    st.lists(st.tuples(st.floats(0, 120), st.integers(1, 50)), max_size=60),
)
def test_never_is_more_taken_than_the_bucket_and_its_flow_and_one_request(
    size: int, steps: list[tuple[float, int]]
) -> None:
    clock = Clock()
    bucket = Bucket(size, clock)
    taken = 0
    for pause, amount in steps:
        clock.at += pause
        if bucket.wait() == 0:
            assert taken <= size + size * clock.at / 60 + 1e-6
            bucket.take(amount)
            taken += amount


@given(st.integers(1, 10_000), st.integers(1, 100_000))
def test_whoever_waits_as_told_is_let_in(size: int, amount: int) -> None:
    clock = Clock()
    bucket = Bucket(size, clock)
    bucket.take(amount)
    clock.at = bucket.wait() + 1e-6
    assert bucket.wait() == 0
