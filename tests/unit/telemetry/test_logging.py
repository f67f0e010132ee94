"""A log line is one line, says when, and JSON reads back."""

import json
import logging
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus

import pytest
from prometheus_client import REGISTRY as GLOBAL_REGISTRY
from prometheus_client import generate_latest

from service import telemetry
from service.telemetry import JsonFormatter, PlainFormatter, configure_logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    hooks = sys.excepthook, threading.excepthook
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    sys.excepthook, threading.excepthook = hooks


def a_record(message: str = "three %s", *args: object, **extra: object) -> logging.LogRecord:
    record = logging.LogRecord("service.x", logging.INFO, __file__, 1, message, args, None)
    record.created = 0.5
    vars(record).update(extra)
    return record


def test_a_plain_line_is_readable() -> None:
    line = PlainFormatter().format(a_record("three %s", "rows", model="loans"))
    assert line == "1970-01-01T00:00:00.500Z INFO    service.x: three rows model='loans'"


def test_a_message_from_outside_cannot_forge_a_line() -> None:
    assert "\n" not in PlainFormatter().format(a_record("%s", "a\r\nb", model="c\nd"))


def test_a_json_line_reads_back_whatever_it_is_given() -> None:
    document = json.loads(JsonFormatter().format(a_record("%s", "a\nb", worker=object)))
    assert (document["message"], document["level"]) == ("a\nb", "INFO")
    assert document["time"] == "1970-01-01T00:00:00.500Z"
    assert "object" in document["worker"]


def test_configuring_twice_logs_once() -> None:
    configure_logging("warning", style="plain")
    configure_logging("warning", style="json")
    ours = [h for h in logging.getLogger().handlers if h.get_name() == "modelwatch"]
    assert len(ours) == 1
    assert isinstance(ours[0].formatter, JsonFormatter)
    assert logging.getLogger().level == logging.WARNING


_UNCAUGHT = """
import threading, warnings
from service.telemetry import configure_logging, logging_setup
configure_logging("INFO", style="json")
configure_logging(*logging_setup()[:1], style=logging_setup()[1])
warnings.warn("a library's")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise RuntimeError("at the end\\nof it")
"""


def test_what_nobody_catches_and_what_libraries_warn_of_are_lines_as_well() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _UNCAUGHT], capture_output=True, text=True, check=False, timeout=300
    )
    said = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [each["level"] for each in said] == ["WARNING", "CRITICAL", "CRITICAL"]
    assert "a library's" in said[0]["message"]
    assert "ZeroDivisionError" in said[1]["exception"]
    assert "RuntimeError: at the end" in said[2]["exception"]
    assert ended.returncode == 1


def test_metrics_stand_in_a_registry_of_our_own_without_created_series() -> None:
    telemetry.JOB_RUNS.labels("window", "done").inc()
    ours = generate_latest(telemetry.REGISTRY).decode()
    assert 'modelwatch_job_runs_total{job_name="window",outcome="done"}' in ours
    assert "_created" not in ours
    assert "modelwatch_" not in generate_latest(GLOBAL_REGISTRY).decode()


def test_a_process_without_an_api_can_be_scraped_and_stops() -> None:
    port, stop = telemetry.serve_metrics("127.0.0.1", 0, lambda _: HTTPStatus.OK)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        assert b"modelwatch_build_info" in answer.read()
    stop()


@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN])
def test_who_may_not_scrape_a_process_is_told_so_and_no_more(status: HTTPStatus) -> None:
    shown: list[str | None] = []

    def admits(authorization: str | None) -> HTTPStatus:
        shown.append(authorization)
        return status

    port, stop = telemetry.serve_metrics("127.0.0.1", 0, admits)
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
    request.add_header("Authorization", "Bearer x")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    stop()
    with refused.value as answer:
        assert (answer.code, answer.read(), shown) == (status, b"", ["Bearer x"])


@pytest.mark.parametrize("formatter", [PlainFormatter(), JsonFormatter()])
def test_no_line_of_a_log_holds_a_key(formatter: logging.Formatter) -> None:
    key = f"mw_live_{'0a' * 8}_{'Zz9' * 16}"
    try:
        int(key)
    except ValueError:
        record = logging.makeLogRecord(
            {"msg": "it said %s", "args": (key,), "headers": [f"Bearer {key}"]}
        )
        record.exc_info = sys.exc_info()
    line = formatter.format(record)
    assert line.count("mw_live_") == 3
    assert "Zz9" not in line


def test_importing_telemetry_is_cheap_and_says_nothing() -> None:
    code = (
        "import service.telemetry, sys; print('fastapi' in sys.modules or 'numpy' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (ran.stdout.strip(), ran.stderr) == (b"False", b"")
