import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

import modelwatch.process
import modelwatch.sender
from service.processes.api import create_app
from service.settings import Settings
from tests.conftest import RUN_DIRECTORY
from tests.contract.scripted import ScriptedServer, scripted


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an application over a real socket, and yield its address."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            log_config=None,
            access_log=False,
            # A connection that is closed while its client stalls would break the next request.
            timeout_keep_alive=600,
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Make a folder of the test's own in memory, where there is enough of it."""
    made = Path(tempfile.mkdtemp(dir=request.config.stash[RUN_DIRECTORY]))
    yield made
    # Threads that outlive the test write no more where they find nothing.
    shutil.rmtree(made.rename(f"{made}-done"))


@pytest.fixture(autouse=True)
def _none_is_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the run not end with a wait for the servers that a test's clients never had."""
    monkeypatch.setattr(modelwatch.process, "_senders", {})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """Serve what a script says to clients that retry at once."""
    monkeypatch.setattr(modelwatch.sender, "FIRST_DELAY", 0.001)
    for name in [name for name in os.environ if name.startswith("MODELWATCH_")]:
        monkeypatch.delenv(name)
    with scripted() as server:
        yield server


@pytest.fixture
def api(database_url: str) -> Iterator[str]:
    """Serve the real application without keys over the test's database; return its address."""
    settings = Settings(database_url=SecretStr(database_url), secret_key=SecretStr("k" * 40))
    app = create_app(settings, keyless=True)
    with served(app) as url:
        yield url


@pytest.fixture
def client(api: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api, trust_env=False, timeout=60) as client:
        yield client
