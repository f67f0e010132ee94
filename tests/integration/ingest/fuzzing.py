"""Hostile requests to the whole application, and what must hold of every answer.

``python -m tests.integration.ingest.fuzzing --requests 1000000`` runs it by itself.
"""

import argparse
import asyncio
import contextlib
import gzip
import itertools
import json
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pyarrow as pa
import uvloop
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from service.db.embedded import EmbeddedPostgres
from service.db.engine import make_engine, make_sessions
from service.db.migrate import upgrade
from service.processes.api import create_app
from service.processes.openapi import PROBLEM
from service.registry.schemas import ModelDocument, VersionDocument
from service.registry.service import put_model, put_version
from service.settings import Settings
from tests.integration.ingest.mutations import (
    NDJSON,
    SECRET,
    TASKS,
    VERSIONS,
    Mutator,
    Request,
)

CONCURRENT = 32
_MOST_SHOWN = 20


class BrokenPromiseError(AssertionError):
    """An answer that must not be."""


def register(sessions: sessionmaker[Session]) -> None:
    for model, task in TASKS.items():
        with sessions.begin() as session:
            put_model(session, model, ModelDocument.model_validate({"task": task}))
            version = "7" if model == "loans" else "1"
            document = VersionDocument.model_validate(VERSIONS[model])
            put_version(session, model, version, document)


async def ask(app: FastAPI, request: Request) -> tuple[int, dict[bytes, bytes], bytes]:
    """Send a request to an ASGI application as a server would."""
    edges = [0, *request.cuts, len(request.body)]
    pieces = [request.body[a:b] for a, b in itertools.pairwise(edges)]
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
    ]
    messages[-1]["more_body"] = False
    if request.hangs_up:
        messages[-1] = {"type": "http.disconnect"}
    messages.reverse()
    answer: dict[str, Any] = {}
    pieces_back: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        answer.update(message)
        pieces_back.append(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "root_path": "",
        "query_string": request.query.encode(),
        "headers": ((b"host", b"localhost"), *request.headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
        "state": {},
    }
    await app(scope, receive, send)
    return answer["status"], dict(answer["headers"]), b"".join(pieces_back)


def body_of(request: Request) -> bytes:
    """Return a body as it was before it was packed, without the service's own decoders."""
    coding = request.header(b"content-encoding").strip().lower()
    if coding in {b"gzip", b"x-gzip"}:
        return gzip.decompress(request.body)
    if coding == b"zstd":
        unpacked: bytes = pa.CompressedInputStream(pa.BufferReader(request.body), "zstd").read()
        return unpacked
    return request.body


def records_in(request: Request) -> int:
    """Count the records of a request that was accepted."""
    body = body_of(request)
    if request.header(b"content-type").startswith(NDJSON.encode()):
        return sum(1 for line in body.split(b"\n") if line.strip())
    # The standard library takes duplicate names as the service does: the last one counts.
    return len(json.loads(body)["records"])


class Fuzz:
    """Asks and judges; the sums are compared with the tables at the end."""

    PATHS: frozenset[str] = frozenset({"/v1/predictions", "/v1/labels"})

    def __init__(self, app: FastAPI, mutator: Mutator) -> None:
        self.app = app
        self.mutator = mutator
        self.answers: Counter[str] = Counter()
        self.stored: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        """Rows that were answered 503: whether their commit was in time nobody can say."""
        self.broken: list[tuple[str, Request, bytes]] = []
        self.documented: dict[str, dict[str, Any]] = {
            path: item["post"]["responses"]
            for path, item in app.openapi()["paths"].items()
            if path in self.PATHS
        }

    def sent_in(self, request: Request) -> int:
        return records_in(request)

    async def run(
        self,
        count: int,
        told: Callable[[int, int], None] = lambda *_: None,
        *,
        until: float = math.inf,
    ) -> None:
        left = iter(range(count))

        async def one_by_one() -> None:
            for number in left:
                if time.monotonic() > until:
                    return
                await self.once(self.mutator.request())
                # What is refused at once gives the loop no turn, and others wait for theirs.
                await asyncio.sleep(0)
                if number % 10_000 == 0:
                    told(number, len(self.broken))

        await asyncio.gather(*(one_by_one() for _ in range(CONCURRENT)))

    async def once(self, request: Request) -> None:
        body = b""
        try:
            status, headers, body = await ask(self.app, request)
            self.judge(request, status, headers, body)
        except Exception as fault:  # noqa: BLE001  whatever it is, it must be shown with its request
            self.broken.append((f"{type(fault).__name__}: {fault}", request, body))

    def judge(
        self, request: Request, status: int, headers: dict[bytes, bytes], body: bytes
    ) -> None:
        """Raise unless the answer is one that a client was promised."""
        if status == 400 and not body and request.hangs_up:
            self.answers["hung up"] += 1
            return
        document = orjson.loads(body)
        self.answers[f"{status} {document.get('code', 'stored')}"] += 1
        _hold(status < 500 or status == 503, "an answer of 5xx")
        _hold(status != 503 or b"retry-after" in headers, "503 without Retry-After")
        _hold(SECRET.encode() not in body, "an answer repeats a value")
        if status == 200:
            self.count(request, document)
            return
        if status == 503:
            # What cannot be counted was not stored either.
            with contextlib.suppress(Exception):
                self.unknown[request.path] += self.sent_in(request)
        _hold(headers[b"content-type"] == PROBLEM.encode(), "a failure that is no problem document")
        answers = self.documented[request.path]
        known = answers.get(str(status), {}).get("content", {}).get(PROBLEM)
        _hold(known is not None, f"status {status} is not documented")
        codes = known["schema"]["allOf"][1]["properties"]["code"]["enum"]
        _hold(document["code"] in codes, f"code {document['code']} is not documented")
        if document["code"] == "all-rejected":
            sent = self.sent_in(request)
            _hold(len(document["rejected"]) == min(sent, 100), "a refused row is not listed")

    def count(self, request: Request, document: dict[str, Any]) -> None:
        accepted, duplicates = document["accepted"], document["duplicates"]
        rejected = document["rejected"]
        sent = self.sent_in(request)
        told = accepted + duplicates + len(rejected)
        _hold(told == sent, f"{accepted} + {duplicates} + {len(rejected)} is not {sent}")
        places = {row["index"] for row in rejected}
        _hold(len(places) == len(rejected), "a row is refused twice")
        _hold(all(0 <= place < sent for place in places), "a row that was not sent is refused")
        self.stored[request.path] += accepted

    def compare(self, url: str) -> None:
        """Compare what was acknowledged with what is stored."""
        with psycopg.connect(url) as connection:

            def rows(table: str) -> int:
                found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
                return int(found[0]) if found else -1

            assert rows("prediction") == rows("prediction_identity")
            for table, path in (("prediction", "/v1/predictions"), ("label", "/v1/labels")):
                acknowledged, unknown = self.stored[path], self.unknown[path]
                assert acknowledged <= rows(table) <= acknowledged + unknown
            # Whatever the database refuses the validator should have found.
            assert rows("dead_letter") == 0

    def report(self) -> str:
        lines = [f"{count:>9,}  {answer}" for answer, count in self.answers.most_common()]
        lines.append(f"rows stored: {dict(self.stored)}; unknown: {dict(self.unknown)}")
        for fault, request, answer in self.broken[:_MOST_SHOWN]:
            lines += [f"BROKEN {fault}", f"  {request!r}", f"  {answer[:500]!r}"]
        return "\n".join(lines)


def _hold(truth: object, promise: str) -> None:
    if not truth:
        raise BrokenPromiseError(promise)


def fuzz(
    url: str,
    count: int,
    *,
    seed: int,
    told: Callable[[int, int], None] = lambda *_: None,
    until: float = math.inf,
) -> Fuzz:
    """Send many requests to the application over a database; return what came of it."""
    app = create_app(Settings(_env_file=None, database_url=SecretStr(url)), keyless=True)
    found = Fuzz(app, Mutator(seed, ids=max(50, count // 20)))

    async def inside() -> None:
        async with app.router.lifespan_context(app):
            await found.run(count, told, until=until)

    uvloop.run(inside())
    return found


def _progress(done: int, broken: int) -> None:
    print(f"{done:,} requests, {broken:,} broken promises", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this long")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        postgres = EmbeddedPostgres(Path(directory))
        url = postgres.start()
        try:
            upgrade(url)
            engine = make_engine(url)
            register(make_sessions(engine))
            engine.dispose()
            started = time.monotonic()
            until = started + 60 * given.minutes
            found = fuzz(url, given.requests, seed=given.seed, told=_progress, until=until)
            sent = found.answers.total() + len(found.broken)
            print(f"{sent:,} requests in {time.monotonic() - started:,.0f} s")
            print(found.report())
            found.compare(url)
        finally:
            postgres.stop()
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
