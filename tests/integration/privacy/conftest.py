"""The whole API over a real socket, with a key for personal data."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from service.processes.api import create_app
from service.registry.privacy import Pseudonyms
from service.settings import Settings
from tests.integration.runs.bench import Bench

KEY = "a key of this test alone"
PSEUDONYMS = Pseudonyms(KEY)

Serve = Callable[..., httpx.Client]


@pytest.fixture
def serve(database_url: str) -> Iterator[Serve]:
    """Return how to start an API with settings of its own; it answers with a client."""
    started: list[tuple[httpx.Client, uvicorn.Server, threading.Thread]] = []

    def start(pii_key: str | None = KEY) -> httpx.Client:
        secret = None if pii_key is None else SecretStr(pii_key)
        app = create_app(
            Settings(database_url=SecretStr(database_url), pii_key=secret), keyless=True
        )
        options = uvicorn.Config(
            app, port=0, log_config=None, access_log=False, timeout_keep_alive=600
        )
        server = uvicorn.Server(options)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30)
        started.append((client, server, thread))
        return client

    yield start
    for client, server, thread in started:
        client.close()
        server.should_exit = True
        thread.join()


@pytest.fixture
def bench(
    sessions: sessionmaker[Session], engine: Engine, database_url: str, tmp_path: Path
) -> Iterator[Bench]:
    # Ingest makes the partitions, one for each month.
    made = Bench(sessions, engine, database_url, tmp_path, partition=False)
    yield made
    made.reader.close()
