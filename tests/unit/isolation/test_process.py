"""An isolated process may die, or may have to stand back; who asks it never does."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from service.isolation.memory import own_memory
from service.isolation.process import (
    IsolatedProcess,
    Job,
    ProcessDiedError,
    ProcessGrownError,
    ProcessKilledError,
    ProcessLateError,
    ProcessSlowError,
    reason_of,
)
from tests.unit.isolation.deeds import JOB


@pytest.fixture
def process() -> Iterator[IsolatedProcess]:
    with closing(IsolatedProcess(JOB)) as process:
        yield process


@pytest.mark.parametrize("deed", [b"abort", b"crash", b"leave", b"spin"])
def test_after_a_death_there_is_another_process(process: IsolatedProcess, deed: bytes) -> None:
    assert process.ask(b"abc") == b"cba"
    before = process.pid
    with pytest.raises(ProcessDiedError):
        process.ask(deed)
    assert process.ask(b"abc") == b"cba"
    assert process.pid not in {None, before}


def test_memory_is_bounded_and_nothing_is_said_but_answers(process: IsolatedProcess) -> None:
    assert process.ask(b"grow") == b"no memory"
    assert process.ask(b"talk") == b"klat"
    large = os.urandom(5 << 20)
    assert process.ask(large) == large[::-1]


def test_who_takes_too_much_memory_is_ended(process: IsolatedProcess) -> None:
    with pytest.raises(ProcessGrownError):
        process.ask(b"fill")
    assert process.ask(b"abc") == b"cba"


@pytest.mark.parametrize(
    ("largest", "code", "expected"),
    [
        (JOB.memory + 1, signal.SIGKILL, ProcessGrownError),
        # An allocation failed, and a library gave up.
        (JOB.memory - 1, signal.SIGABRT, ProcessGrownError),
        (JOB.memory // 4, signal.SIGABRT, ProcessDiedError),
        (JOB.memory - 1, signal.SIGXCPU, ProcessSlowError),
        (JOB.memory - 1, signal.SIGKILL, ProcessKilledError),
        (JOB.memory - 1, signal.SIGTERM, ProcessLateError),
    ],
)
def test_why_a_process_ended_is_told(
    largest: int, code: signal.Signals, expected: type[Exception]
) -> None:
    assert type(reason_of(JOB, -code, largest)) is expected


def test_it_is_the_first_to_go_where_there_is_no_memory_left(process: IsolatedProcess) -> None:
    assert process.ask(b"/proc/self/oom_score_adj") == b"1000\n"


def test_a_crash_leaves_no_memory_on_disk_and_every_answer_has_its_own_time(
    process: IsolatedProcess,
) -> None:
    for _ in range(2):
        process.ask(b"work 0.5")
    limits = process.ask(b"/proc/self/limits").decode()
    assert re.search("core file size +0 +0 ", limits)
    allowed = re.search(r"cpu time +(\d+) ", limits)
    assert allowed
    # One second for this answer, one for what is rounded, and one that was used up before.
    assert int(allowed[1]) >= 3


def test_the_keys_of_a_terminal_are_not_meant_for_it(process: IsolatedProcess) -> None:
    process.ask(b"started")
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGINT)
    assert process.ask(b"abc") == b"cba"
    assert process.pid == pid


def test_closing_waits_for_no_process_that_does_not_end(process: IsolatedProcess) -> None:
    process.ask(b"started")
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_process_has_no_secret_of_the_environment(
    process: IsolatedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MODELWATCH_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    found = set(process.ask(b"environment").decode().split())
    assert "LC_ALL" in found
    assert not {name for name in found if "secret" in os.environ.get(name, "")}


def test_what_a_job_needs_of_the_environment_it_may_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", "/certificate")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with closing(IsolatedProcess(replace(JOB, environment=("PG",)))) as process:
        found = set(process.ask(b"environment").decode().split())
    assert "PGSSLROOTCERT" in found
    assert "AWS_SECRET_ACCESS_KEY" not in found


def test_a_job_with_a_share_of_the_processor_takes_no_more_and_is_the_last_to_get_it(
    process: IsolatedProcess,
) -> None:
    assert int(process.ask(b"priority")) == os.getpriority(os.PRIO_PROCESS, 0)
    # Who is last may wait for minutes on a busy machine.
    with closing(IsolatedProcess(replace(JOB, seconds=600.0, share=0.25))) as other:
        assert other.ask(b"priority") == b"19"
        used, taken = map(float, other.ask(b"work 0.2").split())
    assert used / taken < 0.4


def test_a_process_reads_a_file_that_has_no_name() -> None:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(b"content")
        with closing(IsolatedProcess(JOB, [file.fileno()])) as process:
            assert process.ask(f"/dev/fd/{file.fileno()}".encode()) == b"content"


def test_who_takes_too_long_or_is_ended_from_outside_may_be_right(process: IsolatedProcess) -> None:
    with pytest.raises(ProcessKilledError):
        process.ask(b"killed")
    with pytest.raises(ProcessLateError):
        process.ask(b"stopped")
    hurried = Job(JOB.function, JOB.memory, 1, seconds=0.5)
    with closing(IsolatedProcess(hurried)) as other, pytest.raises(ProcessLateError):
        other.ask(b"sleep")


def test_a_machine_that_can_start_no_process_is_no_fault_of_the_file(
    process: IsolatedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere")
        with pytest.raises(ProcessLateError):
            process.ask(b"abc")
    assert process.ask(b"abc") == b"cba"


def test_an_answer_that_nobody_could_read_to_its_end_is_not_the_next_one(
    process: IsolatedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_a_little(descriptor: int) -> bytes:
        os.read(descriptor, 3)
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("service.isolation.process.read_frame", read_a_little)
        with pytest.raises(MemoryError):
            process.ask(b"abc")
    assert process.ask(b"de") == b"ed"


def test_who_was_told_to_stop_starts_no_other_process(process: IsolatedProcess) -> None:
    process.kill()
    with pytest.raises(ProcessLateError):
        process.ask(b"abc")
    assert process.pid is None


def test_a_process_leaves_no_process_behind() -> None:
    with closing(IsolatedProcess(JOB)) as process:
        process.ask(b"a")
        pid = process.pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


_ASKER = f"""
from service.isolation.process import Job, IsolatedProcess
job = Job({JOB.function!r}, memory=256 << 20, processor=600, seconds=600.0)
process = IsolatedProcess(job)
process.ask(b"started")
print(process.pid, flush=True)
process.ask(b"spin")
"""


def test_a_process_whose_asker_was_killed_ends_with_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _ASKER], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as asker:
        assert asker.stdout is not None
        pid = int(asker.stdout.readline())
        asker.kill()
    for _ in range(600):
        if not own_memory(pid):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it went on, with the file that it read")
