from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.registry.endpoints import router
from service.settings import Settings
from tests.clients import TestClient, client_of


@pytest.fixture
def client(sessions: sessionmaker[Session]) -> Iterator[TestClient]:
    with client_of(router, sessions=sessions, settings=Settings()) as client:
        yield client
