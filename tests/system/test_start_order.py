"""Processes that start before their tables are there, and lose their database later."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from service.access.grants import Scope
from service.access.service import Wish
from service.access.tokens import new_token
from service.db.migrate import upgrade
from tests.conftest import with_database
from tests.system.harness import START_SECONDS, Service, a_key, eventually

MIGRATE = "the database has not the tables of this release: run `modelwatch migrate`"


@pytest.fixture
def bare_url(cluster_url: str) -> Iterator[str]:
    """Make a database without tables, and return its URL."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(cluster_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        yield with_database(cluster_url, name)
        server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_before_the_tables_are_there_and_while_the_database_is_away_each_says_so_once(
    bare_url: str, cluster_url: str, tmp_path: Path
) -> None:
    service = Service(bare_url, tmp_path, key=new_token("live").text)
    try:
        check(service, bare_url, cluster_url, tmp_path)
    finally:
        service.stop()


def check(service: Service, bare_url: str, cluster_url: str, logs: Path) -> None:
    service.spawn_api()
    service.start_worker()

    def lines(process: str, saying: str) -> int:
        (log,) = logs.glob(f"{process}-*.log")
        return log.read_text().count(saying)

    def says(process: str, what: str) -> None:
        eventually(
            lambda: lines(process, what), seconds=START_SECONDS, message=f"{process}: no {what}"
        )

    for process in ("serve", "worker"):
        says(process, MIGRATE)
    for path in ("/readyz", "/v1/models"):
        answer = service.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "not-migrated")
        assert "modelwatch migrate" in answer.json()["detail"]
    assert service.client.get("/healthz").status_code == 200
    upgrade(bare_url)
    service.client.headers["Authorization"] = (
        f"Bearer {a_key(bare_url, Wish(scopes=[Scope.ADMIN]))}"
    )
    eventually(lambda: works(service), seconds=START_SECONDS, message="no key was accepted")
    says("worker", "is running")

    name = conninfo_to_dict(bare_url)["dbname"]
    with psycopg.connect(cluster_url, autocommit=True) as server:
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        for process in ("serve", "worker"):
            says(process, "the database does not answer: ")
        for _ in range(20):
            assert httpx.get(f"{service.url}/readyz", timeout=60).status_code == 503
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
    for process in ("serve", "worker"):
        says(process, "the database answers again")
        assert (lines(process, MIGRATE), lines(process, "Traceback")) == (1, 0)
        # A machine that stalls has outages of its own; every attempt would be dozens.
        assert 1 <= lines(process, "does not answer") <= 3
    service.check_alive()


def works(service: Service) -> bool:
    try:
        return service.client.get("/v1/models").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
