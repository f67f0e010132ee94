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
from pathlib import Path

import psutil
import psycopg

from modelwatch import Monitor
from service.db.embedded import EmbeddedPostgres
from service.db.migrate import upgrade
from tests.benchmarks.client_calls import FEATURES, quantile
from tests.system import harness
from tests.system.harness import Service

NAMES = [f"feature_{number}" for number in range(FEATURES)]
REPORT_SECONDS = 60.0


class Host(threading.Thread):
    """Calls ``log`` at a steady rate until it is told to stop."""

    def __init__(self, monitor: Monitor, rate: float) -> None:
        super().__init__(daemon=True)
        self._monitor = monitor
        self._rate = rate
        self._stop = threading.Event()
        self.ids: list[str] = []
        self.took: list[float] = []

    def run(self) -> None:
        start = time.perf_counter()
        while not self._stop.is_set():
            features = {name: random.random() for name in NAMES}
            began = time.perf_counter()
            made = self._monitor.log(features, 1, score=0.83)
            self.took.append(time.perf_counter() - began)
            self.ids.append(made)
            time.sleep(max(0.0, start + len(self.ids) / self._rate - time.perf_counter()))

    def stop(self) -> None:
        self._stop.set()
        self.join()

    def said(self) -> str:
        took, self.took = self.took, []
        p50, p99 = (quantile(took, share) * 1e6 for share in (0.5, 0.99))
        memory = psutil.Process().memory_info().rss / 2**20
        return f"p50 {p50:.1f} µs, p99 {p99:.1f} µs, memory {memory:.0f} MiB"


def register(service: Service) -> None:
    service.put("/v1/models/loans", {"task": "binary"})
    features = [{"name": name, "kind": "numeric"} for name in NAMES]
    version = {"features": features, "classes": ["0", "1"], "positive_class": "1"}
    service.put("/v1/models/loans/versions/7", version)


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
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        database = EmbeddedPostgres(folder / "database")
        url = database.start()
        upgrade(url)
        service = Service(url, folder)
        path = folder / "a.spool"
        monitor = Monitor("loans", "7", url=service.url, api_key=service.key, spool=path)
        host = Host(monitor, options.rate)
        host.start()
        end = time.monotonic() + options.minutes * 60
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, REPORT_SECONDS))
            size = path.stat().st_size / 2**20
            print(f"away: {len(host.ids)} logged, file {size:.0f} MiB; {host.said()}", flush=True)
        service.start_api()
        register(service)
        monitor.flush(0)
        drain(monitor, host)
        host.stop()
        print(f"flushed: {monitor.flush(60)}; {monitor.stats()}")
        with psycopg.connect(url) as connection:
            stored = {row[0] for row in connection.execute("SELECT prediction_id FROM prediction")}
            rows = connection.execute("SELECT count(*) FROM prediction").fetchone()
        print(f"{len(host.ids)} logged, {len(set(host.ids) - stored)} lost, {rows} rows stored")
        service.stop()
        database.stop()


if __name__ == "__main__":
    main()
