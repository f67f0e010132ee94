from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.reader import RowReader
from service.registry.endpoints import router as registry
from service.runs.pipeline import Pipeline
from service.runs.reference_endpoints import router as references
from service.runs.reference_reading import ReferenceRoom
from service.settings import Settings
from tests.clients import TestClient, client_of
from tests.integration.runs.bench import a_pipeline


@pytest.fixture
def client(sessions: sessionmaker[Session]) -> Iterator[TestClient]:
    settings = Settings(
        max_reference_bytes=1 << 20,
        max_reference_rows=50_000,
        max_reference_inflated_bytes=4 << 20,
    )
    state = {"sessions": sessions, "settings": settings, "references": ReferenceRoom(1 << 20)}
    with client_of(registry, references, **state) as client:
        client.put("/v1/models/loans", json={})
        client.put("/v1/models/loans/versions/7", json={})
        yield client


@pytest.fixture
def reader(database_url: str) -> Iterator[RowReader]:
    reader = RowReader(database_url)
    yield reader
    reader.close()


@pytest.fixture
def pipeline(sessions: sessionmaker[Session], reader: RowReader) -> Pipeline:
    return a_pipeline(sessions, reader)
