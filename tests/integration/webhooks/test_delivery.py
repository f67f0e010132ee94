"""What is recorded is delivered until it arrives, to each webhook on its own."""

import contextlib
import json
import random
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import OperationalError
from standardwebhooks import Webhook, WebhookVerificationError

from service.clock import now
from service.db.outage import Outages
from service.registry.tables import Webhook as Row
from service.webhooks import delivery, repository
from service.webhooks.addresses import Allowed, Destination
from service.webhooks.delivery import LEASE, Courier
from service.webhooks.sending import Reply, Sender, trusted
from service.webhooks.service import delete_webhook, ping, replay
from service.webhooks.signature import generated_secret
from service.webhooks.tables import Outbox
from tests.integration.webhooks.receiver import (
    KEY,
    SECRET,
    Receiver,
    Sessions,
    add_webhook,
    an_event,
    courier,
    deliver,
    deliveries,
    make_due,
    receiving,
    tell,
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@contextlib.contextmanager
def running(by: Courier) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=by.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for sending in threading.enumerate():
            if sending.name == "webhook":
                sending.join(60)


def test_a_delivered_event_verifies_and_is_not_sent_again(
    sessions: Sessions, receiver: Receiver
) -> None:
    add_webhook(sessions, "ci", receiver.url, headers={"Authorization": "Bearer t"})
    assert tell(sessions) == 1
    assert tell(sessions) == 0, "the same event is recorded once"
    assert deliver(sessions)
    assert not deliver(sessions)
    headers, body = receiver.received[0]
    assert Webhook(SECRET).verify(body, headers) == an_event()
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["authorization"] == "Bearer t"
    assert headers["webhook-id"] == "event-1"
    row = deliveries(sessions)[0]
    assert (row.attempts, row.last_status, row.last_error, row.abandoned) == (1, 204, None, False)
    assert row.delivered_at is not None


def test_only_those_are_told_that_listen_to_the_kind_and_the_model_and_are_named(
    sessions: Sessions,
) -> None:
    add_webhook(sessions, "all")
    add_webhook(sessions, "loans", models=["loans"])
    add_webhook(sessions, "prices", models=["prices"])
    add_webhook(sessions, "incidents", events=["incident.opened"])
    assert tell(sessions, 1) == 2
    assert tell(sessions, 2, named=["loans", "prices", "gone"]) == 1
    assert tell(sessions, 3, named=[]) == 0


def test_a_refused_event_is_sent_again_later_with_the_same_id_and_body(
    sessions: Sessions, receiver: Receiver
) -> None:
    add_webhook(sessions, "ci", receiver.url)
    tell(sessions)
    receiver.answers = [
        (500, {}, b"root:x:0:0"),
        (404, {}, b""),
        (302, {"Location": "/elsewhere"}, b""),
    ]
    for status in (500, 404, 302):
        assert deliver(sessions)
        row = deliveries(sessions)[0]
        assert (row.last_status, row.last_error, row.delivered_at) == (status, "refused", None)
        assert not deliver(sessions), "it is not due before its time"
        make_due(sessions)
    assert deliver(sessions)
    assert deliveries(sessions)[0].delivered_at is not None
    assert set(receiver.ids) == {"event-1"}
    assert len({body for _, body in receiver.received}) == 1


def test_a_target_may_ask_for_patience(sessions: Sessions, receiver: Receiver) -> None:
    add_webhook(sessions, "ci", receiver.url)
    tell(sessions)
    receiver.answers = [(503, {"Retry-After": "3600"}, b"x" * (1 << 20))]
    deliver(sessions)
    row = deliveries(sessions)[0]
    assert row.next_attempt_at - row.created_at > timedelta(minutes=59)


def test_a_target_that_is_gone_is_told_nothing_more_until_it_is_put_again(
    sessions: Sessions, receiver: Receiver
) -> None:
    add_webhook(sessions, "ci", receiver.url)
    for number in (1, 2):
        tell(sessions, number)
    receiver.answers = [(410, {}, b"")]
    assert deliver(sessions)
    tell(sessions, 3)
    make_due(sessions)
    assert not deliver(sessions)
    assert [row.abandoned for row in deliveries(sessions)] == [True, True, True]
    assert [row.last_error for row in deliveries(sessions)] == ["refused", "disabled", "disabled"]
    add_webhook(sessions, "ci", receiver.url)
    tell(sessions, 4)
    assert deliver(sessions)
    with sessions.begin() as session:
        replay(session, "ci", deliveries(sessions)[1].id)
    assert deliver(sessions)
    assert receiver.ids == ["event-1", "event-4", "event-2"]


def test_the_tenth_attempt_is_the_last_and_a_replay_begins_anew(
    sessions: Sessions, receiver: Receiver
) -> None:
    add_webhook(sessions, "ci", receiver.url)
    tell(sessions)
    receiver.answers = [(500, {}, b"")] * 11
    for _ in range(10):
        make_due(sessions)
        assert deliver(sessions)
    make_due(sessions)
    assert not deliver(sessions)
    row = deliveries(sessions)[0]
    assert (row.abandoned, row.attempts) == (True, 10)
    with sessions.begin() as session:
        session.execute(update(Outbox).values(created_at=func.now() - timedelta(days=9)))
        replay(session, "ci", row.id)
    assert deliver(sessions)
    assert not deliveries(sessions)[0].abandoned
    make_due(sessions)
    assert deliver(sessions)
    assert deliveries(sessions)[0].delivered_at is not None


def test_an_event_that_is_too_old_is_not_sent(sessions: Sessions, receiver: Receiver) -> None:
    add_webhook(sessions, "ci", receiver.url)
    tell(sessions)
    with sessions.begin() as session:
        session.execute(update(Outbox).values(created_at=func.now() - timedelta(days=5)))
    assert not deliver(sessions)
    assert receiver.received == []
    row = deliveries(sessions)[0]
    assert (row.abandoned, row.last_error) == (True, "expired")


def test_a_run_that_exists_has_been_told_before(sessions: Sessions, receiver: Receiver) -> None:
    add_webhook(sessions, "af", receiver.url, preset="airflow3")
    add_webhook(sessions, "ci", receiver.url)
    tell(sessions)
    receiver.answers = [(409, {}, b""), (409, {}, b"")]
    assert deliver(sessions)
    assert deliver(sessions)
    assert [row.delivered_at is not None for row in deliveries(sessions)] == [True, False]
    assert json.loads(receiver.received[0][1])["dag_run_id"] == "event-1"


def test_an_address_that_is_not_allowed_any_more_is_not_reached(
    sessions: Sessions, receiver: Receiver
) -> None:
    add_webhook(sessions, "ci", receiver.url)
    tell(sessions)
    assert courier(sessions, Sender(Allowed(), trusted())).deliver_one()
    assert deliveries(sessions)[0].last_error == "forbidden-address"
    assert receiver.received == []


def test_a_secret_under_another_key_is_said_to_be_unreadable(sessions: Sessions) -> None:
    add_webhook(sessions, "ci")
    tell(sessions)
    sender = Sender(Allowed(), trusted())
    assert Courier(sessions, sender, b"o" * 32).deliver_one()
    assert deliveries(sessions)[0].last_error == "unreadable-secret"


def test_for_a_day_a_replaced_secret_signs_beside_the_new_one(
    sessions: Sessions, receiver: Receiver
) -> None:
    new = generated_secret()
    add_webhook(sessions, "ci", receiver.url)
    add_webhook(sessions, "ci", receiver.url, secret=new)
    for number, later in ((1, timedelta(0)), (2, timedelta(hours=25))):
        tell(sessions, number)
        at = now() + later
        courier(sessions, now=lambda at=at: at).deliver_one()
    headers, body = receiver.received[0]
    assert Webhook(SECRET).verify(body, headers) == Webhook(new).verify(body, headers)
    headers, body = receiver.received[1]
    assert len(headers["webhook-signature"].split()) == 1
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body, headers)


def test_no_transaction_is_open_while_an_event_is_sent_and_nobody_sends_it_too(
    sessions: Sessions,
) -> None:
    add_webhook(sessions, "ci")
    tell(sessions, 1)
    tell(sessions, 2)
    seen: list[tuple[int, bool]] = []

    class Looks:
        def post(self, _to: Destination, _headers: Mapping[str, str], _body: bytes) -> Reply:
            with sessions() as session:
                others = session.scalar(
                    text(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                        " AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
                    )
                )
            seen.append((others or 0, deliver(sessions)))
            return Reply(200, None)

    assert courier(sessions, Looks()).deliver_one()
    assert seen == [(0, False)], "neither this event nor another goes to the webhook meanwhile"
    assert deliver(sessions)


def test_a_sender_that_died_is_followed_by_another_when_its_lease_ends(
    sessions: Sessions, receiver: Receiver
) -> None:
    add_webhook(sessions, "ci", receiver.url)
    tell(sessions)
    with sessions.begin() as session:
        assert repository.claim_delivery(session, LEASE) is not None
    assert not deliver(sessions), "the lease of the dead holds it"
    with sessions.begin() as session:
        session.execute(update(Row).values(busy_until=func.now()))
    make_due(sessions)
    assert deliver(sessions)
    assert deliveries(sessions)[0].attempts == 2


@pytest.mark.parametrize("status", [204, 500])
def test_one_that_comes_back_after_its_lease_changes_nothing(
    sessions: Sessions, receiver: Receiver, status: int
) -> None:
    add_webhook(sessions, "ci", receiver.url)
    tell(sessions)
    with sessions.begin() as session:
        late = repository.claim_delivery(session, timedelta(0))
    assert late is not None
    receiver.answers = [(status, {}, b"")]
    assert deliver(sessions)
    with sessions.begin() as session:
        assert not repository.settle_delivery(
            session, late, status=418, error="refused", retry_in=timedelta(1), delivered=False
        )
    row = deliveries(sessions)[0]
    assert (row.last_status, row.delivered_at is None) == (status, status == 500)


def test_webhooks_that_hang_keep_no_other_waiting(sessions: Sessions, receiver: Receiver) -> None:
    with receiving() as hanging:
        hanging.hold.clear()
        for number in range(3):
            add_webhook(sessions, f"hang-{number}", hanging.url)
        add_webhook(sessions, "good", receiver.url)
        for number in range(20):
            tell(sessions, number)
        with running(courier(sessions, slots=4, randomness=random.Random(1))):
            for _ in range(20):
                assert receiver.arrived.acquire(timeout=60)
            assert len(hanging.received) == 3, "one at a time to each"
            hanging.hold.set()
    assert len(set(receiver.ids)) == 20


def test_several_couriers_send_each_event_once(sessions: Sessions, receiver: Receiver) -> None:
    for name in ("a", "b", "c"):
        add_webhook(sessions, name, receiver.url)
    for number in range(10):
        tell(sessions, number)
    with running(courier(sessions, slots=2)), running(courier(sessions, slots=2)):
        for _ in range(30):
            assert receiver.arrived.acquire(timeout=60)
    assert sorted(receiver.ids) == sorted(3 * [f"event-{number}" for number in range(10)])
    with sessions() as session:
        assert session.scalar(select(func.max(Outbox.attempts))) == 1


def test_a_ping_tries_a_webhook(sessions: Sessions, receiver: Receiver) -> None:
    add_webhook(sessions, "ci", receiver.url, events=["incident.closed"])
    with sessions.begin() as session:
        ping(session, "ci", now())
    assert deliver(sessions)
    headers, body = receiver.received[0]
    assert Webhook(SECRET).verify(body, headers)["type"] == "dev.modelwatch.ping.v1"


def test_a_webhook_that_goes_while_an_event_is_recorded_costs_nobody_anything(
    sessions: Sessions,
) -> None:
    add_webhook(sessions, "ci")
    with sessions.begin() as judging:
        webhook = repository.find_webhook(judging, "ci")
        with sessions.begin() as session:
            delete_webhook(session, "ci")
        assert repository.enqueue(judging, webhook, an_event()) is None
    assert deliveries(sessions) == []


def test_the_database_keeps_no_secret_in_the_clear(sessions: Sessions) -> None:
    add_webhook(
        sessions, "ci", "https://a.example/?token=s3cret", headers={"Authorization": "s3cret"}
    )
    with sessions() as session:
        row = session.execute(text("SELECT webhook::text FROM webhook")).scalar_one()
    assert "s3cret" not in row
    assert b"s3cret".hex() not in row
    assert SECRET not in row
    assert KEY.hex() not in row


def test_a_database_that_is_away_for_a_while_stops_nothing(
    sessions: Sessions,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "DATABASE", Outages())
    add_webhook(sessions, "ci", receiver.url)
    away = threading.Semaphore(3)

    def begin() -> Any:
        if away.acquire(blocking=False):
            raise OperationalError(None, None, psycopg.OperationalError("gone"))
        return sessions.begin()

    by = Courier(
        SimpleNamespace(begin=begin),  # type: ignore[arg-type]  # all that it does with them
        Sender(Allowed.read("127.0.0.1"), trusted()),
        KEY,
    )
    tell(sessions)
    with running(by):
        assert receiver.arrived.acquire(timeout=60)
    assert caplog.text.count("the database does not answer: OperationalError: gone") == 1
    assert deliveries(sessions)[0].delivered_at is not None
