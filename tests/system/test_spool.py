"""Hosts that are killed while they log: what they were promised is stored once."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import psycopg
import pytest

from modelwatch.spool import Spool
from tests.conftest import a_database, sized
from tests.system.faults.proxy import Proxy
from tests.system.harness import Service, running

KILLS = sized(default=20, full=200)
KILLS_OF_CONTROL = 6
# On a busy machine a host may die a few times before anything of it was on the wire.
MOST_TIMES = 20
LONGEST_LIFE = 0.4
SEED = 5
CLIENT = Path(__file__).with_name("spool_client.py")
WRONG = """
    SELECT count(*) FROM logs."loans@7" WHERE abs(income
    - split_part(prediction_id, '-', 3)::bigint * 7919 % 1000 / 1000.0) > 1e-12"""


@pytest.fixture(scope="module")
def database(cluster_url: str) -> Iterator[str]:
    with a_database(cluster_url) as url:
        yield url


@pytest.fixture(scope="module")
def service(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(database, tmp_path_factory.mktemp("logs")) as service:
        service.put("/v1/models/loans", {"task": "binary"})
        features = [{"name": "income", "kind": "numeric"}]
        version = {"features": features, "classes": ["0", "1"], "positive_class": "1"}
        service.put("/v1/models/loans/versions/7", version)
        yield service


class Hosts:
    """They share a spool and a journal of what they were promised, and a wire to the service."""

    def __init__(self, service: Service, folder: Path, name: str) -> None:
        self.path = folder / name
        self.journal = folder / f"{name}.journal"
        self._name = name
        self._service = service
        self._choice = random.Random(SEED)
        self._lives = count()
        self._environment = {**os.environ, "MODELWATCH_API_KEY": service.key}

    def live_and_die(self, lives: int) -> None:
        with closing(Proxy(lambda: self._service.port)) as wire:
            for _ in range(lives):
                self._live_and_die(wire)

    def _live_and_die(self, wire: Proxy) -> None:
        """Live for a moment, and what is sent at its end may come to nothing."""
        choice = self._choice
        url = f"http://127.0.0.1:{wire.port}"
        given = [url, str(self.path), str(self.journal), str(next(self._lives)), self._name]
        command = [sys.executable, str(CLIENT), *given]
        with subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE) as host:
            assert host.stdout is not None
            # Some while they import, open or repair; most while they log.
            if choice.random() < 0.9:
                host.stdout.readline()
            time.sleep(choice.uniform(0, LONGEST_LIFE))
            if choice.random() < 0.5:
                wire.hold()
                time.sleep(choice.uniform(0, LONGEST_LIFE / 4))
            host.kill()
        wire.cut()
        wire.release()

    def push(self) -> None:
        command = [sys.executable, "-m", "modelwatch.spool_command", "push", str(self.path)]
        subprocess.run([*command, "--url", self._service.url], env=self._environment, check=True)

    def promised(self) -> list[str]:
        return self.journal.read_text().split()

    def stored(self, database: str) -> list[str]:
        query = "SELECT prediction_id FROM prediction WHERE prediction_id LIKE %s"
        with psycopg.connect(database) as connection:
            return [row[0] for row in connection.execute(query, (f"{self._name}-%",))]


def test_hosts_that_are_killed_keep_what_they_were_promised(
    service: Service, database: str, tmp_path: Path
) -> None:
    hosts = Hosts(service, tmp_path, "careful")
    hosts.live_and_die(KILLS)
    left = sum(one.rows for one in Spool(hosts.path).counts())
    hosts.push()
    promised, stored = hosts.promised(), hosts.stored(database)
    print(f"{KILLS} kills, {len(promised)} promised, {len(stored)} stored, {left} left at the end")
    assert len(promised) > KILLS
    assert set(promised) <= set(stored)
    assert len(stored) == len(set(stored))
    with psycopg.connect(database) as connection:
        assert connection.execute(WRONG).fetchone() == (0,)


def test_a_host_that_does_not_wait_for_the_answer_is_found_out(
    service: Service, database: str, tmp_path: Path
) -> None:
    hosts = Hosts(service, tmp_path, "careless")
    lost = set[str]()
    for _ in range(MOST_TIMES):
        hosts.live_and_die(KILLS_OF_CONTROL)
        hosts.push()
        lost = set(hosts.promised()) - set(hosts.stored(database))
        if lost:
            break
    assert lost
