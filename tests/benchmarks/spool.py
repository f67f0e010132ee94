"""A host whose server is away: what ``log`` costs it, what it holds, and how it is drained.

``python -m tests.benchmarks.spool [--minutes 30] [--rate 500]`` logs with a spool while nobody
listens, then starts a real service at that address over an embedded PostgreSQL, and goes on logging
until the spool is empty.  Every row is looked for in the table.  ``--realtime`` as in
``tests.benchmarks.client``.
"""

import argparse
import os
import random
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import psutil
import psycopg

from modelwatch import Monitor
from service.db.embedded import EmbeddedPostgres
from service.db.migrate import upgrade
from tests.benchmarks.client_calls import FEATURES, quantile
from tests.system import harness
from tests.system.harness import Service, running

NAMES = [f"feature_{number}" for number in range(FEATURES)]
REPORT_SECONDS = 60.0


class Host(threading.Thread):
    """Calls ``log`` at a steady rate until it is told to stop."""

    def __init__(self, monitor: Monitor, rate: float, journal: Path) -> None:
        super().__init__(daemon=True)
        self._monitor = monitor
        self._rate = rate
        self._ended = threading.Event()
        # On the disk: a list of them would be the memory that is measured.
        self._journal = journal.open("w")
        self.logged = 0
        self.took: list[float] = []

    def run(self) -> None:
        start = time.perf_counter()
        while not self._ended.is_set():
            features = {name: random.random() for name in NAMES}
            began = time.perf_counter()
            made = self._monitor.log(features, 1, score=0.83)
            self.took.append(time.perf_counter() - began)
            self._journal.write(f"{made}\n")
            self.logged += 1
            time.sleep(max(0.0, start + self.logged / self._rate - time.perf_counter()))

    def stop(self) -> None:
        self._ended.set()
        self.join()
        self._journal.close()

    def said(self) -> str:
        took, self.took = self.took, []
        p50, p99 = (quantile(took, share) * 1e6 for share in (0.5, 0.99))
        memory = psutil.Process().memory_info().rss / 2**20
        return f"p50 {p50:.1f} µs, p99 {p99:.1f} µs, memory {memory:.0f} MiB"


class Away:
    """A service that is not there yet, over a database that is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._database = EmbeddedPostgres(folder / "database")
        self.url = self._database.start()
        upgrade(self.url)
        with running(self.url, folder) as service:
            service.put("/v1/models/loans", {"task": "binary"})
            features = [{"name": name, "kind": "numeric"} for name in NAMES]
            version = {"features": features, "classes": ["0", "1"], "positive_class": "1"}
            service.put("/v1/models/loans/versions/7", version)
        self.service = Service(self.url, folder)

    def close(self) -> None:
        self.service.stop()
        self._database.stop()


def measure(away: Away, seconds: float, rate: float) -> None:
    path, journal = away.folder / "a.spool", away.folder / "ids"
    service = away.service
    monitor = Monitor("loans", "7", url=service.url, api_key=service.key, spool=path)
    host = Host(monitor, rate, journal)
    host.start()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, REPORT_SECONDS))
        size = path.stat().st_size / 2**20
        print(f"away: {host.logged} logged, file {size:.0f} MiB; {host.said()}", flush=True)
    service.start_api()
    monitor.flush(0)
    drain(monitor, host)
    host.stop()
    print(f"flushed: {monitor.flush(60)}; {monitor.stats()}")
    with psycopg.connect(away.url) as connection:
        stored = [row[0] for row in connection.execute("SELECT prediction_id FROM prediction")]
    lost = set(journal.read_text().split()) - set(stored)
    doubled = len(stored) - len(set(stored))
    print(f"{host.logged} logged, {len(lost)} lost, {doubled} doubled, {len(stored)} rows stored")


def drain(monitor: Monitor, host: Host) -> None:
    waiting = monitor.stats()["spooled"]
    began = time.monotonic()
    while monitor.stats()["spooled"] > 1_000:
        time.sleep(0.05)
    seconds = time.monotonic() - began
    print(
        f"{waiting} rows drained in {seconds:.1f} s: {waiting / seconds:.0f} rows/s; {host.said()}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--realtime", action="store_true")
    options = parser.parse_args()
    # A machine that is busy with other things takes a while to import it all.
    harness.START_SECONDS = 300.0
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    with tempfile.TemporaryDirectory() as directory, closing(Away(Path(directory))) as away:
        measure(away, options.minutes * 60, options.rate)


if __name__ == "__main__":
    main()
