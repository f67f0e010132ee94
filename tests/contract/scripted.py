"""A server that answers as a script says, for what the real one does only on bad days."""

import gzip
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from modelwatch import Monitor

Document = dict[str, Any]
Answer = tuple[int, dict[str, str], Document | bytes]


class HungUpError(Exception):
    """The connection breaks without an answer."""


class ScriptedServer(ThreadingHTTPServer):
    """Answers with what the script holds, and then takes every record."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: deque[Callable[[Document], Answer]] = deque()
        self.bodies: list[tuple[str, Document]] = []
        self.headers: list[dict[str, str]] = []
        self.at: list[float] = []
        self.connections = 0

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that were killed in the middle of a word."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def records(self) -> list[Document]:
        return [record for _, body in self.bodies for record in body["records"]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        self.server.at.append(time.monotonic())
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        document = json.loads(body, parse_constant=pytest.fail)
        step = self.server.script.popleft() if self.server.script else accept
        self.server.headers.append(dict(self.headers))
        try:
            status, headers, answer = step(document)
        except HungUpError:
            self.close_connection = True
            return
        if status == 200:
            self.server.bodies.append((self.path, document))
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def accept(document: Document) -> Answer:
    return 200, {}, {"accepted": len(document["records"]), "duplicates": 0, "rejected": []}


def refuse(status: int, **headers: Any) -> Callable[[Document], Answer]:
    return lambda _document: (status, headers, {"detail": "not now"})


def hang_up(_document: Document) -> Answer:
    raise HungUpError


@contextmanager
def scripted() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def a_monitor(server: ScriptedServer, **options: Any) -> Monitor:
    return Monitor("loans", "7", **{"url": server.url, "interval": 0.01, **options})


def until(said: Callable[[], object]) -> None:
    """Wait for what has to come."""
    deadline = time.monotonic() + 60
    while not said():
        assert time.monotonic() < deadline
        time.sleep(0.005)
