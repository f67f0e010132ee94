"""The server is away while a host logs on: default for seconds, in full for half an hour."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import sized
from tests.system.harness import Service, eventually, running
from tests.system.outage_client import FEATURES

RATE = 500
UP_SECONDS = sized(default=1, full=60)
AWAY_SECONDS = sized(default=3, full=1_800)
# What is on its way, and what was logged since the last batch.
FEW = 3 * RATE
SAMPLES = 10
MEMORY_BYTES = 32 << 20
VERSION = {
    "features": [{"name": f"f{i}", "kind": "numeric"} for i in range(FEATURES)],
    "classes": ["0", "1"],
    "positive_class": "1",
}


class Client:
    """The other process, and what it says."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self._child = child

    def seen(self, line: str = "next\n") -> dict[str, Any]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(line)
        self._child.stdin.flush()
        found: dict[str, Any] = json.loads(self._child.stdout.readline())
        return found


@contextmanager
def a_client(service: Service, spool: Path) -> Iterator[Client]:
    script = Path(__file__).with_name("outage_client.py")
    child = subprocess.Popen(
        [sys.executable, str(script), service.url, str(spool), str(RATE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=service._environment,
    )
    try:
        yield Client(child)
    finally:
        child.kill()
        child.communicate()


def told(phase: str, seen: dict[str, Any]) -> None:
    low, high = (size / 2**20 for size in seen["memory"])
    stats = seen["stats"]
    print(
        f"{phase:>9}: {seen['seconds']:6.0f} s, {seen['rate']:4.0f} rows/s logged,"
        f" log() p50 {seen['p50']:6.1f} us p99 {seen['p99']:7.1f} us,"
        f" memory {low:.0f}-{high:.0f} MiB, {seen['sent_a_second']:6.0f} rows/s sent,"
        f" queued {stats['queued']}, dropped {stats['dropped']}"
    )


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_server_that_is_away_costs_its_hosts_nothing_and_has_each_row_once(
    database_url: str, tmp_path: Path
) -> None:
    with running(database_url, tmp_path) as service:
        service.put("/v1/models/loans", {"task": "binary"})
        service.put("/v1/models/loans/versions/7", VERSION)
        with a_client(service, tmp_path / "spool.db") as client:
            client.seen()
            time.sleep(UP_SECONDS)
            up = client.seen()
            told("there", up)
            (api,) = service.processes
            api.terminate()
            api.wait(timeout=120)
            client.seen()
            phases = []
            for _ in range(SAMPLES):
                time.sleep(AWAY_SECONDS / SAMPLES)
                phases.append(client.seen())
                told("away", phases[-1])
            assert phases[-1]["stats"]["queued"] > RATE * AWAY_SECONDS / 2
            service.start_api()
            sent = phases[-1]["stats"]["sent"]
            first = eventually(
                lambda: (found := client.seen())["stats"]["sent"] > sent and found,
                seconds=120,
                message="the client did not come back",
            )
            began, backlog, sent = (
                time.monotonic(),
                first["stats"]["queued"],
                first["stats"]["sent"],
            )
            drained = eventually(
                lambda: (found := client.seen())["stats"]["queued"] < FEW and found,
                seconds=1_800,
                message="the backlog does not become less",
                every=0.5,
            )
            seconds = time.monotonic() - began
            told("drained", drained)
            speed = (drained["stats"]["sent"] - sent) / seconds
            print(f"backlog of {backlog} rows gone in {seconds:.1f} s: {speed:.0f} rows/s")
            time.sleep(UP_SECONDS)
            told("after", client.seen())
            end = client.seen("\n")
        with psycopg.connect(database_url) as connection:
            stored = connection.execute(
                "SELECT count(*), count(DISTINCT prediction_id) FROM prediction"
            ).fetchone()
    rows = end["rows"]
    assert stored == (rows, rows)
    assert end["stats"]["accepted"] + end["stats"]["duplicates"] >= rows
    lost = ("dropped", "rejected", "unserialisable", "errors", "queued")
    assert {name: end["stats"][name] for name in lost} == dict.fromkeys(lost, 0)
    grown = max(phase["memory"][1] for phase in phases) - up["memory"][1]
    assert grown < MEMORY_BYTES
