"""What a hostile or careless client sends to the routes of references and windows."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from service.runs.endpoints import router as windows
from tests.clients import TestClient

REFERENCE = "/v1/models/loans/versions/7/reference"
EVALUATE = "/v1/models/loans/evaluate"


def a_cursor(*content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


@pytest.fixture
def reader(client: TestClient) -> Iterator[TestClient]:
    assert isinstance(client.app, FastAPI)
    client.app.include_router(windows)
    return client


@pytest.mark.parametrize(
    "body",
    [
        b"null\n",
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        b'{"x":' * 50_000 + b"1" + b"}" * 50_000,
    ],
    ids=["null", "arrays", "objects"],
)
def test_lines_that_crash_the_parser_are_a_malformed_reference(
    client: TestClient, body: bytes
) -> None:
    answer = client.put(REFERENCE, content=body, headers={"Content-Type": "application/x-ndjson"})

    assert (answer.status_code, answer.json()["code"]) == (422, "malformed-reference")


def test_a_heading_that_is_not_utf_8_is_a_malformed_reference(client: TestClient) -> None:
    body = "é,b\n1,2\n".encode("latin1")

    answer = client.put(REFERENCE, content=body, headers={"Content-Type": "text/csv"})

    assert (answer.status_code, answer.json()["code"]) == (422, "malformed-reference")


@pytest.mark.parametrize(
    "row", ["0001-01-01T00:00:00,1", "9999-12-31T23:59:59,1", "2026-01-01,1e19"]
)
def test_times_and_weights_that_no_logged_row_has_are_located(client: TestClient, row: str) -> None:
    body = f"ts,weight,x\n2026-01-01T00:00:00,1,1\n{row},1\n"

    answer = client.put(REFERENCE, content=body, headers={"Content-Type": "text/csv"})

    assert (answer.status_code, answer.json()["code"]) == (422, "bad-column")
    assert answer.json()["rejected"][0]["index"] == 1


def test_a_reference_whose_weights_are_zero_is_stored_without_a_calibrator(
    client: TestClient,
) -> None:
    rows = "".join(f"{row % 2},0.{row % 10},0\n" for row in range(100))
    body = f"label,score,weight\n{rows}"

    answer = client.put(REFERENCE, content=body, headers={"Content-Type": "text/csv"})

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "", "\u202ea", "x" * 201])
def test_classes_are_not_inferred_from_what_nobody_may_declare(
    client: TestClient, name: str
) -> None:
    client.put("/v1/models/fruit", json={"task": "multiclass"})
    client.put("/v1/models/fruit/versions/1", json={})
    lines = "".join(f"{json.dumps({'label': label})}\n" for label in ["b", "c", name] * 100)

    answer = client.put(
        "/v1/models/fruit/versions/1/reference",
        content=lines,
        headers={"Content-Type": "application/x-ndjson"},
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "unknown-classes")


@pytest.mark.parametrize("until", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_utc_does_not_have_is_no_end_of_an_evaluation(
    reader: TestClient, until: str
) -> None:
    # The database stores it, and whoever reads it back fails: no later evaluation was planned.
    assert reader.post(EVALUATE, json={"until": until}).status_code == 422
    assert (
        reader.post(EVALUATE, json={"from": until, "until": "2026-01-01T00:00:00Z"}).status_code
        == 422
    )


@pytest.mark.parametrize(
    "content",
    [
        ["2026-01-01T00:00:00Z", 2**63],
        ["2026-01-01T00:00:00Z", -(2**70)],
        ["2026-01-01T00:00:00Z", float("inf")],
        ["2026-01-01T00:00:00Z", True],
        [1, 1],
    ],
)
@pytest.mark.parametrize("route", ["windows?", "measurements?metric=drift&"])
def test_a_cursor_that_the_service_did_not_give_is_refused(
    reader: TestClient, route: str, content: list[Any]
) -> None:
    answer = reader.get(f"/v1/models/loans/{route}cursor={a_cursor(*content)}")

    assert (answer.status_code, answer.json()["code"]) == (400, "bad-cursor")


@pytest.mark.parametrize(
    "route",
    [
        "windows?version=%00",
        "windows/2026-01-01T00:00:00Z?version=%00",
        "windows/2026-01-01T00:00:00Z/report?version=%00",
        "measurements?metric=%00",
        "measurements?metric=drift&subject=%00",
        "measurements?metric=drift&slice=%00",
        "measurements?metric=drift&version=%00",
    ],
)
def test_a_nul_in_a_query_does_not_reach_the_database(reader: TestClient, route: str) -> None:
    assert reader.get(f"/v1/models/loans/{route}").status_code == 422


def test_no_evaluation_has_a_number_that_the_database_cannot_hold(reader: TestClient) -> None:
    assert reader.get(f"/v1/evaluations/{2**63}").status_code == 404
