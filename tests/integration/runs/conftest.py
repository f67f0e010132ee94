import warnings
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from sqlalchemy.orm import Session, sessionmaker

from service.registry.endpoints import router as registry
from service.runs.reference_endpoints import router as references
from service.runs.reference_reading import ReferenceRoom
from service.settings import Settings
from service.web import install_problems

# The test client would rather have httpx2; the service itself speaks httpx.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient


@pytest.fixture
def client(sessions: sessionmaker[Session]) -> Iterator[TestClient]:
    app = FastAPI()
    app.state.sessions = sessions
    app.state.settings = Settings(
        max_reference_bytes=1 << 20,
        max_reference_rows=50_000,
        max_reference_inflated_bytes=4 << 20,
    )
    app.state.references = ReferenceRoom(1 << 20)
    app.include_router(registry)
    app.include_router(references)
    install_problems(app)
    with TestClient(app) as client:
        client.put("/v1/models/loans", json={})
        client.put("/v1/models/loans/versions/7", json={})
        yield client
