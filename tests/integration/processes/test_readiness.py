"""Ready means that a 2xx would be kept; where it would not, ingest gives none."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from service.db.embedded import EmbeddedPostgres
from service.db.migrate import upgrade
from service.processes.api import create_app
from service.settings import Settings
from tests.clients import TestClient
from tests.integration.ingest.conftest import FEATURES, a_prediction

LOSSY = dict.fromkeys(("fsync", "full_page_writes", "synchronous_commit"), "off")


@contextmanager
def a_client(url: str) -> Iterator[TestClient]:
    app = create_app(Settings(_env_file=None, database_url=SecretStr(url)), keyless=True)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def register(client: TestClient) -> None:
    assert client.put("/v1/models/loans", json={}).status_code == 200
    document = {"features": FEATURES, "classes": ["0", "1"], "positive_class": "1"}
    assert client.put("/v1/models/loans/versions/7", json=document).status_code == 200


def send(client: TestClient) -> tuple[int, str | None, str | None]:
    batch = {"model": "loans", "version": "7", "records": [a_prediction()]}
    answer = client.post("/v1/predictions", json=batch)
    return answer.status_code, answer.json().get("code"), answer.headers.get("retry-after")


def test_a_database_that_may_lose_rows_is_named_and_given_none(tmp_path: Path) -> None:
    lossy = EmbeddedPostgres(tmp_path / "data", LOSSY)
    try:
        url = lossy.start()
        upgrade(url)
        with a_client(url) as client:
            register(client)
            answer = client.get("/readyz")
            assert (answer.status_code, answer.json()["code"]) == (503, "not-durable")
            assert ", ".join(sorted(LOSSY)) in answer.json()["detail"]
            assert send(client) == (503, "not-durable", "30")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM prediction").fetchone() == (0,)
    finally:
        lossy.stop()
    durable = EmbeddedPostgres(tmp_path / "data")
    try:
        with a_client(durable.start()) as client:
            assert client.get("/readyz").status_code == 200
            assert send(client) == (200, None, None)
    finally:
        durable.stop()


def test_ingest_asks_for_synchronous_commits_where_the_database_would_not(
    database_url: str, cluster_url: str
) -> None:
    name = conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(cluster_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with a_client(database_url) as client:
        register(client)
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["detail"].endswith("synchronous_commit off")
        assert send(client) == (200, None, None)


def test_without_its_database_a_process_is_alive_and_not_ready(
    database_url: str, cluster_url: str
) -> None:
    name = conninfo_to_dict(database_url)["dbname"]
    with a_client(database_url) as client:
        register(client)
        with psycopg.connect(cluster_url, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            assert client.get("/healthz").status_code == 200
            answer = client.get("/readyz")
            assert (answer.status_code, answer.json()["code"]) == (503, "database-away")
            assert answer.headers["retry-after"] == "2"
            assert send(client) == (503, "database-away", "2")
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert client.get("/readyz").status_code == 200
        assert send(client) == (200, None, None)
