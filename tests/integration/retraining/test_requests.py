"""A version has one live request, its event is recorded once, and is delivered until it arrives."""

import base64
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.orm import Session, sessionmaker
from standardwebhooks import Webhook

from service.db.engine import make_engine, make_sessions
from service.errors import UnknownVersionError
from service.registry.tables import Model, Version
from service.retraining.delivery import Target, deliver_due, make_client
from service.retraining.service import handle, request_retraining
from service.retraining.signature import signing_key
from service.retraining.tables import Outbox, RequestWindow, RetrainingRequest

SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
DAY = timedelta(days=1)
START = datetime(2026, 11, 1, tzinfo=UTC)

Sessions = sessionmaker[Session]


def add_version(sessions: Sessions, stage: str = "live") -> tuple[int, int]:
    with sessions.begin() as session:
        model = Model(name="loans", task="binary")
        session.add(model)
        session.flush()
        version = Version(model_id=model.id, name="7", stage=stage)
        session.add(version)
        session.flush()
        return model.id, version.id


def ask_within(
    session: Session, ids: tuple[int, int], day: int = 0, cooldown: timedelta = timedelta(0)
) -> int | None:
    return request_retraining(
        session,
        model_id=ids[0],
        version_id=ids[1],
        model="loans",
        version="7",
        action="retrain",
        reason="the model got worse",
        start=START + day * DAY,
        end=START + (day + 1) * DAY,
        signals=[{"metric": "roc_auc", "value": 0.8, "threshold": 0.89, "n": 5000}],
        cooldown=cooldown,
    )


def ask(sessions: Sessions, ids: tuple[int, int], day: int = 0) -> int | None:
    with sessions.begin() as session:
        return ask_within(session, ids, day)


def count(sessions: Sessions, table: type) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def close(sessions: Sessions, request_id: int | None, state: str) -> None:
    with sessions.begin() as session:
        session.execute(
            update(RetrainingRequest).where(RetrainingRequest.id == request_id).values(state=state)
        )


def test_forty_identical_calls_at_once_open_one_request_and_burn_no_id(
    database_url: str,
) -> None:
    engine = make_engine(database_url, pool=20)
    sessions = make_sessions(engine)
    ids = add_version(sessions)
    barrier = threading.Barrier(20)

    def call(_: int) -> int | None:
        barrier.wait(timeout=20)
        return ask(sessions, ids)

    with ThreadPoolExecutor(20) as pool:
        answers = set(pool.map(call, range(40)))
    assert len(answers) == 1
    assert count(sessions, RetrainingRequest) == 1
    assert count(sessions, Outbox) == 1
    assert count(sessions, RequestWindow) == 1
    with sessions() as session:
        for table in ("retraining_request", "outbox"):
            sequence = text("SELECT last_value FROM pg_sequences WHERE sequencename = :name")
            assert session.scalar(sequence, {"name": f"{table}_id_seq"}) == 1
    engine.dispose()


def test_later_windows_join_the_live_request(sessions: Sessions) -> None:
    ids = add_version(sessions)
    assert len({ask(sessions, ids, day) for day in range(3)}) == 1
    assert count(sessions, RequestWindow) == 3
    assert count(sessions, Outbox) == 1


def test_a_window_opens_one_request_in_its_life_and_a_new_window_another(
    sessions: Sessions,
) -> None:
    ids = add_version(sessions)
    first = ask(sessions, ids)
    close(sessions, first, "dismissed")
    assert ask(sessions, ids) == first
    second = ask(sessions, ids, day=1)
    assert second != first
    assert count(sessions, Outbox) == 2


def test_within_the_cooldown_after_one_was_closed_no_other_opens_for_the_model(
    sessions: Sessions,
) -> None:
    ids = add_version(sessions)
    first = ask(sessions, ids)
    with sessions.begin() as session:
        request = session.get_one(RetrainingRequest, first)
        handle(request, "dismiss", by="ana", note="", at=datetime.now(UTC) - 3 * DAY)

    def again(day: int, cooldown: timedelta) -> int | None:
        with sessions.begin() as session:
            return ask_within(session, ids, day, cooldown=cooldown)

    assert again(1, 4 * DAY) is None
    assert again(0, 4 * DAY) == first
    assert count(sessions, Outbox) == 1
    assert again(1, 2 * DAY) not in (None, first)


def test_a_retired_version_opens_none(sessions: Sessions) -> None:
    ids = add_version(sessions, stage="retired")
    assert ask(sessions, ids) is None
    assert count(sessions, RetrainingRequest) == 0
    with pytest.raises(UnknownVersionError):
        ask(sessions, (ids[0], ids[1] + 1))


def test_what_is_rolled_back_was_never_announced(sessions: Sessions) -> None:
    ids = add_version(sessions)

    with sessions() as session:
        ask_within(session, ids)
        session.flush()
        session.rollback()
    assert (count(sessions, RetrainingRequest), count(sessions, Outbox)) == (0, 0)


class Receiver:
    """A webhook target on loopback that answers what it is told to, and keeps what it got."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.received: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append(({k.lower(): v for k, v in self.headers.items()}, body))
                answers = receiver.answers
                status, headers, content = answers.pop(0) if answers else (204, {}, b"")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                # The sender hangs up on a reply that is longer than it wants to read.
                try:
                    self.wfile.write(content)
                except OSError:
                    self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def target(self) -> Target:
        url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?token=hidden"
        return Target("webhook", url, signing_key(SECRET))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def deliver(sessions: Sessions, target: Target) -> int:
    with make_client() as client:
        return deliver_due(sessions, target, client=client, randomness=random.Random(1))


def event(sessions: Sessions) -> Outbox:
    with sessions() as session:
        return session.scalars(select(Outbox)).one()


def make_due(sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(update(Outbox).values(next_attempt_at=func.now()))


def test_a_delivered_event_verifies_and_is_not_sent_again(
    sessions: Sessions, receiver: Receiver
) -> None:
    request_id = ask(sessions, add_version(sessions))
    assert deliver(sessions, receiver.target) == 1
    assert deliver(sessions, receiver.target) == 0
    headers, body = receiver.received[0]
    document = Webhook(SECRET).verify(body, headers)
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["webhook-id"] == document["id"]
    assert document["data"]["request"] == request_id
    assert document["data"]["signals"][0]["metric"] == "roc_auc"
    assert document["data"]["evidence_url"] == f"/v1/retraining-requests/{request_id}"
    row = event(sessions)
    assert (row.attempts, row.last_status, row.last_error, row.abandoned) == (1, 204, None, False)
    assert row.delivered_at is not None


def test_a_refused_event_is_sent_again_later_with_the_same_id(
    sessions: Sessions, receiver: Receiver
) -> None:
    ask(sessions, add_version(sessions))
    receiver.answers = [(500, {}, b"no\x00t\nnow"), (302, {"Location": "/elsewhere"}, b"")]
    assert deliver(sessions, receiver.target) == 1
    row = event(sessions)
    assert (row.last_status, row.last_error, row.delivered_at) == (500, "no t now", None)
    assert 4 < (row.next_attempt_at - row.created_at).total_seconds() < 15
    assert deliver(sessions, receiver.target) == 0, "it is not due before its time"
    make_due(sessions)
    assert deliver(sessions, receiver.target) == 1
    assert event(sessions).last_status == 302, "a redirect is not followed"
    make_due(sessions)
    assert deliver(sessions, receiver.target) == 1
    assert event(sessions).delivered_at is not None
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1
    assert len({body for _, body in receiver.received}) == 1


def test_gone_is_the_end(sessions: Sessions, receiver: Receiver) -> None:
    ask(sessions, add_version(sessions))
    receiver.answers = [(410, {}, b"")]
    deliver(sessions, receiver.target)
    make_due(sessions)
    assert deliver(sessions, receiver.target) == 0
    assert event(sessions).abandoned


def test_the_last_attempt_gives_up(sessions: Sessions, receiver: Receiver) -> None:
    ask(sessions, add_version(sessions))
    with sessions.begin() as session:
        session.execute(update(Outbox).values(attempts=10))
    receiver.answers = [(500, {}, b"")]
    assert deliver(sessions, receiver.target) == 1
    assert event(sessions).abandoned


def test_an_event_that_is_too_old_is_not_sent(sessions: Sessions, receiver: Receiver) -> None:
    ask(sessions, add_version(sessions))
    with sessions.begin() as session:
        session.execute(update(Outbox).values(created_at=func.now() - timedelta(days=5)))
    assert deliver(sessions, receiver.target) == 0
    assert receiver.received == []
    assert (event(sessions).abandoned, event(sessions).last_error) == (True, "expired")


def test_an_endless_reply_is_not_read_to_its_end(sessions: Sessions, receiver: Receiver) -> None:
    ask(sessions, add_version(sessions))
    receiver.answers = [(503, {"Retry-After": "3600"}, b"x" * (64 << 20))]
    deliver(sessions, receiver.target)
    row = event(sessions)
    assert row.last_error == "x" * 200
    assert (row.next_attempt_at - row.created_at) > timedelta(minutes=59)


def test_a_target_that_is_away_costs_an_attempt_and_its_address_is_not_kept(
    sessions: Sessions, receiver: Receiver
) -> None:
    ask(sessions, add_version(sessions))
    away = Target("webhook", "http://127.0.0.1:9/hook?token=hidden", signing_key(SECRET))
    assert deliver(sessions, away) == 1
    row = event(sessions)
    assert (row.attempts, row.last_status, row.last_error) == (1, None, "ConnectError")


def test_no_transaction_is_open_while_an_event_is_sent_and_nobody_sends_it_too(
    sessions: Sessions, engine: Engine, receiver: Receiver
) -> None:
    ask(sessions, add_version(sessions))
    seen: list[tuple[int, int]] = []

    def look(_: httpx.Request) -> httpx.Response:
        with sessions() as session:
            others = session.scalar(
                text(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
                )
            )
        seen.append((others or 0, deliver(sessions, receiver.target)))
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(look)) as client:
        deliver_due(sessions, receiver.target, client=client, randomness=random.Random(1))
    assert seen == [(0, 0)]
    assert receiver.received == []


def test_a_sender_that_died_is_followed_by_another_when_its_lease_ends(
    sessions: Sessions, receiver: Receiver
) -> None:
    ask(sessions, add_version(sessions))

    def die(_: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    with (
        httpx.Client(transport=httpx.MockTransport(die)) as client,
        pytest.raises(KeyboardInterrupt),
    ):
        deliver_due(sessions, receiver.target, client=client, randomness=random.Random(1))
    assert deliver(sessions, receiver.target) == 0, "the lease of the dead holds it"
    make_due(sessions)
    assert deliver(sessions, receiver.target) == 1
    assert event(sessions).attempts == 2
