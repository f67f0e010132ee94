"""An API of ingest alone on a real database, spoken to over ASGI."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.orm import Session, sessionmaker

from service.ingest import endpoints, letter_endpoints
from service.ingest.routes import mount_ingest
from service.ingest.service import Ingest, create_ingest
from service.registry.schemas import ModelDocument, VersionDocument
from service.registry.service import put_model, put_version
from service.settings import Settings
from service.web import install_problems
from tests.integration.asgi import Looking, run_against, spoken_to

FEATURES = [
    {"name": "income", "kind": "numeric"},
    {"name": "region", "kind": "categorical"},
    {"name": "owner", "kind": "boolean"},
]


def a_prediction(prediction_id: str = "a", **overrides: Any) -> dict[str, Any]:
    record = {
        "prediction_id": prediction_id,
        "ts": "2026-01-02T03:04:05Z",
        "features": {"income": 41000, "region": "north", "owner": True},
        "prediction": "1",
        "score": 0.83,
    }
    return {**record, **overrides}


def a_label(prediction_id: str = "a", **overrides: Any) -> dict[str, Any]:
    record = {"prediction_id": prediction_id, "label": "1", "label_ts": "2026-02-01T00:00:00Z"}
    return {**record, **overrides}


def register(sessions: sessionmaker[Session], model: str = "loans", version: str = "7") -> None:
    with sessions.begin() as session:
        put_model(session, model, ModelDocument())
        document = {"features": FEATURES, "classes": ["0", "1"], "positive_class": "1"}
        put_version(session, model, version, VersionDocument.model_validate(document))


class Api(Looking):
    """What a client sees, and a look into the database."""

    def __init__(self, client: httpx.AsyncClient, ingest: Ingest, url: str) -> None:
        super().__init__(client, url)
        self.ingest = ingest

    async def predictions(self, *records: Any, **envelope: Any) -> httpx.Response:
        body = {"model": "loans", "version": "7", **envelope, "records": list(records)}
        return await self.client.post("/v1/predictions", json=body)

    async def labels(self, *records: Any) -> httpx.Response:
        body = {"model": "loans", "records": list(records)}
        return await self.client.post("/v1/labels", json=body)

    async def lines(self, *records: Any, path: str = "/v1/predictions") -> httpx.Response:
        lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in records]
        headers = {"content-type": "application/x-ndjson"}
        return await self.client.post(path, content=b"\n".join(lines), headers=headers)

    async def raw(self, body: bytes, path: str = "/v1/predictions", **headers: str) -> Any:
        sent = {"content-type": "application/json"}
        sent.update((name.replace("_", "-"), value) for name, value in headers.items())
        return await self.client.post(path, content=body, headers=sent)


Run = Callable[[Callable[[Api], Awaitable[None]]], None]


@contextlib.asynccontextmanager
async def running(
    url: str, sessions: sessionmaker[Session], settings: Settings | None = None
) -> AsyncIterator[Api]:
    """Serve ingest for a while."""
    settings = settings or Settings(_env_file=None)
    app = FastAPI()
    install_problems(app)
    mount_ingest(app)
    app.include_router(endpoints.router)
    app.include_router(letter_endpoints.router)
    ingest = create_ingest(settings, url, sessions)
    app.state.ingest = ingest
    app.state.sessions = sessions
    ingest.start()
    try:
        async with spoken_to(app) as client:
            yield Api(client, ingest, url)
    finally:
        await ingest.stop()


@pytest.fixture
def run(database_url: str, sessions: sessionmaker[Session]) -> Run:
    """Return how to run an asynchronous test against a registered model."""
    register(sessions)

    return partial(run_against, partial(running, database_url, sessions))
