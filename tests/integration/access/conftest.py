from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from service.access.grants import Scope
from service.access.service import Wish, create_key
from service.processes.api import create_app
from service.settings import Settings
from tests.clients import TestClient

MakeKey = Callable[..., str]


@pytest.fixture
def make_key(sessions: sessionmaker[Session]) -> MakeKey:
    """Return how to make a key; it grants to read unless something else is said."""

    def make(*scopes: Scope, **wish: Any) -> str:
        with sessions.begin() as session:
            asked = Wish(scopes=scopes or (Scope.READ,), **wish)
            return create_key(session, "cli", asked).text

    return make


@pytest.fixture
def admin(make_key: MakeKey) -> str:
    """Return a key that may do everything."""
    return make_key(Scope.ADMIN)


@pytest.fixture
def client(database_url: str, admin: str) -> Iterator[TestClient]:
    """Run the API, and return a client with that key."""
    app = create_app(Settings(database_url=SecretStr(database_url)))
    with TestClient(app, headers={"Authorization": f"Bearer {admin}"}) as client:
        yield client
