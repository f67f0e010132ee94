"""Spans reach a collector where they are asked for, and hold nothing that clients sent."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pydantic import SecretStr

from service.processes.api import create_app
from service.runs.worker import Worker
from service.settings import Settings
from tests.contract.conftest import served
from tests.integration.ingest.conftest import FEATURES, a_prediction


class Collector(ThreadingHTTPServer):
    """An OTLP receiver that keeps what it was sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.named = threading.Event()
        super().__init__(("127.0.0.1", 0), _Receiver)

    def spans(self) -> dict[str, Span]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return {
            span.name: span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


class _Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        if b"job collect" in body:
            self.server.named.set()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield server
        server.shutdown()


def an_app(database_url: str, *, traces: bool) -> FastAPI:
    settings = Settings(database_url=SecretStr(database_url), traces=traces)
    return create_app(settings, keyless=True)


def send(url: str, **headers: str) -> None:
    with httpx.Client(base_url=url, trust_env=False, headers=headers, timeout=60) as client:
        client.put("/v1/models/loans", json={})
        client.put("/v1/models/loans/versions/7", json={"features": FEATURES})
        batch = {"model": "loans", "version": "7", "records": [a_prediction("secret-id")]}
        assert client.post("/v1/predictions", json=batch).status_code == 200
        client.get("/v1/models/loans/predictions/secret-id", params={"version": "secret"})


def test_requests_and_jobs_are_spans(collector: Collector, database_url: str) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    with served(an_app(database_url, traces=True)) as url:
        send(url, traceparent=f"00-{trace}-b7ad6b7169203331-01")
    spans = collector.spans()
    assert {"POST /v1/predictions", "PUT /v1/models/{model}"} <= spans.keys()
    assert spans["POST /v1/predictions"].trace_id.hex() == trace

    stop = threading.Event()
    settings = Settings(database_url=SecretStr(database_url), traces=True, evidently=False)
    worker = threading.Thread(target=Worker(settings, keyless=True).run, args=(stop,))
    worker.start()
    assert collector.named.wait(60)
    stop.set()
    worker.join()
    assert "job collect" in collector.spans()


def test_a_span_holds_nothing_of_a_body_or_a_query(collector: Collector, database_url: str) -> None:
    with served(an_app(database_url, traces=True)) as url:
        send(url, **{"X-Request-ID": "r-1"})
    everything = b"".join(collector.bodies)
    assert b"/v1/predictions" in everything
    for sent in (b"north", b"41000", b"secret"):
        assert sent not in everything


def test_without_the_setting_nothing_is_sent(collector: Collector, database_url: str) -> None:
    with served(an_app(database_url, traces=False)) as url:
        send(url)
    assert not collector.bodies
