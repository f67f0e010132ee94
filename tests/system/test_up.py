"""``modelwatch up`` as its user runs it: one command, and nothing left of it afterwards."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

# The budgets are 20 s and 5 s on two free cores; a test run shares them, so the bounds are for
# hangs.
DEMO_SECONDS = 180.0
STOP_SECONDS = 30.0
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+[^\s]*")
PYTHON = str(Path(sys.executable))


class Up:
    """A running ``modelwatch up``, and what it has printed."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MODELWATCH_")}
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [
                *(PYTHON, "-m", "service.processes.cli", "up", "--no-open", "--port", "0"),
                *("--data-dir", str(data_dir), *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.lines: list[str] = []
        self._coming: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._coming.put(line.rstrip("\n"))
        self._coming.put(None)

    def close(self) -> None:
        """Let go of its output, which is at its end."""
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def wait_for(self, pattern: str, seconds: float) -> str:
        """Return the first line, from here on, that matches."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._coming.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                break
            self.lines.append(line)
            if re.search(pattern, line):
                return line
        raise AssertionError(f"no line matches {pattern!r}:\n" + "\n".join(self.lines))

    def wait_until_ready(self) -> str:
        """Return the address of the API once all of the addresses are printed."""
        line = self.wait_for(r"is ready at", 60)
        self.wait_for("Ctrl-C", 10)
        return str(ADDRESS.findall(line)[0])

    def addresses(self) -> list[str]:
        """Return every address that was printed."""
        return [address for line in self.lines for address in ADDRESS.findall(line)]

    def family(self) -> list[psutil.Process]:
        """Return the process and all that descend from it."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def child(self, role: str) -> psutil.Process:
        """Return the child that runs a role."""
        return next(one for one in self.family() if one.cmdline()[-1:] == [role])

    def stop(self, signum: int = signal.SIGINT) -> float:
        """Send a signal, and return how long it took until all of the family was gone."""
        family = self.family()
        began = time.monotonic()
        self.process.send_signal(signum)
        self.process.wait(30)
        _, alive = psutil.wait_procs(family, timeout=15)
        assert not alive
        return time.monotonic() - began


@contextmanager
def up(data_dir: Path, *arguments: str) -> Iterator[Up]:
    running = Up(data_dir, *arguments)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop(signal.SIGTERM)
        running.close()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_the_demo_shows_a_request_and_the_next_start_finds_it(data_dir: Path) -> None:
    with up(data_dir, "--demo") as first:
        first.wait_until_ready()
        shown = first.wait_for(r"Retraining request \d+ is open", DEMO_SECONDS)
        first.wait_for(r"/windows", 10)
        print(f"first request after {time.monotonic() - first.began:.1f} s")
        for address in first.addresses():
            answer = httpx.get(address, trust_env=False)
            assert answer.status_code == 200, address
        # What a browser sends for another site's page is refused where no key is wanted.
        for name, value in (("Host", "evil.example"), ("Origin", "http://evil.example")):
            answer = httpx.get(first.addresses()[0], headers={name: value}, trust_env=False)
            assert answer.status_code == 403
        assert first.stop() < STOP_SECONDS
        assert first.process.returncode == 0

    with up(data_dir, "--demo") as second:
        second.wait_until_ready()
        assert second.wait_for(r"Retraining request \d+ is open", 30) == shown
        assert not any(line.startswith("Replayed") for line in second.lines)


def test_windows_before_the_first_change_are_quiet_and_the_evidence_is_labelled(
    data_dir: Path,
) -> None:
    with up(data_dir, "--demo") as running:
        url = running.wait_until_ready()
        running.wait_for(r"Retraining request \d+ is open", DEMO_SECONDS)
        with httpx.Client(base_url=url, trust_env=False) as client:
            windows = client.get("/v1/models/demo-loans/windows").json()["windows"]
            request = client.get("/v1/retraining-requests").json()["requests"][0]
    assert [window["verdicts"]["drift"] for window in windows[:12]] == ["ok"] * 12
    assert [window["action"] for window in windows[:18]] == [
        *["none"] * 12,
        *["fix_data"] * 4,
        *["watch"] * 2,
    ]
    assert [window["verdicts"]["quality"] for window in windows] == [
        "alert" if 12 <= day <= 15 else "ok" for day in range(len(windows))
    ]
    lines = [line for line in running.lines if " → " in line]
    assert max(map(len, lines)) <= 120
    # A day that is judged again, because rows came late on a busy machine, is told of again.
    shown = list(dict.fromkeys(line[:10] for line in lines))
    assert shown == sorted(shown)
    assert shown[:18] == [window["start"][:10] for window in windows[:18]]
    assert request["action"] == "retrain"
    evidence = {window["start"] for window in request["evidence"]["windows"]}
    assert not evidence & {window["start"] for window in windows[12:16]}
    assert all(window["labelled"] > 0 for window in request["evidence"]["windows"])


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_of_it_without_a_traceback(data_dir: Path, signum: int) -> None:
    with up(data_dir) as running:
        running.wait_until_ready()
        assert running.stop(signum) < STOP_SECONDS
        assert running.process.returncode == 0
        with pytest.raises(AssertionError):
            running.wait_for("Traceback", 1)


def test_killing_it_leaves_nothing_behind_and_the_next_start_works(data_dir: Path) -> None:
    with up(data_dir) as running:
        running.wait_until_ready()
        family = running.family()
        running.process.kill()
        running.process.wait(10)
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not alive
    with up(data_dir) as again:
        again.wait_until_ready()


@pytest.mark.parametrize("role", ["api", "worker"])
def test_a_child_that_is_killed_starts_again(data_dir: Path, role: str) -> None:
    with up(data_dir) as running:
        url = running.wait_until_ready()
        killed = running.child(role)
        killed.kill()
        running.wait_for(rf"The {role} process was killed by signal 9", 10)
        psutil.wait_procs([killed], timeout=10)
        # The listening socket is the supervisor's: a request waits instead of being refused.
        assert httpx.get(f"{url}/readyz", timeout=30, trust_env=False).status_code == 200
        deadline = time.monotonic() + 10
        while not any(one.cmdline()[-1:] == [role] for one in running.family()[1:]):
            assert time.monotonic() < deadline


def test_a_database_that_is_killed_comes_back(data_dir: Path) -> None:
    with up(data_dir) as running:
        url = running.wait_until_ready()
        server = next(one for one in running.family() if "postgres" in one.name())
        server.kill()
        running.wait_for("The database ended", 20)
        assert running.wait_until_ready() == url


def test_a_port_that_is_taken_is_one_clear_line(data_dir: Path) -> None:
    with up(data_dir) as running:
        port = running.wait_until_ready().rpartition(":")[2]
        with up(data_dir.with_name("other"), "--port", port) as second:
            second.wait_for(rf"^Error: cannot listen on 127\.0\.0\.1:{port}: the port is taken", 30)
            assert second.process.wait(10) == 2


def test_a_second_start_on_the_same_data_is_one_clear_line(data_dir: Path) -> None:
    with up(data_dir) as running:
        running.wait_until_ready()
        with up(data_dir) as second:
            second.wait_for("^Error: .*another modelwatch is running", 30)
            assert second.process.wait(10) == 2
        assert running.process.poll() is None
