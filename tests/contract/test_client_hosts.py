"""Where ``log`` is called: signal handlers, finalisers, threads, event loops, stored models."""

import asyncio
import copy
import gc
import logging
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import modelwatch
from modelwatch import LostRecordsError
from tests.contract.scripted import ScriptedServer, a_monitor, until

CLIENT = str(Path(modelwatch.__file__).parents[1])


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals here")
def test_a_signal_handler_may_log_in_the_middle_of_log(server: ScriptedServer) -> None:
    monitor = a_monitor(server, max_rows=10**6)
    seen = 0

    def handle(*_: Any) -> None:
        nonlocal seen
        seen += 1
        monitor.log({"signal": seen}, 0)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        rows = 0
        until = time.monotonic() + 60
        while seen < 200 and time.monotonic() < until:
            monitor.log({"x": rows}, 0)
            rows += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen >= 200
    assert monitor.flush(60)
    stats = monitor.stats()
    assert stats["logged"] == stats["accepted"] == rows + seen


def test_a_finaliser_may_log_whenever_it_runs(server: ScriptedServer) -> None:
    monitor = a_monitor(server)

    class Logging:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            monitor.log({"finalised": 1}, 0)

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(50):
            Logging()
            monitor.log({"x": [[1.0]], "y": {"a": [2]}}, 0)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert monitor.flush(60)
    assert monitor.stats()["accepted"] == 100


def test_many_threads_may_log_and_each_record_is_counted_once(server: ScriptedServer) -> None:
    monitor = a_monitor(server)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [
            threading.Thread(target=lambda: [monitor.log({"x": 1}, 0) for _ in range(200)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert monitor.flush(60)
    stats = monitor.stats()
    assert stats["logged"] == stats["accepted"] == 1_600
    assert (stats["queued"], stats["queued_bytes"]) == (0, 0)


def without_threads(fault: type[Exception]) -> Callable[[threading.Thread], None]:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("modelwatch"):
            message = "can't start new thread"
            raise fault(message)
        start(thread)

    return refuse


def test_where_no_thread_can_be_started_flush_sends(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = a_monitor(server)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "modelwatch"):
        patch.setattr(threading.Thread, "start", without_threads(RuntimeError))
        for row in range(3):
            monitor.log({"x": row}, 0)
        assert monitor.stats()["queued"] == 3
        assert monitor.flush(60)
    assert len(server.records()) == 3
    assert "no thread can be started (can't start new thread)" in caplog.text


def test_a_thread_that_could_not_be_started_is_started_later(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelwatch.engine, "START_AGAIN_SECONDS", 0.0)
    monitor = a_monitor(server)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", without_threads(MemoryError))
        monitor.log({"x": 1}, 0)
    monitor.log({"x": 2}, 0)
    until(lambda: len(server.records()) >= 2)
    assert len(server.records()) == 2


def test_a_monitor_in_a_model_that_is_stored_is_made_again_without_its_key(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = a_monitor(server, api_key="mw_secret", sample=0.5)
    monitor.log({"x": 1}, 0, prediction_id="a")
    assert copy.deepcopy({"monitor": monitor})["monitor"] is monitor
    assert copy.copy(monitor) is monitor
    stored = pickle.dumps(monitor)
    assert b"mw_secret" not in stored
    monkeypatch.setenv("MODELWATCH_API_KEY", "mw_other")
    again = pickle.loads(stored)
    assert again.key == ("loans", "7")
    for row in range(20):
        again.log({"x": row}, 0, prediction_id=f"{row}")
    assert again.flush(60)
    assert 0 < again.stats()["unsampled"] < 20
    # The first one may send last.
    assert "Bearer mw_other" in {headers["Authorization"] for headers in server.headers}


@pytest.mark.parametrize("fault", [SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_ends_other_threads_does_not_end_the_sender(
    server: ScriptedServer, fault: type[BaseException]
) -> None:
    class Ending:
        def tolist(self) -> int:
            raise fault

    def redact(record: dict[str, Any]) -> dict[str, Any]:
        if record["prediction"] == 1:
            raise fault
        return record

    monitor = a_monitor(server, redact=redact)
    monitor.log({"x": Ending()}, 0)
    monitor.log({"x": 1}, 1)
    monitor.log({"x": 2}, 0)
    with pytest.raises(LostRecordsError) as lost:
        monitor.flush(10)
    assert lost.value.counts == {"unserialisable": 1, "unredacted": 1}
    assert [record["features"] for record in server.records()] == [{"x": 2}]


def test_a_key_that_was_read_with_its_line_is_sent_without_it(server: ScriptedServer) -> None:
    monitor = a_monitor(server, api_key="mw_key\n")
    monitor.log({"x": 1}, 0)
    assert monitor.flush(60)
    assert server.headers[0]["Authorization"] == "Bearer mw_key"


def test_a_host_with_an_event_loop_logs_in_it(server: ScriptedServer) -> None:
    monitor = a_monitor(server)

    async def serve(row: int) -> str:
        await asyncio.sleep(0)
        return monitor.log({"x": row}, 0)

    async def main() -> list[str]:
        return await asyncio.gather(*(serve(row) for row in range(50)))

    made = asyncio.run(main())
    assert monitor.flush(60)
    assert {record["prediction_id"] for record in server.records()} == set(made)


def test_a_monitor_that_its_host_lets_go_of_sends_what_it_has_and_ends_its_thread(
    server: ScriptedServer,
) -> None:
    def job() -> None:
        a_monitor(server, interval=0.3).log({"x": 1}, 0)

    before = set(threading.enumerate())
    job()
    gc.collect()
    until(lambda: not senders(before))
    assert len(server.records()) == 1
    assert not senders(before)


def senders(but: set[threading.Thread]) -> list[threading.Thread]:
    threads = set(threading.enumerate()) - but
    return [thread for thread in threads if thread.name == "modelwatch-sender"]


def test_importing_it_costs_little_and_the_thread_imports_nothing(server: ScriptedServer) -> None:
    heavy = {"ssl", "http.client", "email", "sqlite3", "hashlib", "asyncio", "multiprocessing"}
    code = (
        "import sys, modelwatch\n"
        "print(*sys.modules)\n"
        f"monitor = modelwatch.Monitor('loans', '7', url={server.url!r}, interval=0.01)\n"
        "before = set(sys.modules)\n"
        "monitor.log({'x': 1.5, 'y': float('nan')}, 0, score=.5)\n"
        "assert monitor.flush(60)\n"
        "print(*set(sys.modules) - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": CLIENT},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported, in_the_thread = done.stdout.split("\n")[:2]
    assert not heavy & set(imported.split())
    assert in_the_thread == ""
