"""Real processes of the service on loopback, for tests that talk to it as its users do."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
from sqlalchemy.orm import Session

from service.access.grants import Scope
from service.access.service import Wish, create_key
from service.db.engine import make_engine
from tests.patience import PatientClient

T = TypeVar("T")

# For a hang: on two busy cores a start has taken half a minute.
START_SECONDS = 300.0


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(
    what: Callable[[], T | None], *, seconds: float, message: str, every: float = 0.05
) -> T:
    """Return the first true answer, or fail when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = what()
        if answer:
            return answer
        time.sleep(every)
    raise AssertionError(message)


def a_key(database_url: str, wish: Wish) -> str:
    """Make a key, and return it."""
    engine = make_engine(database_url, pool=1)
    try:
        with Session(engine) as session, session.begin():
            return create_key(session, "cli", wish).text
    finally:
        engine.dispose()


class Service:
    """An API on a free port, and workers, over one database; ``client`` has an admin key."""

    def __init__(
        self, database_url: str, logs: Path, *, key: str | None = None, **environment: str
    ) -> None:
        self._logs = logs
        # Who has no tables yet has no key of theirs.
        self.key = key or a_key(database_url, Wish(scopes=[Scope.ADMIN]))
        self._environment = {
            **os.environ,
            "MODELWATCH_DATABASE_URL": database_url,
            "MODELWATCH_QUIET": "PT0.3S",
            "MODELWATCH_LEASE": "PT2S",
            "MODELWATCH_POLL": "PT0.05S",
            "MODELWATCH_EVIDENTLY": "false",
            "MODELWATCH_API_KEY": self.key,
            **environment,
        }
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = PatientClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=180,
            trust_env=False,
        )
        self._children: list[subprocess.Popen[bytes]] = []
        self._log_files: list[Path] = []

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        """Return what was started, in order."""
        return list(self._children)

    def start_api(self) -> None:
        """Start the API, and return when it is ready."""
        self.spawn_api()
        eventually(self._ready, seconds=START_SECONDS, message="the API did not become ready")

    def spawn_api(self) -> None:
        """Start the API, which need not become ready."""
        self._spawn("serve", "--host", "127.0.0.1", "--port", str(self.port))

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start a worker."""
        return self._spawn("worker")

    def stop(self) -> None:
        """End what was started."""
        self.client.close()
        for child in self._children:
            if child.poll() is None:
                child.terminate()
        for child in self._children:
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def check_alive(self) -> None:
        """Fail, with its last words, if a process has ended by itself: nothing will come of it."""
        for child, log in zip(self._children, self._log_files, strict=True):
            assert child.poll() is None, (
                f"{child.args!r} ended with {child.returncode}:\n{log.read_text()[-2000:]}"
            )

    def evaluate(self, model: str, until: datetime, **body: Any) -> dict[str, Any]:
        """Ask for an evaluation, and return its final state."""
        answer = self.client.post(
            f"/v1/models/{model}/evaluate", json={"until": until.isoformat(), **body}
        )
        assert answer.status_code == 202, answer.text
        number = answer.json()["evaluation"]

        def finished() -> dict[str, Any] | None:
            progress: dict[str, Any] = self.get(f"/v1/evaluations/{number}")
            return progress if progress["state"] in {"done", "failed"} else None

        progress = eventually(finished, seconds=400, message="the evaluation did not end")
        assert progress["state"] == "done", progress
        return progress

    def get(self, path: str, **params: str) -> Any:
        """Return a document, which must be there."""
        answer = self.client.get(path, params=params)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"
        return answer.json()

    def put(self, path: str, document: dict[str, Any]) -> Any:
        """Store a document, which must be accepted."""
        answer = self.client.put(path, json=document)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"
        return answer.json()

    def _ready(self) -> bool:
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        log = self._logs / f"{arguments[0]}-{len(self._children)}.log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "service.processes.cli", *arguments],
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        self._children.append(child)
        self._log_files.append(log)
        return child


@contextmanager
def running(database_url: str, logs: Path, **environment: str) -> Iterator[Service]:
    """Run an API over the database; workers are the test's to start."""
    service = Service(database_url, logs, **environment)
    try:
        service.start_api()
        yield service
    finally:
        service.stop()
