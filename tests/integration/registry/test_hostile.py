"""What a hostile or careless client puts as documents."""

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI
from httpx import Response

from service import web
from service.registry.documents import MOST_COUNTED
from service.registry.endpoints import router
from service.web import install_problems
from tests.clients import TestClient


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """Serve documents on a socket; a test client cannot stall."""
    app = FastAPI()
    app.include_router(router)
    install_problems(app)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield listening.getsockname()[:2]
        server.should_exit = True
        thread.join()


def test_a_client_that_stalls_inside_a_document_is_told_so(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "STALL_SECONDS", 0.2)
    head = b"PUT /v1/models/loans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(head + b'Content-Length: 50\r\n\r\n{"task"')
        answer = client.recv(4096)

    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("at_once", [0, 900_000])
def test_a_client_that_drips_a_document_is_not_waited_for_whatever_it_sent_before(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(web, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(web, "LEAST_RATE", 64)
    head = b"PUT /v1/models/loans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(head + b"Content-Length: 1000000\r\n\r\n" + b" " * at_once)
        client.settimeout(0.1)
        answer = b""
        for _ in range(300):
            client.sendall(b" ")
            try:
                answer = client.recv(4096)
                break
            except TimeoutError:
                continue

    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("value", ['!!timestamp "x"', "!!bool zz", "!!int []", '!!float "zz"'])
def test_a_tag_that_does_not_fit_its_value_is_malformed_yaml(
    client: TestClient, value: str
) -> None:
    answer = client.put(
        "/v1/models/loans",
        content=f"owner: {value}",
        headers={"Content-Type": "application/yaml"},
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-yaml")


@pytest.mark.parametrize("name", ["a\x00", "", "x" * 201])
def test_a_monitor_names_features_that_a_version_could_have(client: TestClient, name: str) -> None:
    client.put("/v1/models/loans", json={})

    answer = client.put("/v1/models/loans/monitor", json={"drift": {"features": {name: {}}}})

    assert answer.status_code == 422


def test_a_grace_that_leaves_the_calendar_is_refused(client: TestClient) -> None:
    client.put("/v1/models/loans", json={})

    answer = client.put("/v1/models/loans/monitor", json={"grace": "999999w"})

    assert answer.status_code == 422


@pytest.mark.parametrize("mistake", [b"{}", b"0", b'{"name":0}', b'"a"'])
def test_a_document_of_mistakes_is_refused_without_a_list_of_all(
    client: TestClient, mistake: bytes
) -> None:
    client.put("/v1/models/loans", json={})

    def put(count: int) -> Response:
        answer: Response = client.put(
            "/v1/models/loans/versions/7",
            content=b'{"features":[%s]}' % b",".join([mistake] * count),
            headers={"Content-Type": "application/json"},
        )
        return answer

    few, many = put(50).json(), put(MOST_COUNTED + 1)
    assert len(few["rejected"]) >= 50
    assert (many.status_code, many.json()["code"]) == (422, "invalid-document")
    assert "rejected" not in many.json()
    too_many = put(web.MOST_VALUES + 2)
    assert (too_many.status_code, too_many.json()["code"]) == (413, "too-large")


@pytest.mark.parametrize(
    "bomb",
    [
        b"a: &a {%s}\nb: [%s]" % (b",".join(b"%d: 1" % n for n in range(400)), b"*a," * 400),
        b"tags: &a [*a]",
    ],
)
def test_an_alias_is_worth_what_it_names(client: TestClient, bomb: bytes) -> None:
    answers = [
        client.put("/v1/models/loans", content=content, headers={"Content-Type": "text/yaml"})
        for content in (b"owner: &a ana\ndescription: *a", bomb)
    ]
    assert [answer.status_code for answer in answers] == [200, 413]
