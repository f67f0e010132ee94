import warnings
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from sqlalchemy.orm import Session, sessionmaker

from service.registry.endpoints import router
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
    app.state.settings = Settings()
    app.include_router(router)
    install_problems(app)
    with TestClient(app) as client:
        yield client
