"""What ``log`` and ``label`` promise their host: no harm, and a count for every record."""

import asyncio
import contextlib
import copy
import gc
import inspect
import json
import logging
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import types
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

import modelwatch
from modelwatch import LostRecordsError, Monitor
from modelwatch.sampling import is_sampled
from tests.contract.scripted import ScriptedServer, a_monitor

NOWHERE = "http://127.0.0.1:1"
CLIENT = str(Path(modelwatch.__file__).parents[1])


class Hostile:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise OSError(name)

    def __str__(self) -> str:
        raise OSError

    __repr__ = __hash__ = __bool__ = __len__ = __iter__ = __eq__ = __str__  # type: ignore[assignment]  # all alike


class HostileError(Exception):
    def __str__(self) -> str:
        raise OSError

    __repr__ = __str__


class Endless(dict[str, Any]):
    def __iter__(self) -> Iterator[str]:
        raise MemoryError

    def keys(self) -> Any:
        raise HostileError


class Unlike(np.ndarray[Any, Any]):
    def copy(self, *_: Any, **__: Any) -> Any:
        raise HostileError

    def tolist(self) -> Any:
        raise RecursionError


def circle() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["again"] = [found]
    return found


def deep() -> list[Any]:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


HOSTILE: dict[str, Callable[[], Any]] = {
    "hostile": Hostile,
    "endless": Endless,
    "circle": circle,
    "deep": deep,
    "object": object,
    "bytes": lambda: b"bytes",
    "set": lambda: {1, 2},
    "complex": lambda: 1j,
    "surrogate": lambda: "\ud800",
    "function": lambda: circle,
    "namespace": lambda: types.SimpleNamespace(nbytes=3, dtype=Hostile()),
    "array": lambda: np.zeros((2, 2, 2)).view(Unlike),
    "objects": lambda: np.array([object()]),
    "type": lambda: {Hostile: 1},
    "iterator": lambda: iter([1]),
}
FIELDS = ("features", "prediction", "score", "scores", "weight", "tags", "subject", "attributions")


@pytest.mark.parametrize("kind", HOSTILE)
def test_log_and_label_raise_nothing_whatever_they_are_given(
    server: ScriptedServer, kind: str
) -> None:
    value = HOSTILE[kind]()
    monitor = a_monitor(server, interval=0.05, redact=lambda record: record)
    calls = 0
    for field in (*FIELDS, "prediction_id", "ts"):
        given: dict[str, Any] = {"features": {"x": 1}, "prediction": 0, field: value}
        assert isinstance(monitor.log(**given), str)
        assert isinstance(monitor.log({"x": value, "y": [value], "z": {"a": value}}, 0), str)
        calls += 2
    monitor.label(value, 1)
    monitor.label("id", value)
    monitor.label("id", 1, label_ts=value)
    made = monitor.log({"x": "afterwards"}, 0)
    calls += 4
    with contextlib.suppress(LostRecordsError):
        assert monitor.flush(60)
    # The thread lives, and has an account of each.
    assert made in {record["prediction_id"] for record in server.records()}
    stats = monitor.stats()
    assert stats["logged"] == calls
    assert stats["sent"] + stats["errors"] + stats["unserialisable"] == calls


def test_what_is_meant_to_stop_the_host_stops_it() -> None:
    def interrupt() -> Iterator[tuple[str, int]]:
        raise KeyboardInterrupt
        yield "x", 1

    with pytest.raises(KeyboardInterrupt):
        Monitor("loans", "7", url=NOWHERE).log(interrupt(), 0)  # type: ignore[arg-type]  # as it is


def test_a_handler_of_the_host_s_log_that_raises_harms_nothing(server: ScriptedServer) -> None:
    class Raising(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            raise OSError

    handler = Raising()
    logging.getLogger("modelwatch").addHandler(handler)
    try:
        monitor = a_monitor(server)
        monitor.log({"x": object()}, 0)
        monitor.log({"x": 1}, 0)
        with pytest.raises(LostRecordsError):
            monitor.flush(10)
    finally:
        logging.getLogger("modelwatch").removeHandler(handler)
    assert len(server.records()) == 1


def test_values_are_written_out_in_the_thread_and_not_in_the_call(server: ScriptedServer) -> None:
    threads = []

    class Watched:
        dtype = None

        def tolist(self) -> int:
            threads.append(threading.current_thread())
            return 1

    monitor = a_monitor(server)
    monitor.log({"x": Watched()}, 0)
    assert monitor.flush(60)
    assert server.records()[0]["features"] == {"x": 1}
    assert threading.current_thread() not in threads
    assert threads


def test_values_of_the_standard_library_numpy_and_pandas_are_sent_as_what_they_mean(
    server: ScriptedServer,
) -> None:
    class Colour(Enum):
        RED = "red"

    row = pd.Series({"a": 1.5, "b": None, "c": pd.NA})
    features = {
        "decimal": Decimal("1.50"),
        "no_decimal": Decimal("NaN"),
        "fraction": Fraction(1, 4),
        "enum": Colour.RED,
        "uuid": UUID(int=7),
        "na": pd.NA,
        "nat": pd.NaT,
        "time": pd.Timestamp("2026-11-20T10:00:00Z"),
        "number": np.float16(0.5),
        "text": np.str_("north"),
        "yes": np.bool_(True),
        "none": np.float64("nan"),
        7: "a name that is none",
    }
    monitor = a_monitor(server)
    monitor.log(features, np.int64(1), score=np.float32(0.5), prediction_id=np.int64(12))  # type: ignore[arg-type]  # what hosts do
    monitor.log(row, 0)  # type: ignore[arg-type]  # what hosts do
    assert monitor.flush(60)
    first, second = server.records()
    assert first["features"] == {
        "decimal": 1.5,
        "no_decimal": None,
        "fraction": 0.25,
        "enum": "red",
        "uuid": str(UUID(int=7)),
        "na": None,
        "nat": None,
        "time": "2026-11-20T10:00:00.000000Z",
        "number": 0.5,
        "text": "north",
        "yes": True,
        "none": None,
        "7": "a name that is none",
    }
    assert (first["prediction"], first["score"], first["prediction_id"]) == (1, 0.5, "12")
    assert second["features"] == {"a": 1.5, "b": None, "c": None}


def test_containers_are_those_at_the_time_of_the_call(server: ScriptedServer) -> None:
    monitor = a_monitor(server, interval=0.2)
    array, items, inner = np.zeros(3), [1, 2], {"a": 1.0}
    monitor.log({"array": array, "items": items}, 0, scores=inner, tags={"t": "x"})
    array += 1
    items.append(3)
    inner["a"] = 2.0
    assert monitor.flush(60)
    (record,) = server.records()
    assert record["features"] == {"array": [0, 0, 0], "items": [1, 2]}
    assert record["scores"] == {"a": 1.0}


ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "numbers": lambda row: {f"f{i}": row + i / 7 for i in range(20)},
    "texts": lambda row: {f"f{i}": f"{row}" * 50 for i in range(10)},
    "vectors": lambda row: {"v": [row + i / 7 for i in range(500)]},
    "arrays": lambda row: {"v": np.full(500, row, np.float32)},
    "scalars": lambda row: {f"f{i}": np.float32(row + i) for i in range(20)},
    "nothing": lambda _row: {},
    "many": lambda row: {f"f{i}": row for i in range(300)},
}


@pytest.mark.parametrize("kind", ROWS)
def test_memory_is_bounded_by_bytes_that_are_not_underestimated(kind: str) -> None:
    make = ROWS[kind]
    monitor = Monitor("loans", "7", url=NOWHERE, max_rows=10**6, max_bytes=4 << 20, interval=600)
    monitor._engine._is_started = True
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    row = 0
    while not monitor.stats()["dropped"]:
        monitor.log(make(row), row, score=0.5)
        row += 1
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert monitor.stats()["queued_bytes"] <= 4 << 20
    assert 0.2 * (4 << 20) < held < 1.25 * (4 << 20)


def test_memory_is_bounded_by_rows_and_the_oldest_go_where_that_is_wanted() -> None:
    monitor = Monitor("loans", "7", url=NOWHERE, max_rows=10, policy="oldest", mode="memory")
    for row in range(25):
        monitor.log({"x": row}, 0)
    assert monitor.stats()["dropped"] == 15
    assert [record["features"]["x"] for record in monitor.records] == list(range(15, 25))


def test_a_sample_is_the_same_in_every_process_and_a_smaller_one_is_part_of_it() -> None:
    ids = [f"prediction-{row}" for row in range(2_000)]
    tenth, half = ({each for each in ids if is_sampled(each, rate)} for rate in (0.1, 0.5))
    code = (
        "from modelwatch.sampling import is_sampled\n"
        "print(*[i for i in range(2000) if is_sampled(f'prediction-{i}', 0.1)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": CLIENT, "PYTHONHASHSEED": "7"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {f"prediction-{row}" for row in done.stdout.split()} == tenth
    assert tenth < half
    # Five standard deviations: which ids there are is fixed.
    assert 130 < len(tenth) < 270
    assert 890 < len(half) < 1_110


def test_a_sampled_row_weighs_as_much_as_those_that_were_left_out() -> None:
    monitor = Monitor("loans", "7", mode="memory", sample=0.25)
    for row in range(400):
        monitor.log({"x": row}, 0, prediction_id=f"p{row}", weight=None if row % 2 else 3.0)
    kept = monitor.records
    stats = monitor.stats()
    assert stats["logged"] == 400 == stats["unsampled"] + len(kept)
    assert {record["weight"] for record in kept} == {4.0, 12.0}
    assert [r["prediction_id"] for r in kept] == [
        f"p{row}" for row in range(400) if is_sampled(f"p{row}", 0.25)
    ]


def test_labels_are_never_sampled_away() -> None:
    # The rate may have been another when the prediction was logged.
    monitor = Monitor("loans", "7", mode="memory", sample=1e-9)
    made = monitor.log({"x": 1}, 0)
    monitor.label(made, 1)
    assert [record.get("label") for record in monitor.records] == [1]


@pytest.mark.parametrize("rate", [0, -0.1, 1.5, float("nan")])
def test_a_rate_that_is_none_is_told_at_once(rate: float) -> None:
    with pytest.raises(ValueError, match="sample is a rate"):
        Monitor("loans", "7", sample=rate)


@pytest.mark.parametrize("name", ["max_rows", "max_bytes", "batch", "interval"])
def test_a_limit_that_would_keep_all_records_back_is_told_at_once(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is a number above 0"):
        Monitor("loans", "7", **{name: 0})  # type: ignore[arg-type]  # any of them


def test_every_option_count_and_variable_is_in_the_readme() -> None:
    page = (Path(__file__).parents[2] / "client" / "README.md").read_text()
    options = set(inspect.signature(Monitor).parameters) - {"model", "version"}
    counts = set(Monitor("loans", "7").stats())
    sources = "".join(path.read_text() for path in Path(modelwatch.__file__).parent.glob("*.py"))
    variables = set(re.findall(r"\bMODELWATCH_[A-Z_]+", sources))
    assert variables >= {"MODELWATCH_URL", "MODELWATCH_SAMPLE", "MODELWATCH_SPOOL"}
    for name in options | counts | variables:
        assert f"`{name}`" in page, name


def test_what_is_redacted_is_seen_neither_by_the_server_nor_by_the_caller_s_thread(
    server: ScriptedServer,
) -> None:
    threads = []

    def redact(record: dict[str, Any]) -> dict[str, Any]:
        threads.append(threading.current_thread())
        record["features"].pop("email")
        record["subject"] = "x"
        return record

    monitor = a_monitor(server, redact=redact)
    features = {"email": "ada@example.org", "income": 1}
    monitor.label(monitor.log(features, 0, subject="ada"), 1)
    assert monitor.flush(60)
    sent = json.dumps(server.records())
    assert "ada" not in sent
    assert server.records()[0]["features"] == {"income": 1}
    assert features == {"email": "ada@example.org", "income": 1}
    assert threading.current_thread() not in threads


@pytest.mark.parametrize("mistake", ["raises", "forgets", "hostile"])
def test_what_could_not_be_redacted_is_lost_and_never_sent(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture, mistake: str
) -> None:
    def redact(record: dict[str, Any]) -> Any:
        if record["features"].get("email") is None:
            return record
        if mistake == "raises":
            raise ValueError(record["features"]["email"])
        if mistake == "hostile":
            raise HostileError
        return None

    monitor = a_monitor(server, redact=redact)
    monitor.log({"email": "ada@example.org"}, 0)
    monitor.log({"income": 1}, 0)
    with (
        caplog.at_level(logging.WARNING, "modelwatch"),
        pytest.raises(LostRecordsError, match="1 not sent: `redact` failed") as lost,
    ):
        monitor.flush(10)
    assert lost.value.counts == {"unredacted": 1}
    assert [record["features"] for record in server.records()] == [{"income": 1}]
    assert "ada@example.org" not in caplog.text + str(lost.value)


def test_the_mode_memory_shows_what_would_have_been_sent() -> None:
    threads = threading.active_count()
    monitor = Monitor("loans", "7", mode="memory", redact=lambda r: {**r, "subject": "x"})
    made = monitor.log({"x": np.float32(0.5)}, 1, ts=1.5, subject="ada", durable=True)
    monitor.label(made, 0, label_ts=2.5)
    assert monitor.flush()
    assert monitor.records == [
        {
            "model": "loans", "version": "7", "prediction_id": made,
            "ts": "1970-01-01T00:00:01.500000Z", "features": {"x": 0.5}, "prediction": 1,
            "subject": "x",
        },
        {"model": "loans", "prediction_id": made, "label": 0,
         "label_ts": "1970-01-01T00:00:02.500000Z"},
    ]  # fmt: skip
    assert threading.active_count() == threads


def test_the_environment_says_what_the_arguments_leave_open(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWATCH_URL", server.url)
    monkeypatch.setenv("MODELWATCH_API_KEY", "mw_of_the_environment")
    Monitor("loans", "7", interval=0.01).log({"x": 1}, 0)
    monitor = Monitor("loans", "7", interval=0.01, api_key="mw_given")
    monitor.log({"x": 1}, 0)
    assert monitor.flush(60)
    until = time.monotonic() + 60
    while len(server.headers) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert sorted(head["Authorization"] for head in server.headers) == [
        "Bearer mw_given", "Bearer mw_of_the_environment",
    ]  # fmt: skip
    monkeypatch.setenv("MODELWATCH_MODE", "memory")
    monkeypatch.setenv("MODELWATCH_SAMPLE", "1e-9")
    monitor = Monitor("loans", "7")
    monitor.log({"x": 1}, 0)
    assert monitor.stats()["unsampled"] == 1
    monkeypatch.setenv("MODELWATCH_MODE", "loud")
    with pytest.raises(ValueError, match="mode is one of"):
        Monitor("loans", "7")


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
    until = time.monotonic() + 60
    while len(server.records()) < 2 and time.monotonic() < until:
        time.sleep(0.01)
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
    assert server.headers[-1]["Authorization"] == "Bearer mw_other"


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
    until = time.monotonic() + 60
    while senders(before) and time.monotonic() < until:
        time.sleep(0.01)
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
