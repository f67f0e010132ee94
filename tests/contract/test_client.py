import json
import logging
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modelwatch.sender
from modelwatch import LostRecordsError, Monitor, new_prediction_id
from tests.contract.scripted import (
    Answer,
    Document,
    ScriptedServer,
    a_monitor,
    accept,
    refuse,
    until,
)


def test_a_prediction_arrives_as_the_interface_has_it(server: ScriptedServer) -> None:
    monitor = a_monitor(server)
    at = datetime(2026, 11, 20, 10, tzinfo=UTC)
    made = monitor.log(
        {"income": 41_000, "region": "north"}, "1",
        score=0.83, ts=at, weight=2.0, tags={"channel": "web"}, subject="customer-17",
    )  # fmt: skip
    assert monitor.flush(60)
    assert server.bodies == [
        (
            "/v1/predictions",
            {
                "model": "loans",
                "version": "7",
                "records": [
                    {
                        "prediction_id": made,
                        "ts": "2026-11-20T10:00:00.000000Z",
                        "features": {"income": 41_000, "region": "north"},
                        "prediction": "1",
                        "score": 0.83,
                        "weight": 2.0,
                        "tags": {"channel": "web"},
                        "subject": "customer-17",
                    }
                ],
            },
        )
    ]


def test_a_label_names_its_model_only(server: ScriptedServer) -> None:
    monitor = a_monitor(server)
    monitor.label("some-id", 1, label_ts=datetime(2026, 12, 1, tzinfo=UTC))
    assert monitor.flush(60)
    (path, body) = server.bodies[0]
    assert path == "/v1/labels"
    assert body == {
        "model": "loans",
        "records": [
            {"prediction_id": "some-id", "label": 1, "label_ts": "2026-12-01T00:00:00.000000Z"}
        ],
    }


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_batch_that_the_server_could_not_take_is_sent_again_as_it_was(
    server: ScriptedServer, status: int
) -> None:
    server.script.extend([refuse(status), refuse(status, **{"Retry-After": "0.01"})])
    monitor = a_monitor(server)
    made = [monitor.log({"x": row}, 0) for row in range(3)]
    assert monitor.flush(60)
    assert [record["prediction_id"] for record in server.records()] == made
    assert monitor.stats()["retries"] == 2
    assert monitor.stats()["accepted"] == 3


@pytest.mark.parametrize(
    ("status", "said"), [(401, "does not know the key"), (403, "with this key")]
)
def test_a_key_that_is_refused_is_shouted_about_and_costs_no_record(
    server: ScriptedServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    said: str,
) -> None:
    monkeypatch.setattr(modelwatch.sender, "LOCKED_OUT_DELAY", 0.2)
    server.script.extend([refuse(status)] * 3)
    monitor = a_monitor(server, api_key="mw_wrong")
    with caplog.at_level(logging.WARNING, "modelwatch"):
        monitor.log({"x": 1}, 0)
        assert not monitor.flush(0.05)
        assert monitor.flush(60)
    assert monitor.stats()["accepted"] == 1
    (told,) = caplog.records
    assert told.levelno == logging.ERROR
    assert said in told.message
    assert "mw_wrong" not in caplog.text


def test_what_the_server_refuses_is_not_sent_again(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.script.append(refuse(404))
    monitor = a_monitor(server)
    with caplog.at_level(logging.WARNING, "modelwatch"):
        monitor.log({"x": 1}, 0)
        with pytest.raises(LostRecordsError, match=r"1 record was refused: 404 not now \(1\)"):
            monitor.flush(10)
    assert monitor.stats()["rejected"] == 1
    assert len(server.headers) == 1
    assert "404" in caplog.text


def refuse_rows(*codes: str) -> Callable[[Document], Answer]:
    rejected = [{"code": code, "field": "features", "prediction_id": None} for code in codes]

    def answer(document: Document) -> Answer:
        accepted = len(document["records"]) - len(codes)
        return 200, {}, {"accepted": accepted, "duplicates": 0, "rejected": rejected}

    return answer


def test_refused_records_are_named_by_code_in_one_warning_a_minute(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.script.extend([refuse_rows("bad-score", "unknown-feature", "unknown-feature")] * 2)
    monitor = a_monitor(server, interval=0.1)
    with caplog.at_level(logging.WARNING, "modelwatch"):
        for _ in range(2):
            for row in range(5):
                monitor.log({"x": row}, 0)
            with pytest.raises(LostRecordsError):
                monitor.flush(10)
    [told] = caplog.messages
    assert told == (
        "modelwatch: loans 7: 3 records were refused: unknown-feature (2), bad-score (1);"
        " the first in features"
    )


def test_what_a_server_or_a_host_says_is_told_in_one_short_line(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.script.append(refuse_rows("bad\nCRITICAL root: \x1b[2J" + "x" * 100_000))
    monitor = a_monitor(server, interval=0.1)
    with caplog.at_level(logging.WARNING, "modelwatch"):
        monitor.log({"x": 1}, 0)
        monitor.log("y" * 100_000, 0)  # type: ignore[arg-type]  # what a host may do
        monitor.label("p", 1, label_ts="\n" * 100_000)  # type: ignore[arg-type]  # as above
        with pytest.raises(LostRecordsError) as raised:
            monitor.flush(10)
    [told] = caplog.messages
    assert "bad CRITICAL root:  [2Jxxx" in told
    assert told.isprintable()
    assert len(told) < 1_000
    assert len(str(raised.value)) < 1_000


def test_a_loss_is_raised_by_the_next_flush_and_only_by_that(server: ScriptedServer) -> None:
    server.script.append(refuse_rows("bad-score"))
    monitor = a_monitor(server, interval=0.1)
    monitor.log({"x": 1}, 0)
    monitor.log({"x": object()}, 0)
    monitor.log(None, 0)  # type: ignore[arg-type]  # what a host may do
    with pytest.raises(LostRecordsError, match="since the last flush") as raised:
        monitor.flush(10)
    assert raised.value.counts == {"rejected": 1, "unserialisable": 1, "errors": 1}
    monitor.log({"x": 2}, 0)
    assert monitor.flush(60)


def test_every_record_that_was_logged_is_found_in_one_count(server: ScriptedServer) -> None:
    server.script.append(refuse_rows("bad-score", "bad-score"))
    monitor = a_monitor(server, interval=0.2, max_rows=10)
    for row in range(12):
        monitor.log({"x": object() if row == 3 else row}, 0)
    monitor.label("id", 1)
    monitor.label("id", 1, label_ts="tomorrow")  # type: ignore[arg-type]  # as above
    with pytest.raises(LostRecordsError):
        monitor.flush(10)
    stats = monitor.stats()
    assert stats["logged"] == 14
    assert (stats["dropped"], stats["rejected"], stats["unserialisable"]) == (3, 2, 1)
    lost_or_waiting = ("dropped", "unserialisable", "errors", "queued")
    assert stats["logged"] == stats["sent"] + sum(stats[name] for name in lost_or_waiting)
    assert stats["sent"] == stats["accepted"] + stats["duplicates"] + stats["rejected"]


def test_a_server_that_is_away_is_named_with_its_address_and_nothing_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "modelwatch"):
        monitor = Monitor("loans", "7", url="http://127.0.0.1:1", interval=0.01)
        monitor.log({"x": 1}, 0)
        until(lambda: monitor.flush(0.1) or caplog.messages)
    [told] = caplog.messages
    assert told == (
        "modelwatch: loans 7: the server at 127.0.0.1:1 cannot be reached (Connection refused);"
        " records wait"
    )


def test_an_address_that_is_none_is_told_by_flush() -> None:
    monitor = Monitor("loans", "7", url="loans.example")
    monitor.log({"x": 1}, 0)
    with pytest.raises(LostRecordsError, match=r"no http:// or https:// address"):
        monitor.flush(0.1)


def test_a_batch_that_cannot_be_read_is_halved_until_only_the_bad_row_is_lost(
    server: ScriptedServer,
) -> None:
    def no_sevens(document: Document) -> Answer:
        if any(record["features"]["x"] == 7 for record in document["records"]):
            return refuse(400)(document)
        return accept(document)

    server.script.extend([no_sevens] * 50)
    monitor = a_monitor(server, interval=0.2)
    for row in range(16):
        monitor.log({"x": row}, 0)
    with pytest.raises(LostRecordsError):
        monitor.flush(10)
    assert sorted(record["features"]["x"] for record in server.records()) == [
        row for row in range(16) if row != 7
    ]
    assert monitor.stats()["rejected"] == 1


def test_values_that_json_lacks_become_null_and_scalars_of_numpy_numbers(
    server: ScriptedServer,
) -> None:
    monitor = a_monitor(server)
    monitor.log({"a": float("nan"), "b": np.float32(0.5), "c": np.int64(3), "d": np.nan}, 0)
    monitor.log({"e": np.float64("inf"), "f": np.float32("nan"), "g": np.bool_(True)}, 0)
    assert monitor.flush(60)
    assert [record["features"] for record in server.records()] == [
        {"a": None, "b": 0.5, "c": 3, "d": None},
        {"e": None, "f": None, "g": True},
    ]


def test_times_and_vectors_of_numpy_are_sent_as_the_interface_has_them(
    server: ScriptedServer,
) -> None:
    monitor = a_monitor(server)
    at = datetime(2026, 11, 20, 10, tzinfo=UTC)
    features = {
        "at": at,
        "local": at.astimezone().replace(tzinfo=None),
        "day": at.date(),
        "np": np.datetime64("2026-11-20T10:00:00", "ns"),
        "nat": np.datetime64("NaT"),
        "vector": np.array([1, 2.5, np.nan], np.float32),
    }
    monitor.log(features, 0, attributions={"day": np.float64(0.5)})
    assert monitor.flush(60)
    [record] = server.records()
    time = "2026-11-20T10:00:00.000000Z"
    assert record["attributions"] == {"day": 0.5}
    assert record["features"] == {
        "at": time,
        "local": time,
        "day": "2026-11-20",
        "np": time,
        "nat": None,
        "vector": [1.0, 2.5, None],
    }


def test_a_value_that_cannot_be_sent_costs_its_own_record_only(server: ScriptedServer) -> None:
    monitor = a_monitor(server)
    monitor.log({"x": object()}, 0)
    monitor.log({"x": 1}, 0)
    with pytest.raises(LostRecordsError, match="1 hold what JSON cannot"):
        monitor.flush(10)
    assert [record["features"] for record in server.records()] == [{"x": 1}]
    assert monitor.stats()["unserialisable"] == 1


def test_log_never_raises(server: ScriptedServer) -> None:
    monitor = a_monitor(server)
    assert isinstance(monitor.log(None, 0), str)  # type: ignore[arg-type]  # as above
    assert isinstance(monitor.log({}, 0, ts="yesterday"), str)  # type: ignore[arg-type]  # as above
    monitor.label("id", 1, label_ts="tomorrow")  # type: ignore[arg-type]  # as above
    assert monitor.stats()["errors"] == 3


def test_without_a_server_the_buffer_is_bounded_and_drops_are_counted() -> None:
    monitor = Monitor("loans", "7", url="http://127.0.0.1:1", max_rows=10)
    for row in range(25):
        monitor.log({"x": row}, 0)
    stats = monitor.stats()
    assert stats["queued"] <= 10
    assert stats["queued"] + stats["dropped"] == 25
    began = time.monotonic()
    with pytest.raises(LostRecordsError, match="15 dropped: the buffer was full"):
        monitor.flush(0.05)
    assert not monitor.flush(0.05)
    assert time.monotonic() - began < 30


def test_mode_off_gives_ids_and_starts_nothing(server: ScriptedServer) -> None:
    monitor = a_monitor(server, mode="off")
    threads = threading.active_count()
    assert len(monitor.log({"x": 1}, 0)) == 32
    monitor.label("id", 1)
    assert monitor.flush(0)
    assert threading.active_count() == threads
    assert monitor.stats()["queued"] == 0


def test_the_key_is_sent(server: ScriptedServer) -> None:
    monitor = a_monitor(server, api_key="mw_test")
    monitor.log({"x": 1}, 0)
    assert monitor.flush(60)
    assert server.headers[0]["Authorization"] == "Bearer mw_test"


def test_the_features_are_those_at_the_time_of_the_call(server: ScriptedServer) -> None:
    monitor = a_monitor(server, interval=0.1)
    features = {"x": 1}
    monitor.log(features, 0)
    features["x"] = 2
    assert monitor.flush(60)
    assert server.records()[0]["features"] == {"x": 1}


def test_ids_are_version_seven_and_sort_by_time() -> None:
    ids = []
    for _ in range(5):
        ids.append(new_prediction_id())
        time.sleep(0.002)
    assert ids == sorted(ids)
    assert {one[12] for one in ids} == {"7"}
    assert {one[16] for one in ids} <= set("89ab")


def _logged_in_child(url: str, queue: Any) -> None:
    child = Monitor("loans", "7", url=url, interval=0.01)
    queue.put(child.log({"x": 2}, 0))
    child.flush(10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_sends_its_own_records(server: ScriptedServer) -> None:
    monitor = a_monitor(server)
    first = monitor.log({"x": 1}, 0)
    assert monitor.flush(60)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_logged_in_child, args=(server.url, queue))
    child.start()
    second = queue.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0
    assert [record["prediction_id"] for record in server.records()] == [first, second]


def test_what_is_queued_at_the_end_of_the_process_is_sent(server: ScriptedServer) -> None:
    code = (
        "import modelwatch\n"
        f"m = modelwatch.Monitor('loans', '7', url={server.url!r}, interval=60)\n"
        "m.log({'x': 1}, 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert len(server.records()) == 1


def test_the_import_needs_the_standard_library_only() -> None:
    code = (
        "import sys, modelwatch\n"
        "tops = {name.partition('.')[0] for name in sys.modules} - {'modelwatch'}\n"
        "print([t for t in tops if t not in sys.stdlib_module_names and not t.startswith('_')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(modelwatch.sender.__file__).parents[1])},
    )
    assert json.loads(done.stdout.replace("'", '"')) == []


def test_the_host_s_random_numbers_stay_as_they_were_seeded() -> None:
    random.seed(7)
    before = random.getstate()
    monitor = Monitor("loans", version="7", url="http://127.0.0.1:1")
    monitor.log({"income": 1}, "1", score=0.5)
    monitor.flush(0.7)
    assert monitor.stats()["sent"] == 0
    assert random.getstate() == before
