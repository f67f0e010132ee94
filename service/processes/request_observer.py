"""How long requests take, by route; and a name for each, which its answer and its log bear."""

import logging
import re
import secrets
import time

from opentelemetry.trace import SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry import HTTP_REQUEST_DURATION, REQUEST_ID

log = logging.getLogger(__name__)

_PARENT = TraceContextTextMapPropagator()
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FAILURE = 500
_HEADER = b"x-request-id"
# What somebody else has named: a log line, or a header, must not be made of it.
_NAME = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


class RequestObserver:
    """Observes each request under its route's template: a path would be a label without end."""

    def __init__(self, app: ASGIApp, tracer: Tracer | None = None) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and observe it once it is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, started = time.time_ns(), time.perf_counter()
        status = _FAILURE
        name = _name_of(scope)
        # Not taken back: the server runs each request in a task, and logs its failure after it.
        REQUEST_ID.set(name.decode())

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (_HEADER, name)]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            HTTP_REQUEST_DURATION.labels(method, route, str(status)).observe(seconds)
            # Paths and queries hold what clients send; logs and spans know the route alone.
            if self._tracer is not None:
                self._tracer.start_span(
                    f"{method} {route}",
                    context=_PARENT.extract(Headers(scope=scope)),
                    kind=SpanKind.SERVER,
                    start_time=began,
                    attributes={"request.id": name.decode(), "http.response.status_code": status},
                ).end()
            if log.isEnabledFor(logging.DEBUG):
                fields = {"method": method, "route": route, "status": status}
                log.debug("request", extra={**fields, "seconds": round(seconds, 6)})


def _name_of(scope: Scope) -> bytes:
    given = next((value for key, value in scope["headers"] if key == _HEADER), b"")
    return given if _NAME.fullmatch(given) else secrets.token_hex(8).encode()
