"""What a connection makes of bytes, before any route sees them."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.processes import protocol
from service.processes.protocol import MAX_HEAD_BYTES, BoundedProtocol

HEAD = b"POST / HTTP/1.1\r\nHost: ours\r\nTransfer-Encoding: chunked\r\n"
# More than the buffers of both ends take.
PLENTY = bytes(32 << 20)


async def header_names(scope: Scope, receive: Receive, send: Send) -> None:
    await Request(scope, receive).body()
    names = " ".join(name.decode() for name, _ in scope["headers"])
    await PlainTextResponse(f"{names};")(scope, receive, send)


async def plenty(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(PLENTY)(scope, receive, send)


@contextmanager
def serving(app: ASGIApp) -> Iterator[uvicorn.Server]:
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            port=0,
            lifespan="off",
            log_config=None,
            http=BoundedProtocol,
            ws="none",
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield server
    finally:
        server.should_exit = True
        thread.join()


def connection_to(server: uvicorn.Server) -> socket.socket:
    return socket.create_connection(server.servers[0].sockets[0].getsockname(), timeout=60)


@contextmanager
def connected(app: ASGIApp = header_names) -> Iterator[socket.socket]:
    with serving(app) as server, connection_to(server) as wire:
        yield wire


def answer_to(wire: socket.socket, sent: bytes) -> str:
    wire.sendall(sent)
    answer = b""
    while not answer.endswith(b";"):
        piece = wire.recv(4096)
        assert piece, answer
        answer += piece
    return answer.decode().rpartition("\r\n")[2]


def test_a_field_of_a_trailer_is_no_header() -> None:
    trailed = HEAD + b"\r\n1\r\na\r\n0\r\nX-Forwarded-For: me\r\nHost: theirs\r\n\r\n"
    with connected() as wire:
        assert answer_to(wire, trailed) == "host transfer-encoding;"
        after = HEAD + b"X-After: it\r\n\r\n0\r\n\r\n"
        assert answer_to(wire, after) == "host transfer-encoding x-after;"


def test_what_anybody_may_send_without_a_key_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = b"GET / HTTP/1.1\r\nHost: ours\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with connected() as wire:
        caplog.clear()
        assert answer_to(wire, asked) == "host connection upgrade;"
        wire.sendall(b"\x16\x03\x01 is no request\r\n\r\n")
        assert wire.recv(4096).startswith(b"HTTP/1.1 400 ")
        assert not caplog.messages


def test_no_head_in_one_piece_is_longer_than_one_in_many() -> None:
    padded = b"GET / HTTP/1.1\r\nHost: ours\r\nX-A:%s1\r\n\r\n"
    around = len(padded) - len("%s")
    with connected() as wire:
        assert answer_to(wire, padded % (b" " * (MAX_HEAD_BYTES - around))) == "host x-a;"
    with connected() as wire:
        wire.sendall(padded % (b" " * (MAX_HEAD_BYTES + 1 - around)))
        assert wire.recv(4096).startswith(b"HTTP/1.1 431 ")


def test_who_still_sends_a_head_that_is_too_large_hears_so_first() -> None:
    with connected() as wire:
        wire.sendall(b"GET / HTTP/1.1\r\nX-A: ")
        for _ in range(16):
            wire.sendall(b"a" * MAX_HEAD_BYTES)
        answer = b""
        while piece := wire.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert answer.endswith(b'"code":"head-too-large"}')


def read_all(wire: socket.socket) -> int:
    count = 0
    while piece := wire.recv(1 << 20):
        count += len(piece)
    return count


def test_what_nobody_reads_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "READ_SECONDS", 0.1)
    monkeypatch.setattr(protocol, "READ_RATE", 1 << 30)
    with serving(plenty) as server, connection_to(server) as wire:
        wire.sendall(b"GET / HTTP/1.1\r\nHost: ours\r\n\r\n")
        assert wire.recv(1) == b"H"
        deadline = time.monotonic() + 60
        while server.server_state.connections:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert read_all(wire) < len(PLENTY)


def test_who_reads_has_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "READ_RATE", 1 << 10)
    with connected(plenty) as wire:
        for connection in (b"keep-alive", b"close"):
            wire.sendall(b"GET / HTTP/1.1\r\nHost: ours\r\nConnection: %s\r\n\r\n" % connection)
        assert read_all(wire) > 2 * len(PLENTY)
