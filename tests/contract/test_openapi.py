import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from service.access.grants import Scope
from service.access.scopes import need_of
from service.ingest.examine import LABEL_FIELDS, PREDICTION_FIELDS
from service.ingest.interface import LABEL, PREDICTION
from service.processes.api import create_app
from service.processes.documentation import problems
from service.processes.openapi import PROBLEM, operations
from service.settings import Settings
from tests.integration.seeded import add_incident, add_request

CSV = "text/csv"
PAGES = {"/", "/docs", "/openapi.json"}
# They are of no route: unknown addresses, methods, and what is refused before a route is sought.
OF_NO_ROUTE = {
    *("bad-request", "method-not-allowed", "not-found"),
    *("head-too-large", "malformed-http", "stalled-head"),
}

APP = create_app(Settings(database_url=SecretStr("postgresql://nowhere/none")))
DOCUMENT = APP.openapi()
OPERATIONS = {f"{method} {path}": operation for method, path, operation in operations(DOCUMENT)}

every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    for route in app.routes:
        # FastAPI keeps an included router as one route.
        included = getattr(route, "effective_route_contexts", None)
        found: Iterable[Any] = [route] if included is None else included()
        for each in found:
            for method in each.methods - {"HEAD"}:
                yield method.lower(), re.sub(r":\w+}", "}", each.path)


def codes(operation: dict[str, Any]) -> set[tuple[int, str]]:
    return {
        (500 if status == "default" else int(status), code)
        for status, answer in operation["responses"].items()
        if PROBLEM in answer.get("content", {})
        for code in answer["content"][PROBLEM]["schema"]["allOf"][1]["properties"]["code"]["enum"]
    }


def test_every_route_is_in_the_document_and_no_other() -> None:
    served = {f"{method} {path}" for method, path in routes(APP) if path not in PAGES}
    assert len(served) > 20
    assert served == OPERATIONS.keys()


@every_operation
def test_an_operation_says_what_it_does(operation: dict[str, Any]) -> None:
    assert 3 < len(operation["summary"]) < 90
    assert operation["description"].startswith(operation["summary"].split()[0])
    assert operation["tags"] or operation["responses"]


@every_operation
def test_an_operation_has_examples(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        assert parameter["name"] == "cursor" or "example" in parameter, parameter["name"]
    bodies = operation.get("requestBody", {}).get("content", {})
    assert not bodies or any("example" in content for content in bodies.values())


@every_operation
def test_an_operation_has_its_problems(operation: dict[str, Any]) -> None:
    found = codes(operation)
    assert (500, "internal-error") in found
    if operation.get("parameters") or "requestBody" in operation:
        assert {503, 422} <= {status for status, _ in found}
    if "requestBody" in operation:
        assert {400, 408, 413, 415} <= {status for status, _ in found}
    assert "HTTPValidationError" not in str(operation)
    known = problems()
    assert {status for status, code in found if known[code][0] != status} == set()


def test_the_routes_of_ingest_have_all_their_answers() -> None:
    for path in ("/v1/predictions", "/v1/labels"):
        operation = DOCUMENT["paths"][path]["post"]
        assert {"200", "400", "404", "408", "413", "415", "422", "503"} <= operation[
            "responses"
        ].keys()
        assert operation["requestBody"]["content"].keys() == {
            "application/json",
            "application/x-ndjson",
            "application/vnd.apache.arrow.stream",
        }
    assert PREDICTION["properties"].keys() == PREDICTION_FIELDS
    assert LABEL["properties"].keys() == LABEL_FIELDS


def test_every_problem_is_of_some_operation() -> None:
    documented = {code for operation in OPERATIONS.values() for _, code in codes(operation)}
    assert documented == problems().keys() - OF_NO_ROUTE


def test_every_reference_in_the_document_leads_somewhere() -> None:
    targets = set(re.findall(r"'\$ref': '([^']+)'", str(DOCUMENT)))
    assert targets
    for target in targets:
        at: Any = DOCUMENT
        for part in target.removeprefix("#/").split("/"):
            at = at[part]


def address(path: str, operation: dict[str, Any], **other: Any) -> tuple[str, dict[str, Any]]:
    """Return path and query of an operation's example."""
    query = {}
    for parameter in operation.get("parameters", []):
        name = parameter["name"]
        value = other.get(name, parameter.get("example"))
        if parameter["in"] == "path":
            path = path.replace(f"{{{name}}}", str(value))
        elif value is not None:
            query[name] = value
    return path, query


IN_ORDER = (
    "put /v1/models/{model}",
    "put /v1/models/{model}/versions/{version}",
    "put /v1/models/{model}/versions/{version}/reference",
    "put /v1/models/{model}/monitor",
    "put /v1/webhooks/{webhook}",
    "post /v1/predictions",
    "post /v1/labels",
    "post /v1/cloudevents",
    "post /v1/import/sagemaker",
    "post /v1/models/{model}/evaluate",
    "post /v1/incidents/{incident_id}/{deed}",
    "post /v1/retraining-requests/{request_id}/{deed}",
    "post /v1/alertmanager",
    "post /v1/keys",
    "post /v1/keys/{kid}/rotate",
)


def test_the_examples_of_all_bodies_are_accepted(
    client: httpx.Client, sessions: sessionmaker[Session]
) -> None:
    assert set(IN_ORDER) == {name for name, found in OPERATIONS.items() if "requestBody" in found}
    # The examples are of a day to which the clock that runs this may not have come.
    last_year = f"{datetime.now(UTC).year - 1}-"
    for name in IN_ORDER:
        method, path = name.split()
        operation = OPERATIONS[name]
        url, query = address(path, operation, weight=None)
        if "incident_id" in path:
            add_incident(sessions, id=3)
        if "request_id" in path:
            add_request(sessions, id=12)
        for media, content in operation["requestBody"]["content"].items():
            example = content.get("example")
            if example is None:
                continue
            text = example if isinstance(example, str) else json.dumps(example)
            # A key can be rotated once.
            kid = client.post("/v1/keys", json={"scopes": ["read"]}).json()["kid"]
            before = logged(client)
            answer = client.request(
                method,
                url.replace("5f3a9c0d1e2b4a68", kid),
                params=query,
                headers={"Content-Type": media},
                content=text.replace("2026-", last_year),
            )
            assert str(answer.status_code) in operation["responses"]
            assert answer.is_success, (name, media, answer.text)
            if need_of(method, path).scope is Scope.ADMIN:
                assert logged(client) > before, f"{name} leaves no entry in the audit log"


def logged(client: httpx.Client) -> int:
    (newest,) = client.get("/v1/audit", params={"limit": 1}).json()["entries"]
    return int(newest["id"])


def test_what_is_wrong_is_answered_as_documented(client: httpx.Client) -> None:
    for name, operation in OPERATIONS.items():
        method, path = name.split()
        url, query = address(path, operation)
        for sent, media in ((b"\xff", "application/json"), (b"{}", "image/png"), (b"[]", CSV)):
            content = sent if "requestBody" in operation else b""
            answer = client.request(
                method, url, params=query, headers={"Content-Type": media}, content=content
            )
            if answer.is_error:
                problem = (answer.status_code, answer.json()["code"])
                assert problem in codes(operation), (name, answer.text)
