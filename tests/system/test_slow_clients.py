"""Clients that send slowly, and more of them than there is room for."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.system.catalogue.case import predictions, row
from tests.system.catalogue.wire import exchange
from tests.system.harness import Service, running

MEGABYTE = 1 << 20
ROOM = 32
CLIENTS = 48
HEAD = b"POST /v1/predictions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    room = {"MODELWATCH_MAX_BYTES_IN_FLIGHT": str(ROOM * MEGABYTE)}
    with running(database_url, tmp_path, **room) as service:
        service.put("/v1/models/loans", {})
        service.put(
            "/v1/models/loans/versions/7",
            {
                "features": [{"name": "income", "kind": "numeric"}],
                "classes": ["0", "1"],
                "positive_class": "1",
            },
        )
        yield service


def resident(service: Service) -> int:
    [api] = service.processes
    return int(psutil.Process(api.pid).memory_info().rss)


def keyed(service: Service) -> bytes:
    return f"Authorization: Bearer {service.key}\r\n".encode()


def begun(service: Service, bodies: ExitStack) -> socket.socket:
    """Send four of eight megabytes, and stop."""
    wire = bodies.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=30))
    wire.sendall(HEAD + keyed(service) + b"Content-Length: %d\r\n\r\n" % (8 * MEGABYTE))
    wire.settimeout(5)
    try:
        wire.sendall(b" " * (4 * MEGABYTE))
    except (TimeoutError, ConnectionError):
        return wire
    return wire


def test_memory_is_bounded_however_many_send_slowly(service: Service) -> None:
    good = predictions(row("a", features=b'{"income":1}'))
    good = good.replace(b"\r\nHost: x\r\n", b"\r\nHost: x\r\n" + keyed(service), 1)
    assert exchange(service.port, good).status == 200
    before = resident(service)
    with ExitStack() as bodies:
        wires = [begun(service, bodies) for _ in range(CLIENTS)]
        answers = [answer_of(wire) for wire in wires]
        grown = resident(service) - before
        refused = [answer for answer in answers if answer]
        assert len(refused) >= CLIENTS - ROOM // 4
        assert all(answer.startswith(b"HTTP/1.1 503") for answer in refused)
        assert all(b"retry-after: 1\r\n" in answer.lower() for answer in refused)
        assert grown < (ROOM + 50) * MEGABYTE
    deadline = time.monotonic() + 60
    while exchange(service.port, good).status != 200:
        assert time.monotonic() < deadline
    assert len(refused) < CLIENTS


def answer_of(wire: socket.socket) -> bytes:
    """Return what has been answered so far."""
    wire.settimeout(0.05)
    try:
        return wire.recv(4096)
    except (TimeoutError, ConnectionError):
        return b""
