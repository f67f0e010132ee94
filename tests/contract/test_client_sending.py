"""What the client does about each answer of a server, and where there is none."""

import logging
import socket
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

import modelwatch.sender
from modelwatch import LostRecordsError
from modelwatch.sender import LONGEST_DELAY, Sender
from modelwatch.transport import Answer as Said
from modelwatch.transport import Transport
from tests.contract.scripted import (
    Answer,
    Document,
    ScriptedServer,
    a_monitor,
    accept,
    hang_up,
    refuse,
    until,
)


def answer(status: int, content: Document | bytes) -> Callable[[Document], Answer]:
    return lambda _document: (status, {}, content)


@pytest.mark.parametrize("status", [402, 404, 405, 409, 410, 411, 415, 422, 431, 451])
def test_no_other_fault_of_a_request_is_sent_again(server: ScriptedServer, status: int) -> None:
    server.script.append(refuse(status))
    monitor = a_monitor(server)
    monitor.log({"x": 1}, 0)
    with pytest.raises(LostRecordsError, match=f"{status} not now"):
        monitor.flush(10)
    monitor.log({"x": 2}, 0)
    assert monitor.flush(60)
    assert len(server.headers) == 2
    assert monitor.stats()["rejected"] == 1


@pytest.mark.parametrize("status", [404, 409, 415, 422])
def test_a_refusal_is_told_by_the_name_of_its_problem(server: ScriptedServer, status: int) -> None:
    problem = {"type": "http://host/problems/unknown-version", "status": status}
    server.script.append(answer(status, problem))
    monitor = a_monitor(server)
    monitor.log({"x": 1}, 0)
    with pytest.raises(LostRecordsError, match=r"1 record was refused: unknown-version \(1\)"):
        monitor.flush(10)


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (404, b"default backend - 404"),
        (405, b"<html>Not Allowed</html>"),
        (302, b""),
        (301, b"<html>Moved</html>"),
        (200, b"<html>Welcome</html>"),
        (200, {"ok": True}),
        (200, {"accepted": "all", "duplicates": 0}),
        (200, b"[" * 100_000),
        (204, b""),
    ],
)
def test_an_answer_that_is_not_modelwatch_s_costs_no_record(
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    status: int,
    content: Any,
) -> None:
    monkeypatch.setattr(modelwatch.sender, "LOCKED_OUT_DELAY", 0.05)
    server.script.extend([answer(status, content)] * 2)
    monitor = a_monitor(server)
    with caplog.at_level(logging.WARNING, "modelwatch"):
        monitor.log({"x": 1}, 0)
        assert monitor.flush(60)
    assert monitor.stats()["accepted"] == 1
    assert f"answers {status}, and is not modelwatch" in caplog.text


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_server_says_when_to_come_back(server: ScriptedServer, form: str) -> None:
    told: list[float] = []

    def later(document: Document) -> Answer:
        seconds = form == "seconds"
        told.append(time.time() + 1 if seconds else int(time.time()) + 2)
        wait = "1" if seconds else formatdate(told[0], usegmt=True)
        return refuse(503, **{"Retry-After": wait})(document)

    server.script.append(later)
    monitor = a_monitor(server)
    monitor.log({"x": 1}, 0)
    # A flush is no reason to come back earlier.
    monitor.flush(0.2)
    assert monitor.flush(60)
    _, second = server.at
    assert time.time() - (time.monotonic() - second) > told[0] - 0.05


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3.0), ("-1", 0.0), ("nan", 0.0), ("soon", 0.0), ("", 0.0), (None, 0.0),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("Wed, 99 Oct 2015", 0.0)],
)  # fmt: skip
def test_a_time_to_come_back_that_makes_no_sense_is_none(text: str | None, seconds: float) -> None:
    assert modelwatch.transport._seconds(text) == seconds


def a_sender(**options: Any) -> Sender:
    parts: Any = None
    transport = Transport("http://127.0.0.1:1", None, 1)
    return Sender(transport, parts, parts, parts, (), batch=1, interval=1, **options)


def test_waits_before_a_retry_are_full_jitter_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = a_sender()
    monkeypatch.setattr(sender, "_counts", {"retries": 0})
    monkeypatch.setattr(sender, "_complaints", type("Silent", (), {"say": lambda *_: None})())
    waits = []
    for attempt in range(200):
        wait = sender._back_off(Said(503))
        assert 0 <= wait <= min(0.2 * 2**attempt, LONGEST_DELAY)
        waits.append(wait)
    late = waits[10:]
    # Any length is as likely as another: none of the quarters stays empty.
    assert {int(4 * wait / LONGEST_DELAY) for wait in late} == {0, 1, 2, 3}
    assert sender._back_off(Said(503, retry_after=1e9)) == 300


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_a_batch_that_is_too_large_is_halved_until_it_fits(
    server: ScriptedServer, limit: int
) -> None:
    def at_most(document: Document) -> Answer:
        return (accept if len(document["records"]) <= limit else refuse(413))(document)

    server.script.extend([at_most] * 100)
    monitor = a_monitor(server, interval=0.2)
    made = [monitor.log({"x": row}, 0) for row in range(20)]
    assert monitor.flush(60)
    assert [record["prediction_id"] for record in server.records()] == made


def test_a_record_that_is_too_large_by_itself_is_refused_and_the_rest_is_sent(
    server: ScriptedServer,
) -> None:
    def no_long_texts(document: Document) -> Answer:
        long = any(len(record["features"]["x"]) > 10 for record in document["records"])
        return (refuse(413) if long else accept)(document)

    server.script.extend([no_long_texts] * 100)
    monitor = a_monitor(server, interval=0.2)
    for row in range(10):
        monitor.log({"x": "long" * 10 if row == 3 else "short"}, 0)
    with pytest.raises(LostRecordsError, match="413 not now"):
        monitor.flush(20)
    assert monitor.stats()["accepted"] == 9


def test_a_record_that_breaks_the_server_costs_itself_only(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelwatch.sender, "LONGEST_DELAY", 0.002)

    def broken_by_five(document: Document) -> Answer:
        bad = any(record["features"]["x"] == 5 for record in document["records"])
        return (refuse(500) if bad else accept)(document)

    server.script.extend([broken_by_five] * 200)
    monitor = a_monitor(server, interval=0.2)
    for row in range(8):
        monitor.log({"x": row}, 0)
    with pytest.raises(LostRecordsError, match="500 not now"):
        monitor.flush(30)
    assert sorted(record["features"]["x"] for record in server.records()) == [0, 1, 2, 3, 4, 6, 7]


@pytest.mark.parametrize("status", [503, 429])
def test_a_server_that_is_away_for_long_costs_no_record(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(modelwatch.sender, "LONGEST_DELAY", 0.002)
    server.script.extend([refuse(status)] * 20)
    monitor = a_monitor(server)
    monitor.log({"x": 1}, 0)
    assert monitor.flush(60)
    assert (monitor.stats()["accepted"], monitor.stats()["retries"]) == (1, 20)


def test_bodies_are_bounded_in_rows_and_bytes(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelwatch.sender, "BATCH_BYTES", 10_000)
    monitor = a_monitor(server, interval=0.2, batch=30)
    for row in range(100):
        monitor.log({"x": "a" * (600 if row < 50 else 1)}, 0)
    assert monitor.flush(60)
    rows = [len(body["records"]) for _, body in server.bodies]
    assert sum(rows) == 100
    assert max(rows[:3]) < 17
    assert max(rows) <= 30


def test_all_batches_go_over_one_connection(server: ScriptedServer) -> None:
    monitor = a_monitor(server)
    for row in range(5):
        monitor.log({"x": row}, 0)
        assert monitor.flush(60)
    assert len(server.bodies) == 5
    assert server.connections == 1


def test_a_connection_that_was_closed_while_idle_is_no_error_and_nothing_is_sent_twice(
    server: ScriptedServer,
) -> None:
    server.script.extend([lambda document: (200, {"Connection": "close"}, accept(document)[2])] * 3)
    monitor = a_monitor(server)
    for row in range(5):
        monitor.log({"x": row}, 0)
        assert monitor.flush(60)
        time.sleep(0.02)
    assert [record["features"]["x"] for record in server.records()] == [0, 1, 2, 3, 4]
    assert (monitor.stats()["retries"], monitor.stats()["duplicates"]) == (0, 0)


class Once(threading.Thread):
    """Answers one request on each connection as if there would be more, and closes it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.bodies: list[bytes] = []
        self.closed = threading.Event()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                head, _, body = connection.recv(65_536).partition(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                while len(body) < length:
                    body += connection.recv(65_536)
                self.bodies.append(body)
                content = b'{"accepted": 1, "duplicates": 0}'
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content))
                connection.sendall(content)
            self.closed.set()


def test_a_connection_that_the_server_drops_without_a_word_is_opened_again() -> None:
    server = Once()
    server.start()
    monitor = modelwatch.Monitor(
        "loans", "7", url=f"http://127.0.0.1:{server.listener.getsockname()[1]}", interval=0.01
    )
    for row in range(3):
        server.closed.clear()
        monitor.log({"x": row}, 0)
        assert monitor.flush(60)
        assert server.closed.wait(60)
    server.listener.close()
    assert len(server.bodies) == 3
    assert monitor.stats()["retries"] == 0


def test_a_connection_that_breaks_in_the_middle_is_a_retry(server: ScriptedServer) -> None:
    server.script.extend([hang_up, hang_up])
    monitor = a_monitor(server)
    monitor.log({"x": 1}, 0)
    assert monitor.flush(60)
    assert monitor.stats()["accepted"] == 1
    assert monitor.stats()["retries"] == 2


def test_labels_and_predictions_do_not_wait_for_each_other_s_refusals(
    server: ScriptedServer,
) -> None:
    monitor = a_monitor(server, interval=0.2)
    server.script.append(refuse(404))
    made = monitor.log({"x": 1}, 0)
    monitor.label(made, 1)
    with pytest.raises(LostRecordsError):
        monitor.flush(10)
    assert [path for path, _ in server.bodies] == ["/v1/labels"]


def test_small_batches_are_not_sent_one_by_one(server: ScriptedServer) -> None:
    monitor = a_monitor(server, interval=0.3)
    began = time.monotonic()
    for row in range(100):
        monitor.log({"x": row}, 0)
        time.sleep(0.001)
    assert monitor.flush(60)
    assert len(server.bodies) <= 2 + (time.monotonic() - began) / 0.3


def test_a_full_batch_does_not_wait_for_its_time(server: ScriptedServer) -> None:
    monitor = a_monitor(server, interval=600, batch=50)
    for row in range(50):
        monitor.log({"x": row}, 0)
    until(lambda: len(server.records()) >= 50)
    assert len(server.records()) == 50


def test_flush_has_the_next_try_at_once(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelwatch.sender, "FIRST_DELAY", 3_600.0)
    server.script.append(refuse(503))
    monitor = a_monitor(server)
    monitor.log({"x": 1}, 0)
    until(lambda: server.at)
    assert monitor.flush(60)


def test_flush_is_done_when_what_was_logged_before_it_is_sent(server: ScriptedServer) -> None:
    monitor = a_monitor(server, batch=10)
    stop = threading.Event()

    def log_on() -> None:
        while not stop.wait(0.0005):
            monitor.log({"x": 1}, 0)

    logging_on = threading.Thread(target=log_on)
    logging_on.start()
    try:
        assert monitor.flush(60)
    finally:
        stop.set()
        logging_on.join()
