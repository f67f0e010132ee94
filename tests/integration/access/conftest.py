from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.access.grants import Scope
from service.access.service import Wish, create_key

MakeKey = Callable[..., str]


@pytest.fixture
def make_key(sessions: sessionmaker[Session]) -> MakeKey:
    """Return how to make a key; it grants to read unless something else is said."""

    def make(*scopes: Scope, **wish: object) -> str:
        with sessions.begin() as session:
            asked = Wish(scopes=scopes or (Scope.READ,), **wish)  # type: ignore[arg-type]
            return create_key(session, "cli", asked).text

    return make
