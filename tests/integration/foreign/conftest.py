"""The routes of foreign payloads on a real database, spoken to over ASGI."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.orm import Session, sessionmaker

from service.foreign.routes import mount_foreign
from service.foreign.service import Foreign, create_foreign
from service.ingest import endpoints
from service.ingest.routes import mount_ingest
from service.ingest.service import create_ingest
from service.registry.schemas import ModelDocument, VersionDocument
from service.registry.service import put_model, put_version
from service.settings import Settings
from service.web import install_problems
from tests.integration.asgi import Looking, run_against, spoken_to
from tests.integration.ingest.conftest import FEATURES

REQUEST, RESPONSE = "request", "response"
ASKED = {"instances": [[41000, "north", True]]}
ANSWERED = {"predictions": [[0.2, 0.8]]}


def register(
    sessions: sessionmaker[Session], model: str = "loans", version: str = "7", **overrides: Any
) -> None:
    document = {"features": FEATURES, "classes": ["0", "1"], "positive_class": "1", **overrides}
    with sessions.begin() as session:
        put_model(session, model, ModelDocument())
        put_version(session, model, version, VersionDocument.model_validate(document))


def headers_of(side: str, correlation: str, **attributes: str) -> dict[str, str]:
    event = {
        "specversion": "1.0",
        "id": correlation,
        "source": "http://localhost:9081/",
        "type": f"org.kubeflow.serving.inference.{side}",
        "time": f"2026-01-02T03:04:0{5 if side == REQUEST else 6}.0789Z",
        "inferenceservicename": "loans",
        "namespace": "default",
        "component": "predictor",
        **attributes,
    }
    return {f"ce-{name}": value for name, value in event.items()}


class Api(Looking):
    """What an inference server sees, and a look into the database."""

    def __init__(self, client: httpx.AsyncClient, foreign: Foreign, url: str) -> None:
        super().__init__(client, url)
        self.foreign = foreign

    async def event(
        self, side: str, correlation: str, payload: Any, query: str = "", **attributes: str
    ) -> httpx.Response:
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        headers = {
            "content-type": "application/json",
            **headers_of(side, correlation, **attributes),
        }
        return await self.client.post(f"/v1/cloudevents{query}", content=content, headers=headers)

    async def pair(
        self, correlation: str, asked: Any = ASKED, answered: Any = ANSWERED, query: str = ""
    ) -> Any:
        first = await self.event(REQUEST, correlation, asked, query)
        assert first.status_code == 200, first.text
        second = await self.event(RESPONSE, correlation, answered, query)
        assert second.status_code == 200, second.text
        return second.json()

    async def send(self, media: str, body: Any, path: str = "/v1/cloudevents") -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(path, content=content, headers={"content-type": media})

    async def lines(self, *documents: Any, path: str = "/v1/cloudevents") -> httpx.Response:
        found = [d if isinstance(d, bytes) else json.dumps(d).encode() for d in documents]
        return await self.send("application/x-ndjson", b"\n".join(found), path)

    async def row(self, prediction_id: str, model: str = "loans") -> Any:
        name = prediction_id.replace("#", "%23")
        answer = await self.client.get(f"/v1/models/{model}/predictions/{name}")
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"][0]


Run = Callable[[Callable[[Api], Awaitable[None]]], None]


@contextlib.asynccontextmanager
async def running(
    url: str, sessions: sessionmaker[Session], settings: Settings | None = None
) -> AsyncIterator[Api]:
    settings = settings or Settings(_env_file=None)
    app = FastAPI()
    install_problems(app)
    mount_ingest(app)
    mount_foreign(app)
    app.include_router(endpoints.router)
    ingest = create_ingest(settings, url, sessions)
    foreign = create_foreign(settings, url, ingest)
    app.state.ingest = ingest
    app.state.foreign = foreign
    app.state.sessions = sessions
    ingest.start()
    foreign.start()
    try:
        async with spoken_to(app) as client:
            yield Api(client, foreign, url)
    finally:
        await foreign.stop()
        await ingest.stop()


@pytest.fixture
def run(database_url: str, sessions: sessionmaker[Session]) -> Run:
    """Return how to run an asynchronous test against a registered model."""
    register(sessions)

    return partial(run_against, partial(running, database_url, sessions))
