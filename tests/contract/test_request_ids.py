"""A request has one name: of its caller or our own, in the answer and in every line of its log."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from service.telemetry import JsonFormatter


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("service")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield written
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_an_answer_bears_the_name_that_its_request_was_given(client: httpx.Client) -> None:
    answer = client.get("/v1/models/none", headers={"X-Request-ID": "01J-a.b:c/7"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (404, "01J-a.b:c/7")


@pytest.mark.parametrize("name", ["", "a b", "é", "x" * 129, '"},{'])
def test_a_name_that_could_forge_something_is_replaced(client: httpx.Client, name: str) -> None:
    answers = [
        client.get("/healthz", headers={b"X-Request-ID": name.encode()}).headers for _ in range(2)
    ]
    names = {answer["x-request-id"] for answer in answers}
    assert len(names) == 2
    assert all(len(one) == 16 and one.isalnum() for one in names)


def test_a_line_of_the_log_names_the_request_and_no_more_of_it(
    client: httpx.Client, lines: io.StringIO
) -> None:
    client.get("/v1/models/none?model=secret", headers={"X-Request-ID": "r-1"})
    line = next(
        document
        for document in map(json.loads, lines.getvalue().splitlines())
        if document["logger"].endswith("request_observer")
    )
    assert line.pop("seconds") >= 0
    assert line.pop("time")
    assert line == {
        "logger": "service.processes.request_observer",
        "level": "DEBUG",
        "message": "request",
        "method": "GET",
        "route": "/v1/models/{model}",
        "status": 422,
        "request_id": "r-1",
    }


def test_the_environment_chooses_json() -> None:
    code = (
        "from service.settings import Settings; from service.telemetry import configure_logging;"
        "import logging; s = Settings(); configure_logging(s.log_level, style=s.log_format);"
        "logging.getLogger('x').warning('here')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"MODELWATCH_LOG_FORMAT": "json"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stderr)["message"] == "here"
