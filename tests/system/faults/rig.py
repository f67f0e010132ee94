"""All of the service over a database of its own, with a proxy on every wire."""

import io
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pandas as pd

from service.access.grants import Scope
from service.access.service import Wish
from service.db.migrate import upgrade
from tests.patience import PatientClient
from tests.system.faults import audit, roles
from tests.system.faults.audit import expedite, is_drained
from tests.system.faults.database import Database
from tests.system.faults.load import MODEL, VERSION, Plan, label, log_by_sdk, prediction, send
from tests.system.faults.proxy import Proxy
from tests.system.faults.roles import Role
from tests.system.harness import a_key, eventually, free_port

REFERENCE = range(-4_000, 0)
MONITOR = {
    "model": MODEL,
    "window": "1h",
    "grace": "0s",
    "performance": {"metrics": ["accuracy"]},
    "discover_slices": False,
}
EVENTS = ["retraining.requested", "incident.opened", "incident.closed"]


class Hook:
    """Receives events, and answers them only while it is not held up."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.answers = threading.Event()
        self.answers.set()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                hook.ids.append(self.headers["webhook-id"])
                hook.answers.wait(60)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="hook")
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        """Stop listening."""
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Rig:
    """Processes, proxies and a database; whoever dies is started again by ``supervise``."""

    def __init__(
        self,
        scratch: Path,
        *,
        apis: int = 2,
        workers: int = 2,
        serve: Callable[..., None] = roles.serve,
        settings: dict[str, Any] | None = None,
        database: dict[str, str] | None = None,
    ) -> None:
        self.scratch = scratch
        self.database = Database(scratch, **(database or {}))
        self.hook = Hook()
        self._settings = settings or {}
        upgrade(self.database.url)
        self.links = [Proxy(lambda: self.database.socket) for _ in range(apis + 1)]
        self.ports = [free_port() for _ in range(apis)]
        self.doors = [Proxy(partial(int, port)) for port in self.ports]
        self.apis = [
            Role(f"api-{i}", scratch, serve, self.settings(self.links[i], port=port))
            for i, port in enumerate(self.ports)
        ]
        self.workers = [
            Role(f"worker-{i}", scratch, roles.work, self.settings(self.links[-1]))
            for i in range(workers)
        ]
        self.clients: list[Role] = []
        key = a_key(self.database.url, Wish(scopes=[Scope.ADMIN]))
        headers = {"Authorization": f"Bearer {key}"}
        self.plan = Plan(str(scratch), [door.port for door in self.doors], headers=headers)
        self.resting: set[Role] = set()
        self._due: dict[Role, float] = {}

    def settings(self, link: Proxy, **own: Any) -> dict[str, Any]:
        """Return the settings of a process behind a link to the database."""
        return {
            "database_url": self.database.through(link.port),
            "quiet": "PT0.3S",
            "lease": "PT1S",
            "poll": "PT0.05S",
            "evidently": False,
            "secret_key": "k" * 32,
            "webhook_allow": urlsplit(self.hook.url).netloc,
            **self._settings,
            **own,
        }

    @property
    def roles(self) -> list[Role]:
        """Return everything that is kept alive."""
        return [*self.apis, *self.workers, *self.clients]

    def start(self) -> None:
        """Start the service, and register the model."""
        for role in (*self.apis, *self.workers):
            role.start()
        for api in range(len(self.apis)):
            self.await_ready(api)
        self.register()

    def await_ready(self, api: int) -> None:
        """Wait until an API is ready."""
        port = self.ports[api]
        eventually(
            lambda: _is_ready(port), seconds=120, message=f"{self.apis[api].name}: not ready"
        )

    def register(self) -> None:
        """Register the model, its reference and its monitor."""
        path, rows = f"/v1/models/{MODEL}", [{**prediction(n), **label(n)} for n in REFERENCE]
        table = pd.DataFrame([{**row.pop("features"), **row} for row in rows])
        content = io.BytesIO()
        table[["income", "region", "prediction", "score", "label"]].to_parquet(content)
        version = {"classes": ["0", "1"], "positive_class": "1", "stage": "live"}
        with self.client() as client:
            for where, document in (
                (path, {"task": "binary"}),
                (f"{path}/versions/{VERSION}", version),
                (f"{path}/monitor", MONITOR),
                ("/v1/webhooks/hook", {"url": self.hook.url, "events": EVENTS}),
            ):
                answer = client.put(where, json=document)
                assert answer.status_code == 200, answer.text
            answer = client.put(
                f"{path}/versions/{VERSION}/reference",
                content=content.getvalue(),
                headers={"Content-Type": "application/vnd.apache.parquet"},
            )
            assert answer.status_code == 200, answer.text

    def client(self, api: int = 0) -> httpx.Client:
        """Return a client of one API, past the proxies."""
        url = f"http://127.0.0.1:{self.ports[api]}"
        return PatientClient(base_url=url, timeout=60, trust_env=False, headers=self.plan.headers)

    def post(self, numbers: range) -> None:
        """Send predictions and their labels, past the proxies."""
        with self.client() as client:
            for kind, make in (("predictions", prediction), ("labels", label)):
                own = {"version": VERSION} if kind == "predictions" else {}
                envelope = {"model": MODEL, **own, "records": [make(n) for n in numbers]}
                answer = client.post(f"/v1/{kind}", json=envelope)
                assert answer.status_code == 200, answer.text
                assert answer.json()["accepted"] == len(numbers)

    def load(self, *, sdk: bool = True) -> None:
        """Start the clients."""
        self.clients = [Role("client", self.scratch, send, self.plan)]
        if sdk:
            self.clients.append(Role("sdk", self.scratch, log_by_sdk, self.plan))
        for client in self.clients:
            client.start()

    def await_batches(self, count: int) -> None:
        """Wait until so many more batches are acknowledged."""
        stored, calm = self.plan.batches(), random.Random(0)
        deadline = time.monotonic() + 120
        while self.plan.batches() < stored + count:
            assert time.monotonic() < deadline, f"nothing is acknowledged:\n{self.logs()}"
            self.supervise(calm)
            time.sleep(0.02)

    def supervise(self, choice: random.Random) -> None:
        """Start again whatever has ended and is not to rest, a moment later."""
        self.database.revive()
        for role in self.roles:
            if (
                role in self.resting
                or role.exit_code is None
                or (role.exit_code == 0 and role in self.clients)
            ):
                continue
            due = self._due.setdefault(role, time.monotonic() + choice.uniform(0, 0.2))
            if time.monotonic() >= due:
                del self._due[role]
                role.start()

    def supervise_for(self, seconds: float, choice: random.Random) -> None:
        """Keep everything alive for a while."""
        deadline = time.monotonic() + seconds
        while True:
            self.supervise(choice)
            if time.monotonic() >= deadline:
                return
            time.sleep(0.02)

    def finish(self, seconds: float) -> None:
        """Let the clients end, and the workers do all that is due."""
        deadline = time.monotonic() + seconds
        self.finish_clients(seconds)
        self.drain(deadline - time.monotonic())

    def finish_clients(self, seconds: float) -> None:
        """Let the clients end once all that they have begun is acknowledged."""
        self.plan.finish()
        calm = random.Random(0)
        deadline = time.monotonic() + seconds
        while any(client.exit_code != 0 for client in self.clients):
            assert time.monotonic() < deadline, f"the clients do not end:\n{self.logs()}"
            self.supervise(calm)
            time.sleep(0.1)

    def drain(self, seconds: float) -> None:
        """Wait until nothing is due and every event is delivered."""
        deadline = time.monotonic() + seconds
        self.judge(seconds)
        self.deliver(deadline - time.monotonic())

    def judge(self, seconds: float) -> None:
        """Wait until the workers have nothing left to do."""
        deadline = time.monotonic() + seconds
        calm = random.Random(0)
        while not is_drained(self.database.url):
            assert time.monotonic() < deadline, f"work is left:\n{self.logs()}"
            self.supervise(calm)
            time.sleep(0.1)

    def deliver(self, seconds: float) -> None:
        """Wait until every event is delivered; those that a dead worker has taken at once."""
        deadline = time.monotonic() + seconds
        expedite(self.database.url)
        while audit.look(self.database.url)["events_undelivered"]:
            assert time.monotonic() < deadline, f"an event is not delivered:\n{self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(f"{role.name}:\n{role.log()[-3000:]}" for role in self.roles)

    def close(self) -> None:
        """End everything."""
        for role in self.roles:
            role.send(signal.SIGCONT)
        for client in self.clients:
            client.send(signal.SIGKILL)
        for role in (*self.clients, *self.workers, *self.apis):
            role.stop()
        for proxy in (*self.doors, *self.links):
            proxy.close()
        self.hook.close()
        self.database.close()


@contextmanager
def rigged(scratch: Path, **options: Any) -> Iterator[Rig]:
    """Run the service for a test."""
    rig = Rig(scratch, **options)
    try:
        rig.start()
        yield rig
    finally:
        rig.close()


def _is_ready(port: int) -> bool:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False, timeout=60)
    except httpx.TransportError:
        return False
    return answer.status_code == 200
