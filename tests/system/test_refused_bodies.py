"""A client that is still sending hears why it is refused."""

import http.client
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelwatch.transport import Transport
from tests.system.harness import Service, running

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def body() -> bytes:
    return os.urandom(20 * MEGABYTE)


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with running(database_url, tmp_path) as service:
        yield service


def ask(port: int, body: bytes, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        sent = {"Content-Type": "application/json", **headers}
        connection.request("POST", "/v1/predictions", body, sent)
        return connection.getresponse().status
    finally:
        connection.close()


def test_whatever_is_wrong_with_a_large_body_is_heard(service: Service, body: bytes) -> None:
    key = {"Authorization": f"Bearer {service.key}"}
    for size in (0.1, 1, 8.5, 20):
        part = body[: int(size * MEGABYTE)]
        for _ in range(3):
            assert ask(service.port, part) == 401
            assert ask(service.port, part, **key, **{"Content-Encoding": "br"}) == 415
            expected = 413 if size > 8 else 400
            assert ask(service.port, part, **key) == expected


def test_the_client_learns_that_a_batch_is_too_large(service: Service, body: bytes) -> None:
    transport = Transport(service.url, service.key, 30)
    for _ in range(3):
        answer = transport.post("/v1/predictions", body[: 9 * MEGABYTE])
        assert (answer.status, answer.is_divisible) == (413, True)
