from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.access.grants import Scope
from service.access.service import Wish, create_key

MakeKey = Callable[..., str]


@pytest.fixture
def make_key(sessions: sessionmaker[Session]) -> MakeKey:
    """Return how to make a key; it grants to read unless something else is said."""

    def make(*scopes: Scope, **wish: Any) -> str:
        with sessions.begin() as session:
            asked = Wish(scopes=scopes or (Scope.READ,), **wish)
            return create_key(session, "cli", asked).text

    return make
