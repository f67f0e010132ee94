"""What is said of an outage: once that it began, once that it is over."""

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.db.outage import Outages, pause_after
from service.errors import NotMigratedError


class Clock:
    """Goes on when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outages(clock: Clock) -> Outages:
    return Outages(clock)


def away(said: str = "connection refused") -> Exception:
    return OperationalError("SELECT 'Ana'", {}, psycopg.OperationalError(said))


def test_an_outage_is_said_once_for_everybody_and_once_more_when_it_is_over(
    outages: Outages, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(60):
        clock.now = float(second)
        outages.fails("leases", away())
        outages.fails("evidently", away("the connection is\n\tclosed"))
    clock.now = 70.0
    for _ in range(3):
        outages.works("delivery")
    assert caplog.messages == [
        "the database does not answer: OperationalError: connection refused",
        "the database answers again; it was away for 59 s",
    ]


def test_while_some_get_through_and_others_do_not_it_is_one_outage(
    outages: Outages, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for tick in range(50):
        clock.now = float(tick)
        outages.fails("requests", PoolTimeoutError("no connection"))
        outages.works("requests")
    assert caplog.messages == ["requests: the database fails: TimeoutError: no connection"]


def test_what_one_job_is_refused_is_over_when_that_job_gets_it(
    outages: Outages, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    full = errors.DiskFull("could not extend file")
    outages.fails("ingest", full)
    clock.now = 100.0
    outages.works("keys")
    assert caplog.messages == ["ingest: the database fails: DiskFull 53100: could not extend file"]
    outages.works("ingest")
    assert caplog.messages[1:] == ["ingest: the database works again, after 0 s"]


def test_tables_that_are_lacking_are_said_with_what_to_do(
    outages: Outages, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outages.fails("keys", NotMigratedError())
    outages.fails("judge", ProgrammingError("SELECT", {}, errors.UndefinedTable("no table x")))
    clock.now = 9.0
    outages.works("keys")
    assert caplog.messages == [
        "the database has not the tables of this release: run `modelwatch migrate`",
        "the database has the tables of this release now",
    ]


def test_nothing_is_repeated_that_may_hold_a_value(
    outages: Outages, caplog: pytest.LogCaptureFixture
) -> None:
    outages.fails("count", errors.UniqueViolation("Key (id)=(Ana) already exists"))
    outages.fails("count", errors.InvalidTextRepresentation("invalid input: Ana"))
    assert "Ana" not in caplog.text
    assert "UniqueViolation 23505" in caplog.text


def test_who_tries_again_waits_longer_each_time_and_never_for_long() -> None:
    pauses = [pause_after(failures) for failures in range(1, 100)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.5, 5.0)
