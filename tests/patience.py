"""A machine that stalls for seconds fails no test.

Within a test's own process the service waits longer for its database than in production; a test
that is about these limits takes the fixture ``production_limits``.  Other processes have the limits
of production: whoever talks to them asks again, as clients do.
"""

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httpx

SECONDS = 60
_OPTIONS = (
    f"-c timezone=UTC -c synchronous_commit=on -c statement_timeout={SECONDS}s "
    f"-c lock_timeout={SECONDS}s -c idle_in_transaction_session_timeout={SECONDS}s"
)
LIFTED: dict[str, dict[str, Any]] = {
    "service.access.keyring": {"LOAD_SECONDS": SECONDS, "STOP_SECONDS": SECONDS},
    "service.db.engine": {"CONNECT_SECONDS": SECONDS},
    "service.exporter.refresher": {"FIRST_SECONDS": SECONDS},
    "service.ingest.known": {"LOOKUP_SECONDS": SECONDS},
    "service.ingest.link": {
        "CONNECT_SECONDS": SECONDS,
        "_RECONNECT_WITHIN": SECONDS,
        "_OPTIONS": _OPTIONS,
    },
    "service.ingest.committer": {"DEADLINE_SECONDS": SECONDS},
    "service.ingest.specs": {"LOOKUP_SECONDS": SECONDS},
    "service.ingest.store": {"_SEARCH_SECONDS": SECONDS},
    "service.isolation.room": {"WAIT_SECONDS": SECONDS},
}
_production: dict[tuple[str, str], Any] = {}


def lift_limits() -> None:
    """Lift the limits of what has been imported."""
    for module in LIFTED.keys() & sys.modules.keys():
        for name, value in LIFTED[module].items():
            found = importlib.import_module(module)
            _production.setdefault((module, name), getattr(found, name))
            setattr(found, name, value)


@contextmanager
def limits_of_production() -> Iterator[None]:
    """Give up as soon as production does, for a while."""
    for (module, name), value in _production.items():
        setattr(importlib.import_module(module), name, value)
    try:
        yield
    finally:
        lift_limits()


class PatientClient(httpx.Client):
    """Asks again when the database was away, as soon as it was told to.

    It keeps no connection, which the service would close while the client stalls.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(limits=httpx.Limits(max_keepalive_connections=0), **options)

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request."""
        for _ in range(10):
            answer = super().send(request, **options)
            away = answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
            if not away or answer.json()["code"] != "database-away":
                break
            time.sleep(float(answer.headers["Retry-After"]))
        return answer
