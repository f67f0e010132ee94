"""What a call of ``log`` costs its host, beside what else people log predictions with.

``python -m tests.benchmarks.client [--seconds 20] [--realtime]`` serves a sink that takes
everything, and runs each way in a process of its own: import, first call, a burst, and 500 calls a
second with 20 features.  ``pip install -c constraints.txt -e '.[bench]'`` brings the others; what
is not installed is left out.  ``--realtime`` gives the measured processes priority over all else
(``SCHED_FIFO``; it needs the right to): on a machine that is busy with other things p99 is
otherwise a figure about these.  Import time and dependencies of ours are those of a fresh virtual
environment with nothing but ``pip install ./client``.
"""

import argparse
import gzip
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, requires
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.console import Console
from rich.table import Table

from tests.benchmarks import client_calls

ROOT = Path(__file__).parents[2]
CALLS = str(ROOT / "tests" / "benchmarks" / "client_calls.py")
BRINGS = {
    "synchronous httpx": ["httpx"],
    "OpenTelemetry logs": ["opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"],
    "sentry-sdk logs": ["sentry-sdk"],
}
STARTS = 5


class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        taken = body.count(b'"prediction_id"')
        answer = json.dumps({"accepted": taken, "duplicates": 0, "rejected": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


def first_in_line() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))


def serve(told: Connection, realtime: bool) -> None:
    if realtime:
        # Whoever posts synchronously waits for it as well.
        first_in_line()
    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        told.send(f"http://127.0.0.1:{server.server_address[1]}")
        server.serve_forever()


@contextmanager
def a_sink(*, realtime: bool) -> Iterator[str]:
    here, there = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=serve, args=(there, realtime), daemon=True)
    process.start()
    yield here.recv()
    process.terminate()
    process.join()


def measure(
    python: str, name: str, url: str, seconds: float, *, realtime: bool
) -> dict[str, float]:
    done = subprocess.run(
        [python, "-I", CALLS, name, url, str(seconds)],
        stdout=subprocess.PIPE,
        preexec_fn=first_in_line if realtime else None,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def started(python: str, name: str, url: str, *, realtime: bool) -> dict[str, float]:
    """Return the medians of some starts, the first of which has warmed the disk."""
    runs = [measure(python, name, url, 0, realtime=realtime) for _ in range(STARTS + 1)][1:]
    return {key: median(run[key] for run in runs) for key in runs[0]}


def brought(names: list[str]) -> set[str]:
    """Return the distributions that come with these, themselves included."""
    found: set[str] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name in found:
            continue
        found.add(name)
        below = [Requirement(each) for each in requires(name) or ()]
        waiting += [
            each for each in below if not each.marker or each.marker.evaluate({"extra": ""})
        ]
    return found


def fresh(directory: str) -> tuple[str, list[str]]:
    """Install the client alone; return its interpreter and what came with it."""
    venv.create(directory, with_pip=True)
    python = str(Path(directory) / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", str(ROOT / "client")], check=True)
    listed = subprocess.run([*pip, "list", "--format", "json"], stdout=subprocess.PIPE, check=True)
    names = {each["name"] for each in json.loads(listed.stdout)}
    return python, sorted(names - {"pip", "setuptools", "wheel", "modelwatch"})


COLUMNS = {
    "brings": "{:.0f}",
    "import ms": "{:.0f}",
    "to first call ms": "{:.0f}",
    "burst p50 µs": "{:.1f}",
    "500/s: p50 µs": "{:.1f}",
    "p99 µs": "{:.1f}",
    "p99.9 µs": "{:.1f}",
}


def row(name: str, dependencies: int, found: dict[str, float]) -> list[str]:
    times = [found[key] * 1e3 for key in ("import", "ready")]
    calls = [found[key] * 1e6 for key in ("burst", "p50", "p99", "p99.9")]
    figures = zip(COLUMNS.values(), (dependencies, *times, *calls), strict=True)
    return [name, *(form.format(figure) for form, figure in figures)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--realtime", action="store_true")
    options = parser.parse_args()
    table = Table("", *COLUMNS)
    with a_sink(realtime=options.realtime) as url, tempfile.TemporaryDirectory() as directory:
        python, others = fresh(directory)
        for name in client_calls.WAYS:
            ours = name.startswith("modelwatch")
            try:
                dependencies = len(others) if ours else len(brought(BRINGS[name]))
            except PackageNotFoundError:
                continue
            here = python if ours else sys.executable
            starts = started(here, name, url, realtime=options.realtime)
            calls = measure(here, name, url, options.seconds, realtime=options.realtime)
            table.add_row(*row(name, dependencies, {**calls, **starts}))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
