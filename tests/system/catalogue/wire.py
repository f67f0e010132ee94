"""HTTP by hand: bytes out of a plain socket, and whatever comes back."""

import selectors
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

PIECE = 1 << 16


@dataclass(frozen=True)
class Reply:
    """An answer; without a status the connection was closed without one."""

    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0


def exchange(port: int, sent: bytes, *, seconds: float = 60.0) -> Reply:
    """Send bytes as fast as they are taken, and return the first whole answer."""
    started = time.monotonic()
    received = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=seconds) as wire,
        selectors.DefaultSelector() as ready,
    ):
        wire.setblocking(False)
        ready.register(wire, selectors.EVENT_READ | selectors.EVENT_WRITE)
        left = memoryview(sent)
        while (rest := started + seconds - time.monotonic()) > 0:
            if not left:
                ready.modify(wire, selectors.EVENT_READ)
            events = sum(found for _, found in ready.select(rest))
            if events & selectors.EVENT_READ:
                piece = _receive(wire)
                received += piece
                if not piece or _is_whole(received):
                    return _parsed(received, time.monotonic() - started)
            elif events & selectors.EVENT_WRITE:
                left = _send(wire, left)
    message = f"no answer within {seconds} s, only {received[:200]!r}"
    raise AssertionError(message)


def _receive(wire: socket.socket) -> bytes:
    try:
        return wire.recv(PIECE)
    except ConnectionError:
        return b""


def _send(wire: socket.socket, left: memoryview) -> memoryview:
    try:
        return left[wire.send(left[:PIECE]) :]
    except ConnectionError:
        # The server has heard enough; what it said about it is still to be read.
        return left[len(left) :]


def _is_whole(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    length = _headers(head).get("content-length")
    return bool(found) and length is not None and len(body) >= int(length)


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _parsed(received: bytes, seconds: float) -> Reply:
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return Reply(None, seconds=seconds)
    return Reply(int(head.split(b" ", 2)[1]), _headers(head), body, seconds)


def request(
    target: bytes | str,
    body: bytes = b"",
    *headers: str,
    method: str = "POST",
    media: str | None = "application/json",
    length: bool = True,
) -> bytes:
    """Return the bytes of one request."""
    path = target.encode() if isinstance(target, str) else target
    lines = [method.encode() + b" " + path + b" HTTP/1.1", b"Host: x"]
    if media is not None:
        lines.append(b"Content-Type: " + media.encode())
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    lines += [header.encode("latin-1") for header in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
