"""Rows per second, durable, over HTTP beside raw binary COPY of the same rows.

``python -m tests.benchmarks.ingest [--seconds 4] [--processes 1]`` starts an own PostgreSQL and
real server processes on loopback, which share one socket as replicas of the API share their port;
clients are plain sockets in this process.  A 200 is sent after the commit, so every row that is
counted is durable.  The tutorial's way, a body model and an ORM insert a request, is beside it.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import socket
import tempfile
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import uvicorn
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from sqlalchemy import DateTime, Engine
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.requests import Request
from starlette.responses import Response

from service.clock import now
from service.db.embedded import EmbeddedPostgres
from service.db.engine import make_engine, make_sessions
from service.db.migrate import upgrade
from service.ingest.bodies import read_sent, read_typed
from service.ingest.codec import Codec
from service.ingest.partitions import Partitions, month_of_hour
from service.ingest.routes import mount_ingest, mount_raw
from service.ingest.service import create_ingest
from service.ingest.staging import IDENTITY, copy_into, copy_keys, in_order
from service.ingest.times import HOUR, Horizon, microseconds
from service.ingest.verdicts import Verdicts
from service.processes.api import tune_interpreter
from service.registry.repository import find_version
from service.registry.schemas import ModelDocument, VersionDocument
from service.registry.service import put_model, put_version
from service.settings import Settings

NUMBERS = [f"x{i}" for i in range(20)]
TEXTS = [f"k{i}" for i in range(5)]
CASES = [(1, 64), (100, 16), (1_000, 8), (1_000, 16)]
COPY_ROWS = 100_000


def records(count: int, seed: int) -> list[dict[str, Any]]:
    random_ = random.Random(seed)
    words = ["north", "south", "east", "west", "elsewhere"]
    stamp = f"{now():%Y-%m-%dT%H}"
    return [
        {
            "prediction_id": f"{random_.getrandbits(96):024x}",
            "ts": f"{stamp}:00:{i % 60:02}.{i % 1_000_000:06}Z",
            "features": {
                **{name: random_.gauss(0, 1) for name in NUMBERS},
                **{name: random_.choice(words) for name in TEXTS},
            },
            "prediction": "1",
            "score": random_.random(),
        }
        for i in range(count)
    ]


def serve(url: str, listener: socket.socket) -> None:
    engine = make_engine(url)
    app = FastAPI()
    mount_ingest(app)
    ingest = create_ingest(Settings(), url, make_sessions(engine))
    app.state.ingest = ingest

    async def no_sink(request: Request) -> Response:
        media, body = await read_typed(request, ingest.settings)
        sent = await read_sent(request, "predictions", ingest.settings, ingest.arrow, media, body)
        batch = await ingest.read_predictions(sent)
        batch.verdicts.accepted = len(batch)
        return Response(json.dumps(batch.verdicts.document()), media_type="application/json")

    mount_raw(app, "/no-sink", "predictions", no_sink)
    mount_tutorial(app, engine)
    tune_interpreter()

    async def main() -> None:
        ingest.start()
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        await uvicorn.Server(config).serve(sockets=[listener])
        await ingest.stop()

    uvloop.run(main())


class Told(BaseModel):
    """A prediction as a tutorial's body model has it."""

    prediction_id: str
    ts: datetime
    features: dict[str, float | str | None]
    prediction: str
    score: float


class Tutorial(DeclarativeBase):
    """The tables of the tutorial."""


class Logged(Tutorial):
    """A prediction as a tutorial's table has it."""

    __tablename__ = "tutorial"
    prediction_id: Mapped[str] = mapped_column(primary_key=True)
    ts: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    features: Mapped[dict[str, Any]] = mapped_column(JSONB)
    prediction: Mapped[str]
    score: Mapped[float]


def mount_tutorial(app: FastAPI, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
        Tutorial.metadata.create_all(connection)
    sessions = make_sessions(engine)

    @app.post("/tutorial")
    def log(told: Told) -> dict[str, Any]:
        with sessions.begin() as session:
            session.add(Logged(**told.model_dump()))
        return {"accepted": 1, "duplicates": 0, "rejected": []}


def request_bytes(path: str, rows: list[dict[str, Any]], header: str = "") -> bytes:
    content = {"model": "loans", "version": "7", "records": rows}
    body = json.dumps(rows[0] if path == "/tutorial" else content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{header}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Client(asyncio.Protocol):
    """One connection: sends a request, waits for the answer, times it."""

    def __init__(self, requests: Any, latencies: list[float], done: asyncio.Event) -> None:
        self.requests, self.latencies, self.done = requests, latencies, done
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        request = next(self.requests, None)
        if request is None:
            self.transport.close()
            self.done.set()
            return
        self.started = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        if len(body) < length:
            return
        assert head.startswith(b"HTTP/1.1 200"), self.buffer
        assert b'"duplicates":0,"rejected":[]' in body.replace(b" ", b""), body
        self.latencies.append(time.perf_counter() - self.started)
        self.buffer = b""
        self.send()


async def load(port: int, requests: list[bytes], connections: int, seconds: float) -> Any:
    latencies: list[float] = []
    started = time.perf_counter()

    def until_late() -> Any:
        for request in requests:
            if time.perf_counter() - started > seconds:
                return
            yield request

    shared = until_late()
    events = [asyncio.Event() for _ in range(connections)]
    loop = asyncio.get_running_loop()
    for event in events:
        await loop.create_connection(partial(Client, shared, latencies, event), "127.0.0.1", port)
    for event in events:
        await event.wait()
    return len(latencies), time.perf_counter() - started, sorted(latencies)


def raw_copy(url: str, codec: Codec, identities: int | None = None) -> float:
    """Return rows per second of one connection that COPYs encoded rows, 20,000 a commit.

    With a seed for new ``identities`` they are stored as well, as ingest does: a second COPY, of
    sorted keys, into the table that knows each prediction's id.
    """
    horizon, owner = Horizon.at(now()), Verdicts(model="loans", version="7")
    encoded = [
        codec.read(json.dumps(r).encode(), i, horizon, owner, escapes=False)
        for i, r in enumerate(records(COPY_ROWS, identities or 99))
    ]
    cells = [row.cells for row in encoded]
    with psycopg.connect(url, autocommit=True) as connection:
        month = month_of_hour(microseconds(now()) // HOUR)
        Partitions().ensure(connection, {(codec.spec.model_id, month)})
        started = time.perf_counter()
        for at in range(0, COPY_ROWS, 20_000):
            with connection.transaction(), connection.cursor() as cursor:
                if identities is not None:
                    copy_keys(cursor, IDENTITY, in_order(encoded[at : at + 20_000])[0])
                copy_into(cursor, "prediction", codec.layout.columns, cells[at : at + 20_000])
        return COPY_ROWS / (time.perf_counter() - started)


def cpu_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as directory:
        postgres = EmbeddedPostgres(Path(directory))
        url = postgres.start()
        try:
            measure(url, given.seconds, given.processes)
        finally:
            postgres.stop()


def measure(url: str, seconds: float, processes: int) -> None:
    upgrade(url)
    engine = make_engine(url)
    features = [{"name": n, "kind": "numeric"} for n in NUMBERS]
    features += [{"name": n, "kind": "categorical"} for n in TEXTS]
    with make_sessions(engine).begin() as session:
        put_model(session, "loans", ModelDocument())
        document = {"features": features, "classes": ["0", "1"], "positive_class": "1"}
        put_version(session, "loans", "7", VersionDocument.model_validate(document))
        codec = Codec(find_version(session, "loans", "7"))
    engine.dispose()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    spawn = multiprocessing.get_context("spawn").Process
    servers = [spawn(target=serve, args=(url, listener)) for _ in range(processes)]
    for server in servers:
        server.start()
    pids = [server.pid or 0 for server in servers]
    try:
        table = Table("path", "rows/s", "of COPY", "service CPU/row", "p50", "p99")
        before = raw_copy(url, codec)
        lines = [case(port, pids, seconds, "/no-sink", 1, 64)]
        lines += [case(port, pids, seconds, "/v1/predictions", *c) for c in CASES]
        taken = bytes_a_row(url)
        lines.append(retries(port, pids, seconds))
        lines.append(case(port, pids, seconds, "/tutorial", 1, 64))
        copied = (before + raw_copy(url, codec)) / 2
        known = raw_copy(url, codec, 98)
    finally:
        for server in servers:
            server.terminate()
            server.join()
    table.add_row("raw binary COPY", f"{copied:,.0f}", "1.00", "", "", "")
    table.add_row("the same, identities too", f"{known:,.0f}", f"{known / copied:.2f}", "", "", "")
    for name, rate, cpu, p50, p99 in lines:
        table.add_row(
            name,
            *(f"{rate:,.0f}", f"{rate / copied:.2f}", f"{cpu * 1e6:.1f} µs"),
            *(f"{p50 * 1e3:.1f} ms", f"{p99 * 1e3:.1f} ms"),
        )
    Console().print(table)
    Console().print(f"one row a request: {lines[1][1] / lines[0][1]:.2f} of the same without sink")
    Console().print(f"1,000 rows a request: {lines[3][1] / lines[-1][1]:.0f} x the ORM insert")
    Console().print(f"a stored row takes {taken:.0f} bytes of disk, indexes included")


def bytes_a_row(url: str) -> float:
    """Return what a row takes of the disk with its identity, indexes included."""
    with psycopg.connect(url) as connection:
        (taken,) = connection.execute(
            "SELECT (SELECT sum(pg_total_relation_size(relid))::float8"
            " FROM pg_partition_tree('prediction')) / (SELECT count(*) FROM prediction)"
            " + pg_total_relation_size('prediction_identity')::float8"
            " / (SELECT count(*) FROM prediction_identity)"
        ).fetchone() or (0.0,)
    return float(taken)


def retries(port: int, pids: list[int], seconds: float) -> Any:
    """Send one batch, known by its key, again and again."""
    request = request_bytes("/v1/predictions", records(1_000, 7), "Idempotency-Key: k\r\n")
    asyncio.run(load(port, [request], 1, 1.0))
    busy = cpu_seconds(pids)
    answered, took, latencies = asyncio.run(load(port, [request] * 20_000, 8, seconds))
    cpu = (cpu_seconds(pids) - busy) / (answered * 1_000)
    p50, p99 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    name = "1,000 a request, 8 connections, retries of a known batch"
    return name, answered * 1_000 / took, cpu, p50, p99


def case(port: int, pids: list[int], seconds: float, path: str, size: int, connections: int) -> Any:
    limit = {1: 60_000, 100: 600_000, 1_000: 600_000}[size]
    distinct = records(
        min(limit, int(seconds * 40_000)), 1_000 * size + 10 * connections + len(path)
    )
    requests = [
        request_bytes(path, distinct[at : at + size]) for at in range(0, len(distinct), size)
    ]
    asyncio.run(load(port, requests[: len(requests) // 20], connections, 1.0))
    busy = cpu_seconds(pids)
    rest = requests[len(requests) // 20 :]
    answered, took, latencies = asyncio.run(load(port, rest, connections, seconds))
    cpu = (cpu_seconds(pids) - busy) / (answered * size)
    name = f"{size:,} a request, {connections} connections"
    name += {"/no-sink": ", no sink", "/tutorial": ", ORM insert"}.get(path, "")
    p50, p99 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    return name, answered * size / took, cpu, p50, p99


if __name__ == "__main__":
    main()
