"""Processes begin, fork and end: what was logged in each of them is sent."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import modelwatch
from tests.contract.scripted import ScriptedServer, until

CLIENT = str(Path(modelwatch.__file__).parents[1])
SECONDS = 120
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def run(folder: Path, code: str, server: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run a host, whose monitor is ``m`` and would send its rows in an hour."""
    script = folder / "host.py"
    prelude = (
        f"import modelwatch\nm = modelwatch.Monitor('loans', '7', url={server!r}, interval=3600)\n"
    )
    script.write_text(code.replace("MONITOR", prelude))
    return subprocess.run(
        [sys.executable, "-W", "ignore", *options, str(script)],
        env={"PYTHONPATH": CLIENT, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def shortest_end(folder: Path, code: str) -> float:
    """Return the seconds that an end takes where a server says nothing.

    Two of them by its own clock; the rest is the machine's, which may stall, but hardly each time.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        shortest = float("inf")
        for _ in range(4):
            done = run(folder, code.replace("SILENT", repr(address)), address)
            assert done.returncode == 0, done.stderr
            shortest = min(shortest, float(done.stdout))
            if shortest < 6:
                break
    return shortest


def rows(server: ScriptedServer) -> list[Any]:
    return sorted(record["features"]["x"] for record in server.records())


ENDS = {
    "by itself": "MONITOR\nm.log({'x': 1}, 0)",
    "by sys.exit": "import sys\nMONITOR\nm.log({'x': 1}, 0)\nsys.exit(0)",
    "by a fault": "MONITOR\nm.log({'x': 1}, 0)\nraise SystemError",
    "from a function": (
        "import modelwatch\nMONITOR\n"
        "def job():\n"
        "    modelwatch.Monitor('loans', '7', url=URL, interval=3600).log({'x': 1}, 0)\n"
        "job()"
    ),
    "from a handler registered before": (
        "import atexit\n@atexit.register\ndef last():\n    m.log({'x': 1}, 0)\nMONITOR"
    ),
    "from a handler registered after": (
        "import atexit\nMONITOR\n@atexit.register\ndef last():\n    m.log({'x': 1}, 0)"
    ),
    "from a thread that others wait for": (
        "import threading, time\nMONITOR\n"
        "def late():\n    time.sleep(.2)\n    m.log({'x': 1}, 0)\n"
        "threading.Thread(target=late).start()"
    ),
    "from a finaliser of the last moment": (
        "MONITOR\nm.log({'x': 1}, 0)\n"
        "class Last:\n    def __del__(self):\n        m.log({'x': 2}, 0)\n"
        "import builtins\nbuiltins.last = Last()"
    ),
    "while a daemon thread logs on": (
        "import threading\nMONITOR\nm.log({'x': 1}, 0)\n"
        "def on():\n    while True:\n        m.log({'x': 1}, 0)\n"
        "threading.Thread(target=on, daemon=True).start()"
    ),
    "under asyncio": (
        "import asyncio\nMONITOR\nasync def main():\n    m.log({'x': 1}, 0)\nasyncio.run(main())"
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_is_queued_when_a_process_ends_is_sent(
    server: ScriptedServer, tmp_path: Path, end: str
) -> None:
    done = run(tmp_path, ENDS[end].replace("URL", repr(server.url)), server.url)
    assert 1 in rows(server), done.stderr
    assert "Traceback" not in done.stderr or end == "by a fault", done.stderr


def test_a_process_ends_within_seconds_where_no_server_answers(tmp_path: Path) -> None:
    code = (
        "import atexit, time\n"
        "MONITOR\n"
        "m.log({'x': 1}, 0)\n"
        "began = time.monotonic()\n"
        "import modelwatch.process\n"
        "modelwatch.process.at_exit()\n"
        "print(time.monotonic() - began)\n"
    )
    assert 1.5 < shortest_end(tmp_path, code) < 6


@pytest.mark.parametrize("spool", [False, True])
def test_what_is_lost_with_the_process_is_told_in_its_last_words(
    tmp_path: Path, spool: bool
) -> None:
    code = "MONITOR\nfor row in range(3): m.log({'x': row}, 0)"
    if spool:
        code = f"import os\nos.environ['MODELWATCH_SPOOL'] = {str(tmp_path / 'spool')!r}\n{code}"
    done = run(tmp_path, code, "http://127.0.0.1:1")
    assert done.returncode == 0
    told = "modelwatch: loans 7: the process ends with 3 not sent"
    assert (told in done.stderr) is not spool, done.stderr


def test_a_log_that_is_closed_before_the_process_ends_costs_it_no_traceback(tmp_path: Path) -> None:
    code = (
        "import io, logging\nMONITOR\n"
        "stream = io.StringIO()\n"
        f"open = logging.FileHandler({str(tmp_path / 'log')!r})\n"
        "logging.basicConfig(handlers=[logging.StreamHandler(stream), open])\n"
        "m.log({'x': 1}, 0)\nstream.close()\n"
    )
    done = run(tmp_path, code, "http://127.0.0.1:1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    [*_, told] = (tmp_path / "log").read_text().splitlines()
    assert "loans 7: the process ends with 1 not sent" in told


def test_a_server_that_is_away_takes_no_other_s_last_seconds(
    server: ScriptedServer, tmp_path: Path
) -> None:
    code = (
        "import modelwatch\n"
        "away = [modelwatch.Monitor('m', str(v), url='http://127.0.0.1:1') for v in range(4)]\n"
        "for monitor in away: monitor.log({'x': 3}, 0)\n"
        "MONITOR\n"
        "m.log({'x': 1}, 0)\n"
    )
    done = run(tmp_path, code, server.url)
    assert rows(server) == [1], done.stderr


def test_two_seconds_are_for_all_monitors_together(tmp_path: Path) -> None:
    code = (
        "import time, modelwatch, modelwatch.process\n"
        "many = [modelwatch.Monitor('m', str(v), url=SILENT) for v in range(8)]\n"
        "for m in many: m.log({'x': 1}, 0)\n"
        "began = time.monotonic()\n"
        "modelwatch.process.at_exit()\n"
        "modelwatch.process.at_exit()\n"
        "print(time.monotonic() - began)\n"
    )
    assert shortest_end(tmp_path, code) < 8


CHILDREN = {
    "os.fork, by itself": "import os\nMONITOR\nPARENT\nif not os.fork():\n    m.log({'x': 2}, 0)",
    "os.fork, flushed, os._exit": (
        "import os\nMONITOR\nPARENT\n"
        "if not os.fork():\n    m.log({'x': 2}, 0)\n    m.flush(30)\n    os._exit(0)"
    ),
    "os.fork, of a monitor that was never used": (
        "import os\nMONITOR\n"
        "if not os.fork():\n    m.log({'x': 2}, 0)\nelse:\n    m.log({'x': 1}, 0)"
    ),
    "a grandchild": (
        "import os\nMONITOR\nPARENT\n"
        "if not os.fork():\n    if not os.fork():\n        m.log({'x': 2}, 0)"
    ),
    "multiprocessing, fork": "WITH:fork",
    "multiprocessing, forkserver": "WITH:forkserver",
    "multiprocessing, spawn": "WITH:spawn",
    "a pool of processes": (
        "from concurrent.futures import ProcessPoolExecutor\nMONITOR\n"
        "def work(x):\n    m.log({'x': x}, 0)\n"
        "if __name__ == '__main__':\n    PARENT\n"
        "    with ProcessPoolExecutor(1) as pool:\n        pool.submit(work, 2).result()"
    ),
}
WITH = (
    "import multiprocessing\nMONITOR\n"
    "def work():\n    m.log({'x': 2}, 0)\n"
    "if __name__ == '__main__':\n"
    "    PARENT\n"
    "    child = multiprocessing.get_context(%r).Process(target=work)\n"
    "    child.start()\n"
    "    child.join()\n"
    "    assert child.exitcode == 0\n"
)


@needs_fork
@pytest.mark.parametrize("child", CHILDREN)
def test_parent_and_child_send_their_own_rows_once(
    server: ScriptedServer, tmp_path: Path, child: str
) -> None:
    code = CHILDREN[child]
    if code.startswith("WITH:"):
        code = WITH % code.removeprefix("WITH:")
    done = run(tmp_path, code.replace("PARENT", "m.log({'x': 1}, 0)"), server.url)
    assert done.returncode == 0, done.stderr
    until(lambda: len(server.records()) >= 2)
    assert rows(server) == [1, 2], done.stderr


@needs_fork
def test_a_child_that_is_forked_while_the_parent_waits_for_its_server_goes_on(
    server: ScriptedServer, tmp_path: Path
) -> None:
    code = (
        "import os, time, modelwatch\n"
        "away = modelwatch.Monitor('loans', '7', url='http://127.0.0.1:1', interval=.01)\n"
        "MONITOR\n"
        "away.log({'x': 3}, 0)\n"
        "PARENT\n"
        "time.sleep(.2)\n"
        "if not os.fork():\n"
        "    m.log({'x': 2}, 0)\n"
        "    assert m.flush(60)\n"
        "    assert away.stats()['queued'] == 0\n"
        "    os._exit(0)\n"
        "assert os.wait()[1] == 0\n"
        "assert away.stats()['queued'] == 1\n"
    )
    done = run(tmp_path, code.replace("PARENT", "m.log({'x': 1}, 0)"), server.url)
    assert done.returncode == 0, done.stderr
    assert rows(server) == [1, 2]


def test_a_label_is_logged_by_another_process_than_the_prediction(
    server: ScriptedServer, tmp_path: Path
) -> None:
    first = run(tmp_path, "MONITOR\nprint(m.log({'x': 1}, 0))", server.url)
    made = first.stdout.strip()
    run(tmp_path, f"MONITOR\nm.label({made!r}, 1)", server.url)
    assert [record["prediction_id"] for record in server.records()] == [made, made]
    assert [path for path, _ in server.bodies] == ["/v1/predictions", "/v1/labels"]
