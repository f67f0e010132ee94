"""The service with a version and a webhook, and an Alertmanager that can be asked."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from service.processes.api import create_app
from service.settings import Settings
from tests.clients import TestClient
from tests.integration.retraining.alertmanager import Alertmanager, Sessions
from tests.integration.seeded import register
from tests.integration.webhooks.receiver import add_webhook


@pytest.fixture
def client(database_url: str, sessions: Sessions) -> Iterator[TestClient]:
    add_webhook(sessions, "ci")
    register(sessions, "7")
    app = create_app(Settings(database_url=SecretStr(database_url)), keyless=True)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def alertmanager() -> Iterator[Alertmanager]:
    alertmanager = Alertmanager()
    yield alertmanager
    alertmanager.close()
