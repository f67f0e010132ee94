"""Asking Alertmanager: the evidence follows it, and whatever it does, it is asked again."""

import gzip
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from service.errors import UnknownVersionError
from service.retraining.polling import MOST_BYTES
from service.retraining.reconciling import FORGOTTEN_AFTER, JOB, Reconciler
from service.retraining.tables import RequestAlert, RetrainingRequest
from service.telemetry import REGISTRY
from tests.clients import TestClient
from tests.integration.retraining.alertmanager import (
    Alertmanager,
    Sessions,
    an_alert,
    as_polled,
    count,
    opened_by,
    requests,
    tell,
)
from tests.integration.seeded import add_request
from tests.system.harness import eventually


def test_reconciling_attaches_what_was_told_too_early_and_ends_what_is_gone(
    client: TestClient, sessions: Sessions, alertmanager: Alertmanager
) -> None:
    reconciler = Reconciler(sessions, alertmanager.url)
    drift = an_alert(1, labels={"action": "watch"})
    tell(client, drift)
    number = add_request(sessions)
    alertmanager.say(
        [as_polled(drift), {"not": "an alert"}, 7, as_polled(an_alert(2, labels={"model": ""}))]
    )
    reconciler.reconcile()
    ((alert,),) = [request["evidence"]["alerts"] for request in requests(client)]
    assert (alert["state"], requests(client)[0]["id"]) == ("firing", number)
    alertmanager.say([])
    reconciler.reconcile()
    assert requests(client)[0]["evidence"]["alerts"][0]["state"] == "firing", "it may come yet"
    with sessions.begin() as session:
        earlier = datetime.now(UTC) - FORGOTTEN_AFTER - timedelta(seconds=1)
        session.execute(update(RequestAlert).values(received_at=earlier))
    reconciler.reconcile()
    (request,) = requests(client)
    assert request["evidence"]["alerts"][0]["state"] == "resolved"
    assert request["state"] == "open"


def test_what_was_told_to_have_ended_fires_if_alertmanager_says_so_when_it_is_asked(
    client: TestClient, sessions: Sessions, alertmanager: Alertmanager
) -> None:
    tell(client, an_alert())
    tell(client, an_alert(status="resolved"))
    alertmanager.say([as_polled(an_alert())])
    Reconciler(sessions, alertmanager.url).reconcile()
    assert requests(client)[0]["evidence"]["alerts"][0]["state"] == "firing"


def test_what_alertmanager_says_when_it_is_asked_holds_though_a_clock_was_set_back(
    client: TestClient, sessions: Sessions, alertmanager: Alertmanager
) -> None:
    ahead = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
    tell(client, an_alert(startsAt=ahead))
    tell(client, an_alert(startsAt=ahead, status="resolved", endsAt=ahead))
    alertmanager.say([as_polled(an_alert(startsAt=datetime.now(UTC).isoformat()))])
    Reconciler(sessions, alertmanager.url).reconcile()
    assert requests(client)[0]["evidence"]["alerts"][0]["state"] == "firing"


def test_an_answer_that_was_on_its_way_when_the_end_was_told_is_old(
    client: TestClient, sessions: Sessions, alertmanager: Alertmanager
) -> None:
    tell(client, an_alert())
    alertmanager.say([as_polled(an_alert())])
    alertmanager.before_it_answers = lambda: tell(client, an_alert(status="resolved"))
    Reconciler(sessions, alertmanager.url).reconcile()
    assert requests(client)[0]["evidence"]["alerts"][0]["state"] == "resolved"


def test_a_silenced_alert_asks_for_nothing(
    client: TestClient, sessions: Sessions, alertmanager: Alertmanager
) -> None:
    alertmanager.say([as_polled(an_alert(), "suppressed")])
    Reconciler(sessions, alertmanager.url).reconcile()
    assert count(sessions, RetrainingRequest) == 0
    alertmanager.say([as_polled(an_alert())])
    Reconciler(sessions, alertmanager.url).reconcile()
    assert count(sessions, RetrainingRequest) == 1


def test_an_alert_that_alertmanager_has_not_looked_at_since_its_start_may_be_silenced(
    client: TestClient, sessions: Sessions, alertmanager: Alertmanager
) -> None:
    alertmanager.say([as_polled(an_alert(), "unprocessed")])
    Reconciler(sessions, alertmanager.url).reconcile()
    assert requests(client) == []


def test_who_asks_is_the_one_that_opened_a_request(
    client: TestClient, sessions: Sessions, alertmanager: Alertmanager
) -> None:
    alertmanager.say([as_polled(an_alert())])
    for _ in range(2):
        Reconciler(sessions, alertmanager.url).reconcile()
    assert [request["state"] for request in requests(client)] == ["open"]
    assert opened_by(client) == ["reconciler"]


def test_an_alertmanager_may_name_as_many_versions_as_an_answer_holds(
    client: TestClient, sessions: Sessions, alertmanager: Alertmanager
) -> None:
    least = as_polled(an_alert(annotations={}))
    others = [{**least, "labels": {"model": "m", "model_version": str(n)}} for n in range(12_000)]
    alertmanager.say([*others, as_polled(an_alert())])
    Reconciler(sessions, alertmanager.url).reconcile()
    assert len(requests(client)) == 1


@contextmanager
def reconciling(
    sessions: Sessions, url: str, seconds: float = 10.0
) -> Iterator[Callable[[str, float], None]]:
    """Reconcile all the time; yield what waits until so many more rounds have ended so."""
    stop = threading.Event()
    reconciler = Reconciler(sessions, url, interval=0.01, seconds=seconds)
    thread = threading.Thread(target=reconciler.run, args=(stop,))
    before = {outcome: ended(outcome) for outcome in ("done", "error")}

    def wait(outcome: str, rounds: float) -> None:
        eventually(
            lambda: ended(outcome) >= before[outcome] + rounds,
            seconds=60,
            message=f"no round ended so: {outcome}",
        )

    thread.start()
    try:
        yield wait
        assert thread.is_alive()
    finally:
        stop.set()
        thread.join(timeout=60)
    assert not thread.is_alive(), "it does not stop"


def ended(outcome: str) -> float:
    names = {"job_name": JOB, "outcome": outcome}
    return REGISTRY.get_sample_value("modelwatch_job_runs_total", names) or 0.0


PACKED = gzip.compress(b"[" + b" " * (MOST_BYTES << 1) + b"]")


@pytest.mark.parametrize(
    ("answer", "headers"),
    [
        *((body, {}) for body in (b"", b"{}", b"<html>", b"[[[[", b"null")),
        (PACKED, {"Content_Encoding": "gzip"}),
        (b"[" + b" " * MOST_BYTES + b"]", {}),
    ],
    ids=["nothing", "object", "page", "nested", "null", "packed", "long"],
)
def test_an_alertmanager_that_talks_nonsense_ends_no_alert(
    client: TestClient,
    sessions: Sessions,
    alertmanager: Alertmanager,
    answer: bytes,
    headers: dict[str, str],
) -> None:
    tell(client, an_alert())
    with sessions.begin() as session:
        session.execute(update(RequestAlert).values(received_at=datetime(2020, 1, 1, tzinfo=UTC)))
    alertmanager.say(answer, **headers)
    with reconciling(sessions, alertmanager.url) as wait:
        wait("error", 2)
        assert requests(client)[0]["evidence"]["alerts"][0]["state"] == "firing"
        assert alertmanager.asked[0]["accept-encoding"] == "identity"
        alertmanager.say([])
        wait("done", 1)
    assert requests(client)[0]["evidence"]["alerts"][0]["state"] == "resolved"


@pytest.mark.parametrize(
    "first",
    [(), (b"HTTP/1.1 200 OK\r\nX-Slow: ",), (b"HTTP/1.1 200 OK\r\n\r\n[",)],
    ids=["status", "headers", "body"],
)
def test_an_alertmanager_that_drips_holds_nobody(
    sessions: Sessions, alertmanager: Alertmanager, first: tuple[bytes, ...]
) -> None:
    # Each drop comes in time, and the answer never.
    alertmanager.drip(*first, drop=b" " if first else b"H")
    with reconciling(sessions, alertmanager.url, seconds=0.3) as wait:
        wait("error", 2)
        alertmanager.say([])
        wait("done", 1)


@pytest.mark.parametrize("error", [UnknownVersionError(), RuntimeError("nobody thought of it")])
def test_whatever_fails_is_told_once_and_counted_and_the_next_round_comes(
    client: TestClient,
    sessions: Sessions,
    alertmanager: Alertmanager,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    def fail(*_: object) -> None:
        raise error

    alertmanager.say([as_polled(an_alert())])
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr("service.retraining.reconciling.receive_alerts", fail)
        with reconciling(sessions, alertmanager.url) as wait:
            wait("error", 3)
            patched.undo()
            wait("done", 1)
    told = ["alerts cannot be reconciled", "alerts are reconciled again"]
    assert [record.message for record in caplog.records] == told
    last = "modelwatch_job_last_success_timestamp_seconds"
    assert REGISTRY.get_sample_value(last, {"job_name": JOB})
    assert len(requests(client)) == 1


def test_an_alertmanager_behind_a_password_is_asked_with_it(
    client: TestClient, sessions: Sessions, alertmanager: Alertmanager
) -> None:
    alertmanager.say([as_polled(an_alert())])
    Reconciler(sessions, alertmanager.url.replace("//", "//ana:p%40ss@")).reconcile()
    assert alertmanager.asked[0]["authorization"] == "Basic YW5hOnBAc3M="
    assert len(requests(client)) == 1
