"""The API process: every router under one application, and the server around it."""

import contextlib
import gc
import logging
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import uvicorn
from anyio import to_thread
from fastapi import Depends, FastAPI

from service.access.gate import Gate
from service.access.keyring import KeyRing
from service.access.scopes import authorize
from service.db.engine import make_engine, make_sessions
from service.errors import ModelwatchSetupError
from service.exporter import endpoints as exporter_endpoints
from service.exporter.refresher import ResultsRefresher
from service.foreign.routes import mount_foreign
from service.foreign.service import create_foreign
from service.ingest import endpoints as ingest_endpoints
from service.ingest import letter_endpoints
from service.ingest.routes import mount_ingest
from service.ingest.service import create_ingest
from service.processes import health, overview
from service.processes.database import required_url
from service.processes.keys import refuse_other_key
from service.processes.listening import open_listener, url_of
from service.processes.openapi import DocumentedApi
from service.processes.opening import require_key
from service.processes.parameters import refuse_unknown_parameters
from service.processes.protocol import BoundedProtocol
from service.processes.request_observer import RequestObserver
from service.processes.stopping import stop_event
from service.registry import endpoints as registry_endpoints
from service.registry import key_endpoints
from service.retraining import endpoints as alert_endpoints
from service.runs import endpoints as runs_endpoints
from service.runs import (
    erasure_endpoints,
    incident_endpoints,
    reference_endpoints,
    request_endpoints,
)
from service.runs.reference_reading import ReferenceRoom
from service.settings import Settings
from service.telemetry import configure_logging, installed_version
from service.tracing import make_tracing
from service.web import install_problems
from service.webhooks import endpoints as webhook_endpoints
from service.webhooks.addresses import Allowed

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 2
GC_THRESHOLD = 50_000
SWITCH_SECONDS = 0.0005

_ROUTERS = (
    health.router,
    registry_endpoints.router,
    reference_endpoints.router,
    ingest_endpoints.router,
    letter_endpoints.router,
    runs_endpoints.router,
    incident_endpoints.router,
    request_endpoints.router,
    alert_endpoints.router,
    webhook_endpoints.router,
    erasure_endpoints.router,
    exporter_endpoints.router,
    key_endpoints.router,
    overview.router,
)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state = app.state
    for each in (state.ingest, state.foreign, state.keys):
        each.start()
    try:
        yield
    finally:
        # Rows that were taken are committed before anything is let go of.
        await state.foreign.stop()
        await state.ingest.stop()
        await state.keys.stop()
        await to_thread.run_sync(state.results.close)
        state.engine.dispose()
        await to_thread.run_sync(state.tracing.end)


def create_app(settings: Settings, *, keyless: bool = False) -> FastAPI:
    """Build the application; it connects to the database on first use.

    ``keyless`` lets in whoever reaches it: for ``modelwatch up`` on loopback, and for tests.
    """
    url = required_url(settings, "serve")
    # What cannot be read of it stops the start, not the first request that needs it.
    Allowed.read(settings.webhook_allow)
    engine = make_engine(url, pool=settings.database_pool)
    sessions = make_sessions(engine)
    ingest = create_ingest(settings, url, sessions)
    keys = KeyRing(sessions)
    tracing = make_tracing("api", on=settings.traces)
    app = DocumentedApi(
        title="modelwatch",
        version=installed_version(),
        lifespan=_lifespan,
        # FastAPI's own pages load scripts from another host; `overview` has none.
        docs_url=None,
        redoc_url=None,
        # Behind a proxy it would lead from https to http, and keys and rows would follow in clear.
        redirect_slashes=False,
        dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)],
        # Its spans and logs would hold what clients send: paths, queries, values.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.settings = settings
    app.state.stopping = threading.Event()
    app.state.engine = engine
    app.state.tracing = tracing
    app.state.sessions = sessions
    app.state.ingest = ingest
    app.state.foreign = create_foreign(settings, url, ingest)
    app.state.results = ResultsRefresher(url)
    app.state.keys = keys
    app.state.references = ReferenceRoom(settings.max_reference_bytes)
    app.add_middleware(Gate, keys=keys, keyless=keyless)
    app.add_middleware(RequestObserver, tracer=tracing.tracer if settings.traces else None)
    _mount(app)
    return app


def _mount(app: FastAPI) -> None:
    install_problems(app)
    mount_ingest(app)
    mount_foreign(app)
    for router in _ROUTERS:
        app.include_router(router)


class _Server(uvicorn.Server):
    """A server that is stopped by an event; signals are the process's affair."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def tune_interpreter() -> None:
    """Suit the process to its two threads, one that reads rows and one that commits them."""
    # What the imports left behind lives as long as the process; do not search it for garbage.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    # The commit gives the interpreter away at every wait for the socket; the usual 5 ms until it
    # has it back, while rows are read, cost a fifth of the throughput.
    sys.setswitchinterval(SWITCH_SECONDS)


def serve(
    settings: Settings, listener: socket.socket, stop: threading.Event, *, keyless: bool = False
) -> int:
    """Serve on the socket until the event is set."""
    app = create_app(settings, keyless=keyless)
    tune_interpreter()
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            server_header=False,
            http=BoundedProtocol,
            ws="none",
        )
    )

    def await_stop() -> None:
        stop.wait()
        # Whoever sends requests here looks at the readiness first, and goes elsewhere.
        app.state.stopping.set()
        time.sleep(settings.drain.total_seconds())
        server.should_exit = True

    threading.Thread(target=await_stop, name="await-stop", daemon=True).start()
    server.run(sockets=[listener])
    if not server.started:
        message = "the API could not start; its log says why"
        raise ModelwatchSetupError(message)
    return 0


def run_child(message: Mapping[str, Any], stop: threading.Event) -> int:
    """Serve as a child of ``up``, on the socket that it has opened."""
    settings = Settings.model_validate(message["settings"])
    configure_logging(settings.log_level, style=settings.log_format)
    listener = socket.socket(fileno=message["listener"])
    return serve(settings, listener, stop, keyless=message["keyless"])


def run(settings: Settings) -> int:
    """Serve as a process of its own."""
    url = required_url(settings, "serve")
    configure_logging(settings.log_level, style=settings.log_format)
    refuse_other_key(settings, url)
    require_key(url, settings.host)
    with open_listener(settings.host, settings.port) as listener:
        log.info("listening on %s", url_of(listener))
        return serve(settings, listener, stop_event())
