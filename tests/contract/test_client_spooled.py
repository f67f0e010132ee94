import logging
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import modelwatch.committer
import modelwatch.locks
import modelwatch.sender
import modelwatch.spooled
from modelwatch import LostRecordsError, Monitor, NotStoredError
from modelwatch.spool import SpoolError, opened
from modelwatch.spoolfile import Destination
from tests.contract.scripted import Answer, Document, ScriptedServer, refuse, until

AWAY = "http://127.0.0.1:1"


@pytest.fixture
def path(folder: Path) -> str:
    return str(folder / "a.spool")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelwatch.sender, "FIRST_DELAY", 0.001)
    for name in ("MODELWATCH_URL", "MODELWATCH_API_KEY", "MODELWATCH_MODE", "MODELWATCH_SPOOL"):
        monkeypatch.delenv(name, raising=False)


def a_monitor(path: str, url: str, **options: Any) -> Monitor:
    return Monitor("loans", "7", **{"url": url, "spool": path, "interval": 0.01, **options})


def on_disk(path: str) -> int:
    with sqlite3.connect(path) as other:
        found: int = other.execute("SELECT count(*) FROM record").fetchone()[0]
    other.close()
    return found


def xs(server: ScriptedServer) -> list[Any]:
    return [record["features"]["x"] for record in server.records()]


def run(code: str, *given: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *given], capture_output=True, text=True, check=False
    )


def test_records_arrive_once_in_order_and_leave_the_disk(server: ScriptedServer, path: str) -> None:
    monitor = a_monitor(path, server.url)
    for row in range(50):
        made = monitor.log({"x": row}, 0)
    monitor.label(made, 1)
    assert monitor.flush(60)
    predictions, labels = ([body for where, body in server.bodies if where.endswith(kind)]
                           for kind in ("predictions", "labels"))  # fmt: skip
    assert [one["features"]["x"] for body in predictions for one in body["records"]] == [*range(50)]
    assert {(body["model"], body["version"]) for body in predictions} == {("loans", "7")}
    assert [body["records"][0]["prediction_id"] for body in labels] == [made]
    assert on_disk(path) == 0
    stats = monitor.stats()
    assert (stats["logged"], stats["accepted"], stats["queued"]) == (51, 51, 0)


def test_a_durable_record_is_on_the_disk_when_log_returns(path: str) -> None:
    monitor = a_monitor(path, AWAY)
    for row in range(5):
        monitor.log({"x": row}, 0, durable=True)
        assert on_disk(path) == row + 1
    monitor.label("id", 1, durable=True)
    assert on_disk(path) == 6
    assert monitor.stats()["spooled"] == 6


def test_what_is_not_durable_is_on_the_disk_a_moment_later(path: str) -> None:
    monitor = a_monitor(path, AWAY)
    monitor.log({"x": 1}, 0)
    until(lambda: Path(path).exists() and monitor.stats()["spooled"] == 1)
    assert on_disk(path) == 1


def test_without_a_spool_nothing_is_durable_and_sqlite_is_not_imported() -> None:
    monitor = Monitor("loans", "7", url=AWAY)
    with pytest.raises(NotStoredError, match="needs a spool"):
        monitor.log({"x": 1}, 0, durable=True)
    code = f"import sys, modelwatch; modelwatch.Monitor('m', '1', url={AWAY!r}); "
    assert run(code + "sys.exit('sqlite3' in sys.modules)").returncode == 0


def test_a_durable_record_that_cannot_be_sent_is_told(path: str) -> None:
    monitor = a_monitor(path, AWAY)
    with pytest.raises(NotStoredError):
        monitor.log({"x": object()}, 0, durable=True)
    monitor.log({"x": 1}, 0, durable=True)
    assert on_disk(path) == 1


def test_what_may_not_be_seen_never_reaches_the_disk(path: str) -> None:
    def redact(record: Document) -> Document:
        record["features"].pop("name")
        return record

    monitor = a_monitor(path, "http://user:mw_key_in_url@127.0.0.1:1/deep", api_key="mw_secret",
                        redact=redact)  # fmt: skip
    monitor.log({"x": 1, "name": "Ada Lovelace"}, 0, durable=True)
    content = b"".join(file.read_bytes() for file in Path(path).parent.iterdir())
    assert b"127.0.0.1:1/deep" in content
    for secret in (b"Lovelace", b"mw_secret", b"mw_key_in_url"):
        assert secret not in content


def test_a_killed_process_leaves_its_records_to_the_next_version(
    server: ScriptedServer, path: str
) -> None:
    code = """
import os, sys, modelwatch
monitor = modelwatch.Monitor("loans", "6", url=sys.argv[1], spool=sys.argv[2])
for row in range(20):
    monitor.log({"x": row}, 0, durable=True)
os.kill(os.getpid(), 9)
"""
    server.script.extend([refuse(503)] * 1_000)
    assert run(code, server.url, path).returncode == -signal.SIGKILL
    assert on_disk(path) == 20
    server.script.clear()
    monitor = a_monitor(path, server.url)
    monitor.log({"x": 20}, 0)
    assert monitor.flush(60)
    assert Counter(xs(server)) == Counter(range(21))
    assert {body["version"] for _, body in server.bodies} == {"6", "7"}


def test_records_of_another_model_or_server_are_left_to_their_own(
    server: ScriptedServer, path: str
) -> None:
    away = a_monitor(path, AWAY)
    away.log({"x": 1}, 0, durable=True)
    other = Monitor("cards", "1", url=AWAY, spool=path)
    other.log({"x": 2}, 0, durable=True)
    monitor = a_monitor(path, server.url)
    monitor.log({"x": 3}, 0)
    assert monitor.flush(60)
    assert xs(server) == [3]
    assert on_disk(path) == 2


def test_what_a_server_refuses_is_counted_in_the_file_and_removed(
    server: ScriptedServer, path: str
) -> None:
    def one_refused(document: Document) -> Answer:
        rejected = [{"code": "bad-score", "field": None, "prediction_id": None}]
        accepted = len(document["records"]) - 1
        return 200, {}, {"accepted": accepted, "duplicates": 0, "rejected": rejected}

    server.script.append(one_refused)
    monitor = a_monitor(path, server.url, interval=5.0)
    for row in range(3):
        monitor.log({"x": row}, 0, durable=True)
    with pytest.raises(LostRecordsError, match="bad-score"):
        monitor.flush(20)
    [counts] = [one for one in opened(path).counts() if one.destination.path.endswith("ions")]
    assert (counts.rows, counts.refused) == (0, 1)


def test_what_was_sent_but_cannot_be_removed_is_not_sent_again(
    server: ScriptedServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = a_monitor(path, server.url)
    spool = opened(path)
    real = spool.remove

    def full(*_: object) -> int:
        raise SpoolError(spool.path, "disk full")

    monkeypatch.setattr(spool, "remove", full)
    monitor.log({"x": 1}, 0, durable=True)
    until(lambda: xs(server) == [1])
    monkeypatch.setattr(spool, "remove", real)
    monitor.log({"x": 2}, 0)
    assert monitor.flush(60)
    assert xs(server) == [1, 2]
    assert on_disk(path) == 0


def durables(monitor: Monitor) -> int:
    """Log until it is told that the disk takes no more; return how often."""
    for row in range(100):
        try:
            monitor.log({"x": row, "filling": "." * 1_000}, 0, durable=True)
        except NotStoredError:
            return row + 1
    raise AssertionError


@pytest.fixture
def frozen(path: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process that freezes while it writes to the spool."""
    hold = (
        "import sys; from modelwatch.locks import WRITER, Locks; locks = Locks(sys.argv[1]);"
        " locks.open(); print(locks.acquire(WRITER), flush=True); input()"
    )
    command = [sys.executable, "-c", hold, f"{path}-lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        process.send_signal(signal.SIGSTOP)
        yield process
        process.kill()


def test_a_process_that_is_frozen_with_the_lock_costs_no_other_a_record(
    server: ScriptedServer,
    path: str,
    frozen: "subprocess.Popen[bytes]",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(modelwatch.locks, "LOCK_SECONDS", 0.3)
    monitor = a_monitor(path, server.url)
    with pytest.raises(NotStoredError, match="another process holds its lock"):
        monitor.log({"x": 0}, 0, durable=True)
    for row in range(1, 100):
        monitor.log({"x": row}, 0)
    assert monitor.flush(60)
    assert sorted(xs(server)) == [*range(100)]
    frozen.kill()
    until(lambda: is_stored(monitor))


def is_stored(monitor: Monitor) -> bool:
    try:
        monitor.log({"x": 0}, 0, durable=True)
    except NotStoredError:
        return False
    return True


@pytest.mark.parametrize("kind", ["foreign", "full"])
def test_where_the_disk_takes_nothing_records_are_sent_from_memory(
    server: ScriptedServer, path: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "foreign":
        Path(path).write_bytes(b"something else" * 1_000)
    else:
        other = Destination(AWAY, "/v1/labels", "cards", b"{")
        with suppress(SpoolError):
            while opened(path, max_bytes=1 << 18).store([(other, b"." * 1_000)]):
                pass
    monitor = a_monitor(path, server.url)
    with caplog.at_level(logging.WARNING, "modelwatch"):
        row = durables(monitor)
        for more in range(row, row + 100):
            monitor.log({"x": more, "filling": "." * 1_000}, 0)
        assert monitor.flush(60)
    assert set(xs(server)) == set(range(row + 100))
    assert len(set(xs(server))) == monitor.stats()["logged"]
    [told] = caplog.messages
    assert "a.spool cannot be used: " in told
    assert told.endswith("records wait in memory")


FULL = """
import resource, subprocess, sys
from modelwatch import Monitor, NotStoredError

path, kind = sys.argv[1:]
folder = path.rpartition("/")[0]
most = resource.RLIM_INFINITY

def limit(size):
    if kind == "file":
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    else:
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)

def log(row):
    monitor.log({"x": row, "filling": "." * 1_000}, 0, durable=True)

monitor = Monitor("loans", "7", url="http://127.0.0.1:1", spool=path)
limit(2_000_000)
stored = 0
try:
    while stored < 10_000:
        log(stored)
        stored += 1
except NotStoredError as fault:
    print(fault, file=sys.stderr)
monitor.log({"x": "later"}, 0)
limit(8_000_000)
log("last")
print(stored)
"""


@pytest.fixture
def own_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of the test's own, where this user may."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", str(folder)]
    is_own = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield folder
    if is_own:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("kind", ["file", "disk"])
def test_what_is_stored_survives_a_full_disk_and_what_is_not_waits_for_room(
    own_disk: Path, kind: str
) -> None:
    path = str(own_disk / "a.spool")
    if not own_disk.is_mount():
        kind = "file"
    done = run(FULL, path, kind)
    assert done.returncode == 0, done.stderr
    assert "not stored: the spool at" in done.stderr
    stored = int(done.stdout)
    assert 300 < stored < 2_000
    # All of them, the one that was refused, the one that waited, and the last.
    assert on_disk(path) == stored + 3
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    other.close()


def test_memory_stays_bounded_while_neither_disk_nor_server_takes_anything(path: str) -> None:
    Path(path).write_bytes(b"something else" * 1_000)
    monitor = a_monitor(path, AWAY, max_rows=10)
    for row in range(25):
        monitor.log({"x": row}, 0)
    stats = monitor.stats()
    assert (stats["queued"], stats["dropped"]) == (10, 15)


def test_records_that_are_too_old_are_dropped_and_told(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(modelwatch.committer, "EXPIRE_SECONDS", 0.0)
    monkeypatch.setattr(modelwatch.sender, "FIRST_DELAY", 60.0)
    monitor = a_monitor(path, AWAY, spool_days=0.1 / 86_400)
    with caplog.at_level(logging.WARNING, "modelwatch"):
        monitor.log({"x": 1}, 0, durable=True)
        until(lambda: monitor.stats()["expired"] == 1)
    assert on_disk(path) == 0


def _log_in_child(monitor: Monitor, first: int) -> None:
    for row in range(first, first + 19):
        monitor.log({"x": row}, 0)
    monitor.log({"x": first + 19}, 0, durable=True)
    # Without a word to anybody, as a child of gunicorn that is told to go at once.
    until(lambda: monitor.stats()["queued_bytes"] == 0)
    os._exit(0)


def test_fifty_forks_under_load_share_a_spool(server: ScriptedServer, path: str) -> None:
    monitor = a_monitor(path, server.url)
    stop = threading.Event()
    logged: list[int] = []

    def load() -> None:
        while not stop.is_set():
            logged.append(1_000_000 + len(logged))
            monitor.log({"x": logged[-1]}, 0)
            time.sleep(0.001)

    thread = threading.Thread(target=load)
    thread.start()
    fork = multiprocessing.get_context("fork")
    children = []
    for child in range(50):
        children.append(fork.Process(target=_log_in_child, args=(monitor, child * 20)))
        children[-1].start()
    for one in children:
        one.join()
    stop.set()
    thread.join()
    assert monitor.flush(60)
    assert [one.exitcode for one in children] == [0] * 50
    assert set(xs(server)) == {*range(1_000), *logged}
    # A child that goes in the middle of a request leaves it to another: the server knows the id.
    ids = {(one["prediction_id"], one["features"]["x"]) for one in server.records()}
    assert len(ids) == 1_000 + len(logged)
    assert on_disk(path) == 0


def test_two_processes_that_empty_one_spool_do_not_send_a_record_twice(
    server: ScriptedServer, path: str
) -> None:
    spooled = a_monitor(path, AWAY, max_rows=100_000)
    for row in range(6_000):
        spooled.log({"x": row}, 0)
    until(lambda: spooled.stats()["spooled"] == 6_000)
    command = [sys.executable, "-m", "modelwatch.spool_command", "push", path, "--url", server.url]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate()[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert Counter(xs(server)) == Counter(range(6_000))
    sent = [int(one.split()[0]) for one in said]
    assert sum(sent) == 6_000
    assert on_disk(path) == 0


def test_a_flush_waits_for_its_own_records_though_others_are_before_them(
    server: ScriptedServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is counted meanwhile.
    monkeypatch.setattr(modelwatch.committer, "COMMIT_SECONDS", 3_600.0)
    monitor = a_monitor(path, server.url, batch=1, interval=3_600.0)
    monitor.log({"x": 0}, 0)
    assert monitor.flush(20)
    [to] = opened(path).destinations(model="loans")
    opened(path).store([(to, b'{"features": {"x": "other"}}')] * 5)
    monitor.log({"x": 1}, 0)
    assert monitor.flush(20)
    assert xs(server) == [0, *["other"] * 5, 1]


def test_a_fault_that_nobody_thought_of_does_not_end_the_sender(
    server: ScriptedServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = a_monitor(path, server.url)
    monitor.log({"x": 0}, 0)
    assert monitor.flush(20)
    with monkeypatch.context() as patch:
        asked = threading.Event()

        def rows(_to: object) -> int:
            asked.set()
            raise MemoryError

        patch.setattr(opened(path), "rows", rows)
        assert asked.wait(60)
    monitor.log({"x": 1}, 0)
    assert monitor.flush(20)
    assert xs(server) == [0, 1]


def test_nothing_is_left_in_the_count_when_all_is_sent(server: ScriptedServer, path: str) -> None:
    monitor = a_monitor(path, server.url, interval=0.001)
    for row in range(300):
        monitor.log({"x": row}, 0)
        if row % 3 == 0:
            assert monitor.flush(60)
            assert monitor.stats()["queued"] == 0
