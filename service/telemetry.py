"""Logs as lines a person can read, or as JSON; and the metrics of this process."""

import json
import logging
import re
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from types import TracebackType
from typing import Any, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    make_wsgi_app,
    start_http_server,
)

# A `_created` series beside each counter doubles their number and tells nothing that
# `process_start_time_seconds` does not.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the client's omission

# Not the client's global registry: a test, or a library that has metrics too, would share it.
REGISTRY = CollectorRegistry(auto_describe=False)

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_REQUEST_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0),
)
_JOB_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

INGEST_ROWS = Counter(
    "modelwatch_ingest_rows",
    "Rows of predictions or labels, by what became of them.",
    ["model", "kind", "result"],
    registry=REGISTRY,
)
LABELS_EXPIRED = Counter(
    "modelwatch_labels_expired",
    "Labels that this worker has deleted because their prediction never came.",
    ["model"],
    registry=REGISTRY,
)
DEAD_LETTERS = Counter(
    "modelwatch_ingest_dead_letters",
    "Rows that only the database refused, each time one was kept as a dead letter.",
    ["model", "kind"],
    registry=REGISTRY,
)
PARSER_DEATHS = Counter(
    "modelwatch_ingest_parser_deaths",
    "Arrow streams that ended the process which read them; each was answered with 400.",
    registry=REGISTRY,
)
INGEST_BATCHES = Counter(
    "modelwatch_ingest_batches",
    "Ingest requests, by how they were answered.",
    ["outcome"],
    registry=REGISTRY,
)
INGEST_BATCH_DURATION = Histogram(
    "modelwatch_ingest_batch_duration_seconds",
    "Time from the first byte of an ingest request to its answer.",
    ["kind"],
    buckets=_REQUEST_BUCKETS,
    registry=REGISTRY,
)
FOREIGN_EVENTS = Counter(
    "modelwatch_foreign_events",
    "Events of inference servers and lines of captured data, by what became of them.",
    ["model", "result"],
    registry=REGISTRY,
)
FOREIGN_ORPHANS = Counter(
    "modelwatch_foreign_orphans",
    "Requests and responses whose other half did not come in time.",
    ["model", "side"],
    registry=REGISTRY,
)
HTTP_REQUEST_DURATION = Histogram(
    "modelwatch_http_request_duration_seconds",
    "Time to answer a request; route is its template.",
    ["method", "route", "code"],
    buckets=_REQUEST_BUCKETS,
    registry=REGISTRY,
)
JOB_RUNS = Counter(
    "modelwatch_job_runs",
    "Jobs that this worker has run, by how they ended.",
    ["job_name", "outcome"],
    registry=REGISTRY,
)
JOB_DURATION = Histogram(
    "modelwatch_job_duration_seconds",
    "Time that a job took.",
    ["job_name"],
    buckets=_JOB_BUCKETS,
    registry=REGISTRY,
)
JOB_LAST_SUCCESS = Gauge(
    "modelwatch_job_last_success_timestamp_seconds",
    "When a job last ended well in this worker; finding nothing to do is well.",
    ["job_name"],
    registry=REGISTRY,
)
JOB_INTERVAL = Gauge(
    "modelwatch_job_interval_seconds",
    "How often this worker starts a job while it is not busy.",
    ["job_name"],
    registry=REGISTRY,
)
WEBHOOK_DELIVERIES = Counter(
    "modelwatch_webhook_deliveries",
    "Attempts to deliver an event: delivered, refused, unreachable, forbidden, abandoned or lost.",
    ["target", "outcome"],
    registry=REGISTRY,
)
BUILD_INFO = Gauge(
    "modelwatch_build_info",
    "Constant 1; the labels say what is running.",
    ["version", "python"],
    registry=REGISTRY,
)

PROCESS_METRICS = (
    INGEST_ROWS,
    DEAD_LETTERS,
    LABELS_EXPIRED,
    PARSER_DEATHS,
    INGEST_BATCHES,
    INGEST_BATCH_DURATION,
    FOREIGN_EVENTS,
    FOREIGN_ORPHANS,
    HTTP_REQUEST_DURATION,
    JOB_RUNS,
    JOB_DURATION,
    JOB_LAST_SUCCESS,
    JOB_INTERVAL,
    WEBHOOK_DELIVERIES,
    BUILD_INFO,
)


@cache
def installed_version() -> str:
    """Return the version of the installed distribution, or ``0+unknown`` in a bare checkout."""
    try:
        return version("modelwatch-server")
    except PackageNotFoundError:
        return "0+unknown"


BUILD_INFO.labels(installed_version(), python_version()).set(1)


def serve_metrics(
    host: str, port: int, admits: Callable[[str | None], HTTPStatus]
) -> tuple[int, Callable[[], None]]:
    """Serve ``/metrics`` for a process without an API (a worker); return its port and a stop.

    ``admits`` is shown the Authorization header, and says how to answer.
    """
    server, thread = start_http_server(port, host, registry=REGISTRY)
    server.set_app(_guarded(make_wsgi_app(REGISTRY), admits))

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return server.server_port, stop


def _guarded(
    app: Callable[..., Any], admits: Callable[[str | None], HTTPStatus]
) -> Callable[..., Any]:
    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        status = admits(environ.get("HTTP_AUTHORIZATION"))
        if status is HTTPStatus.OK:
            return app(environ, start_response)
        headers = [("Content-Length", "0"), ("WWW-Authenticate", 'Bearer realm="modelwatch"')]
        start_response(f"{status.value} {status.phrase}", headers)
        return [b""]

    return guarded


# What the log of a request says it by; the tasks and threads that serve it inherit it.
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)

_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    found = {k: v for k, v in vars(record).items() if k not in _ORDINARY}
    request_id = REQUEST_ID.get()
    return found if request_id is None else {**found, "request_id": request_id}


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Nothing logs a key on purpose; what a library or a traceback repeats is not known.
_KEY = re.compile(r"(mw_[a-z0-9]{1,16}_[0-9a-f]{16}_)[0-9A-Za-z]+")


def _without_keys(line: str) -> str:
    return _KEY.sub(r"\1…", line)


class PlainFormatter(logging.Formatter):
    """``time LEVEL logger: message key=value``; a message never breaks the line."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        extras = "".join(f" {key}={value!r}" for key, value in _extras(record).items())
        line = f"{_time(record)} {record.levelname:<7} {record.name}: {message}{extras}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return _without_keys(line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            **_extras(record),
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return _without_keys(json.dumps(document, default=str))


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    """Log what ended a thread, or the process."""
    if issubclass(kind, Exception):
        logging.getLogger(__name__).critical(
            "nobody caught this", exc_info=(kind, error, trace) if error else None
        )


def logging_setup() -> tuple[str, Literal["plain", "json"]]:
    """Return what ``configure_logging`` was given, for a process that logs to the same place."""
    root = logging.getLogger()
    json_lines = any(isinstance(each.formatter, JsonFormatter) for each in root.handlers)
    return logging.getLevelName(root.level), "json" if json_lines else "plain"


_configuring = threading.Lock()


def configure_logging(level: str = "INFO", *, style: Literal["plain", "json"] = "plain") -> None:
    """Send the log to standard error; calling it again replaces what it set up before.

    Nothing that clients send is logged: no bodies, and libraries that log URLs (which can hold
    tokens) only speak from WARNING.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else PlainFormatter())
    handler.set_name("modelwatch")
    with _configuring:
        root = logging.getLogger()
        for old in [h for h in root.handlers if h.get_name() == "modelwatch"]:
            root.removeHandler(old)
        root.addHandler(handler)
        root.setLevel(level.upper())
    # Otherwise they are lines without an end, beside those that somebody reads by machine.
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda told: _log_uncaught(
        told.exc_type, told.exc_value, told.exc_traceback
    )
    for noisy in ("httpx", "httpcore", "alembic.runtime.migration", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
