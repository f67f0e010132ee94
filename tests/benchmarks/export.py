"""What a fleet's exposition costs: its series, a scrape, and ingest beside the rendering.

``python -m tests.benchmarks.export [--seconds 2] [--rounds 20] [--data /dev/shm]`` starts an own
PostgreSQL with the results of 100 models of 50 features and 10 slices, and three servers over it:
one renders all the time, the others have rendered once.  Ingest is sent to them in turns by four
connections, 100 rows a request, so that whatever else the machine does meets all three; how far
the two that rest differ is what the comparison cannot tell.  A disk stalls now and then for
longer than a rendering could: ``--data`` in memory shows the rendering alone.
"""

import argparse
import http.client
import multiprocessing
import re
import socket
import tempfile
import threading
import time
import urllib.request
from itertools import count
from pathlib import Path

import numpy as np
import orjson
import uvicorn
from pydantic import SecretStr
from rich.console import Console

from service.clock import now
from service.db.embedded import EmbeddedPostgres
from service.db.engine import make_engine, make_sessions
from service.db.migrate import upgrade
from service.exporter import refresher
from service.processes.api import create_app, tune_interpreter
from service.registry.schemas import ModelDocument, VersionDocument
from service.registry.service import put_model, put_version
from service.settings import Settings
from tests.integration.fleet import seed_fleet

FEATURES = [f"x{i}" for i in range(25)]
ROWS = 100
CONNECTIONS = 4
PAUSE = 0.02
OUTPUT = {"prediction": "1", "score": 0.5}
# How long each rests after a rendering, in seconds.
SERVERS = {"resting": 1e6, "resting too": 1e6, "rendering": 0.0}
IDS = count()


def serve(url: str, listener: socket.socket, interval: float) -> None:
    refresher.REST = 0.0
    refresher.FIRST_SECONDS = 60.0
    app = create_app(Settings(database_url=SecretStr(url)), keyless=True)
    app.state.results._interval = interval
    tune_interpreter()
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
    server.run(sockets=[listener])


def prepare(url: str) -> None:
    upgrade(url)
    engine = make_engine(url)
    sessions = make_sessions(engine)
    seed_fleet(sessions)
    features = [{"name": name, "kind": "numeric"} for name in FEATURES]
    with sessions.begin() as session:
        put_model(session, "load", ModelDocument())
        document = {"features": features, "classes": ["0", "1"], "positive_class": "1"}
        put_version(session, "load", "1", VersionDocument.model_validate(document))
    engine.dispose()


def a_body(features: list[dict[str, float]]) -> bytes:
    first, at = next(IDS), now().isoformat()
    records = [
        {"prediction_id": f"{first}-{row}", "ts": at, "features": of_row, **OUTPUT}
        for row, of_row in enumerate(features)
    ]
    return orjson.dumps({"model": "load", "version": "1", "records": records})


def bodies(seconds: float) -> list[list[bytes]]:
    """Return as many requests for each connection as it could send, each with rows of its own."""
    values = np.random.default_rng(1).random((ROWS, len(FEATURES))).tolist()
    features = [dict(zip(FEATURES, row, strict=True)) for row in values]
    most = int(seconds / PAUSE)
    return [[a_body(features) for _ in range(most)] for _ in range(CONNECTIONS)]


def load(port: int, seconds: float) -> list[float]:
    """Send for a while, and return how long each request took, in milliseconds."""
    taken: list[float] = []
    prepared = bodies(seconds)
    ends = time.monotonic() + seconds

    def send(own: list[bytes]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for body in own:
            if time.monotonic() > ends:
                break
            began = time.perf_counter()
            connection.request(
                "POST", "/v1/predictions", body, {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            answer.read()
            assert answer.status == http.HTTPStatus.OK, answer.status
            taken.append(1e3 * (time.perf_counter() - began))
            # A paced client: what is measured is how long it waits, not how much fits.
            time.sleep(PAUSE)
        connection.close()

    threads = [threading.Thread(target=send, args=[own]) for own in prepared]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def scrape(port: int) -> tuple[float, bytes]:
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics/models", timeout=60) as answer:
        content = answer.read()
    return 1e3 * (time.perf_counter() - began), content


def value(content: bytes, name: str) -> float:
    (found,) = re.findall(rf"^modelwatch_export_{name} (\S+)$", content.decode(), re.MULTILINE)
    return float(found)


def run(url: str, seconds: float, rounds: int, console: Console) -> None:
    prepare(url)
    context = multiprocessing.get_context("spawn")
    ports, children = {}, []
    for name, interval in SERVERS.items():
        listener = socket.create_server(("127.0.0.1", 0))
        child = context.Process(target=serve, args=(url, listener, interval), daemon=True)
        child.start()
        children.append(child)
        ports[name] = int(listener.getsockname()[1])
        listener.close()
    try:
        for port in ports.values():
            wait_for(port)
            load(port, 1)
        taken: dict[str, list[float]] = {name: [] for name in ports}
        scrapes: dict[str, list[tuple[float, bytes]]] = {name: [] for name in ports}
        order = list(ports)
        for _ in range(rounds):
            for name in order:
                taken[name] += load(ports[name], seconds)
                scrapes[name].append(scrape(ports[name]))
            # Nobody always comes after the same one.
            order.append(order.pop(0))
        report(console, taken, scrapes)
    finally:
        for child in children:
            child.terminate()
            child.join()


def wait_for(port: int) -> None:
    for _ in range(600):
        try:
            scrape(port)
        except OSError:
            time.sleep(0.1)
        else:
            return
    message = "the server does not render"
    raise TimeoutError(message)


def report(
    console: Console, taken: dict[str, list[float]], scrapes: dict[str, list[tuple[float, bytes]]]
) -> None:
    newest = scrapes["rendering"][-1][1]
    console.print(
        f"series {value(newest, 'series'):,.0f}, dropped {value(newest, 'series_dropped'):,.0f},"
        f" {len(newest) / 1e6:.1f} MB; rendered in"
        f" {value(newest, 'refresh_duration_seconds'):.2f} s;"
        f" a scrape {max(ms for found in scrapes.values() for ms, _ in found):.0f} ms at most"
    )
    for name, found in taken.items():
        p50, p99 = np.percentile(found, [50, 99])
        seen = {value(content, "refresh_timestamp_seconds") for _, content in scrapes[name]}
        console.print(
            f"{name:<12} {len(found):>5} requests  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms"
            f"  ({len(seen)} renderings seen)"
        )
    p99 = {name: float(np.percentile(found, 99)) for name, found in taken.items()}
    pooled = float(np.percentile(taken["resting"] + taken["resting too"], 99))
    console.print(
        f"p99 of ingest during a rendering: {p99['rendering'] / pooled:.2f} of what it is without;"
        f" of the two that rest: {p99['resting too'] / p99['resting']:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--data", type=Path, help="where the database lies; the temporary files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.data) as directory:
        server = EmbeddedPostgres(Path(directory))
        try:
            run(server.start(), options.seconds, options.rounds, Console())
        finally:
            server.stop()


if __name__ == "__main__":
    main()
