"""Hosts that are killed while they log: what they were promised is stored once."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from modelwatch.spool import Spool
from tests.conftest import sized
from tests.system.harness import Service, running

KILLS = sized(default=20, full=200)
LONGEST_LIFE = 0.4
SEED = 5
CLIENT = Path(__file__).with_name("spool_client.py")


def register(service: Service) -> None:
    service.put("/v1/models/loans", {"task": "binary"})
    features = [{"name": "income", "kind": "numeric"}]
    version = {"features": features, "classes": ["0", "1"], "positive_class": "1"}
    service.put("/v1/models/loans/versions/7", version)


def killed(service: Service, given: list[str], choice: random.Random) -> None:
    """Let a host live for a moment."""
    environment = {**os.environ, "MODELWATCH_API_KEY": service.key}
    command = [sys.executable, str(CLIENT), service.url, *given]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as host:
        assert host.stdout is not None
        # Some while they import, open or repair; most while they log.
        if choice.random() < 0.9:
            host.stdout.readline()
        time.sleep(choice.uniform(0, LONGEST_LIFE))
        host.kill()


def test_hosts_that_are_killed_keep_what_they_were_promised(
    database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path, journal = tmp_path / "a.spool", tmp_path / "journal"
    choice = random.Random(SEED)
    with running(database_url, tmp_path) as service:
        register(service)
        for life in range(KILLS):
            killed(service, [str(path), str(journal), str(life)], choice)
        left = sum(one.rows for one in Spool(path).counts())
        environment = {**os.environ, "MODELWATCH_API_KEY": service.key}
        push = ["-m", "modelwatch.spool_command", "push", str(path), "--url", service.url]
        subprocess.run([sys.executable, *push], env=environment, check=True)
    promised = journal.read_text().split()
    with psycopg.connect(database_url) as connection:
        stored = [row[0] for row in connection.execute("SELECT prediction_id FROM prediction")]
        wrong = connection.execute(
            'SELECT count(*) FROM logs."loans@7" WHERE abs(income'
            " - split_part(prediction_id, '-', 3)::bigint * 7919 % 1000 / 1000.0) > 1e-12"
        ).fetchone()
    print(f"{KILLS} kills, {len(promised)} promised, {len(stored)} stored, {left} left at the end")
    assert len(promised) > KILLS
    assert len(promised) == len(set(promised))
    assert set(promised) <= set(stored)
    assert len(stored) == len(set(stored))
    assert wrong == (0,)
