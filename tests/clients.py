"""FastAPI's test client over some of the routes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter, FastAPI

from service.web import install_problems

# It would rather have httpx2; the service itself speaks httpx.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

__all__ = ["TestClient", "client_of"]


@contextmanager
def client_of(*routers: APIRouter, **state: Any) -> Iterator[TestClient]:
    """Serve these routers to a client, over an application with this state."""
    app = FastAPI()
    for name, value in state.items():
        setattr(app.state, name, value)
    for router in routers:
        app.include_router(router)
    install_problems(app)
    with TestClient(app) as client:
        yield client
