"""``POST /v1/predictions`` and ``/v1/labels``: raw routes, for the body is judged row by row.

They are the only asynchronous endpoints: group commit needs concurrent requests in one loop.
"""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from service.access.scopes import authorize, count_rows
from service.errors import InvalidDocumentError, ServiceError
from service.ingest.bodies import read_sent, read_typed
from service.ingest.gate import Gate
from service.ingest.keys import key_of
from service.ingest.truths import read_truths
from service.ingest.verdicts import Verdicts
from service.telemetry import INGEST_BATCH_DURATION, INGEST_BATCHES
from service.web import problem

if TYPE_CHECKING:
    from service.ingest.service import Ingest

_encode = msgspec.json.Encoder().encode
# A body that was not read to its end cannot be followed by another request.
_CLOSING = frozenset({408, 413, 415})


class AllRejectedError(InvalidDocumentError):
    """No row of the request was stored."""

    code = "all-rejected"
    title = "All rows rejected"


def mount_ingest(app: FastAPI) -> None:
    """Add the routes; they find ``Ingest`` in ``app.state.ingest``."""
    app.state.gate = Gate()
    mount_raw(app, "/v1/predictions", "predictions", _predictions)
    mount_raw(app, "/v1/labels", "labels", _labels)


Handler = Callable[[Request], Awaitable[Response]]


def mount_raw(app: FastAPI, path: str, kind: str, handler: Handler) -> None:
    """Add a route that reads its body itself."""
    app.router.routes.append(_NamedRoute(path, _endpoint(kind, handler), methods=["POST"]))


class _NamedRoute(Route):
    """A raw route that says which one it is, as FastAPI's own do, so that metrics can name it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        return match, {**found, "route": self}


def _endpoint(kind: str, handler: Handler) -> Handler:
    duration = INGEST_BATCH_DURATION.labels(kind)

    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        try:
            gate: Gate = request.app.state.gate
            with gate.entered():
                await authorize(request)
                with request.app.state.ingest.room.share() as request.state.share:
                    response = await handler(request)
            outcome = "replayed" if isinstance(response, ReplayedAnswer) else "stored"
        except ServiceError as error:
            response = problem(request, error, headers=_headers(error))
            outcome = error.code
        except ClientDisconnect:
            response = Response(status_code=400)
            outcome = "disconnected"
        INGEST_BATCHES.labels(outcome).inc()
        duration.observe(time.perf_counter() - started)
        return response

    return endpoint


class ReplayedAnswer(Response):
    """The answer that a batch of that key got the first time."""

    def __init__(self, content: bytes) -> None:
        super().__init__(
            content, headers={"Idempotency-Replayed": "true"}, media_type="application/json"
        )


async def _predictions(request: Request) -> Response:
    return await _store(request, "predictions")


async def _labels(request: Request) -> Response:
    return await _store(request, "labels")


async def _store(request: Request, kind: str) -> Response:
    ingest: Ingest = request.app.state.ingest
    ingest.require_room()
    media, body = await read_typed(request, ingest.settings)
    key = key_of(request, kind, media, body)
    if key is not None and (answer := await ingest.known.answer(key)) is not None:
        return ReplayedAnswer(answer)
    sent = await read_sent(request, kind, ingest.settings, ingest.arrow, media, body)
    if kind == "labels":
        sent = read_truths(sent, request.query_params)
    count_rows(request, len(sent.records))
    store = ingest.predictions if kind == "predictions" else ingest.labels
    return _answer(await store(sent, key))


def _headers(error: ServiceError) -> dict[str, str]:
    headers = {"Connection": "close"} if error.status in _CLOSING else {}
    if error.code == "unsupported-encoding":
        headers["Accept-Encoding"] = "gzip, zstd"
    return headers


def _answer(verdicts: Verdicts) -> Response:
    if len(verdicts.refusals) == verdicts.sent:
        message = "every row was rejected"
        raise AllRejectedError(message, rejected=verdicts.problem_rows())
    return json_answer(verdicts.document())


def json_answer(document: dict[str, Any]) -> Response:
    """Return a document as the answer."""
    return Response(_encode(document), media_type="application/json")
