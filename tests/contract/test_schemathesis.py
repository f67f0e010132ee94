"""Requests made from the OpenAPI document, right and wrong ones, to every route of the real API."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from pydantic import SecretStr
from schemathesis import GenerationMode, SerializationContext

from service.db.engine import make_engine, make_sessions
from service.processes.api import create_app
from service.processes.openapi import PROBLEM, operations
from service.settings import Settings
from tests.conftest import a_database, sized
from tests.contract.conftest import served
from tests.contract.test_openapi import DOCUMENT, codes
from tests.integration.seeded import START, add_incident, seed

REQUESTS = sized(default=3, full=300)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = {f"{method} {path}": found for method, path, found in operations(DOCUMENT)}
# What there is, so that not every request ends at a name that nobody knows.
KNOWN = {
    "model": "loans",
    "version": "7",
    "start": START.isoformat(),
    "incident_id": 3,
    "request_id": 1,
    "prediction_id": "a",
}


@schemathesis.serializer(
    "application/x-ndjson",
    "application/vnd.apache.arrow.stream",
    "application/vnd.apache.parquet",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/jsonl",
    "text/csv",
)
def as_bytes(_context: SerializationContext, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    data: bytes = getattr(value, "data", None) or str(value).encode(errors="replace")
    return data


@pytest.fixture(scope="module")
def address(cluster_url: str) -> Iterator[str]:
    with a_database(cluster_url) as url:
        engine = make_engine(url)
        sessions = make_sessions(engine)
        seed(sessions)
        add_incident(sessions, id=3)
        app = create_app(Settings(database_url=SecretStr(url)), keyless=True)
        with served(app) as found:
            yield found
        engine.dispose()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_is_sent_the_answer_is_documented(
    address: str, name: str, mode: GenerationMode
) -> None:
    method, path = name.split()
    operation = SCHEMA[path][method]
    known = {own: value for own, value in KNOWN.items() if f"{{{own}}}" in path}
    somewhere = operation.as_strategy(mode)
    there = operation.as_strategy(mode, path_parameters=known) if known else somewhere

    @settings(
        max_examples=REQUESTS,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=somewhere | there)
    def ask(case: Any) -> None:
        judge(OPERATIONS[name], case.call(base_url=address, timeout=120))

    # Where anything may be sent, nothing is wrong.
    with contextlib.suppress(Unsatisfiable):
        ask()


def judge(operation: dict[str, Any], answer: Any) -> None:
    said = f"{answer.request.method} {answer.request.url} {answer.request.body!r}: {answer.text}"
    status = answer.status_code
    assert status < 500 or (status == 503 and "retry-after" in answer.headers), said
    assert str(status) in operation["responses"], said
    if status >= 400:
        assert answer.headers["content-type"] == [PROBLEM], said
        assert (status, answer.json()["code"]) in codes(operation), said
