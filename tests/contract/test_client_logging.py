"""What ``log`` and ``label`` promise their host: no harm, and a count for every record."""

import contextlib
import gc
import logging
import threading
import tracemalloc
import types
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from modelwatch import LostRecordsError, Monitor
from tests.contract.scripted import ScriptedServer, a_monitor

NOWHERE = "http://127.0.0.1:1"


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
