"""ASGI middleware: an id for each request, in the context and in the header of the answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from modelwatch.context import correlate
from modelwatch.ids import new_prediction_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Shorter than what the server takes, since rows of one request get `~0`, `~1` behind it.
_WELL_FORMED = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


class PredictionIdMiddleware:
    """Give each HTTP request a prediction id; bodies are neither read nor kept.

    What is logged while a request is served has its id, and the answer bears it in the header,
    so that whoever asked can send the label.  An id that comes in the same header is taken if it
    is well-formed, unless ``accept_incoming`` is false: who chooses the id of a prediction can
    give the next one the same, and a conflicting row is refused.

    >>> from fastapi import FastAPI
    >>> from modelwatch.asgi import PredictionIdMiddleware
    >>> app = FastAPI()
    >>> app.add_middleware(PredictionIdMiddleware)
    """

    def __init__(
        self,
        app: Application,
        *,
        header: str = "X-Prediction-Id",
        accept_incoming: bool = True,
    ) -> None:
        self._app = app
        self._header = header.lower().encode("latin-1")
        self._accept_incoming = accept_incoming

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what is asked for."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        prediction_id = self._incoming(scope) or new_prediction_id()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if all(name.lower() != self._header for name, _ in headers):
                    headers.append((self._header, prediction_id.encode("ascii")))
                message = {**message, "headers": headers}
            await send(message)

        with correlate(prediction_id):
            await self._app(scope, receive, send_with_id)

    def _incoming(self, scope: Scope) -> str | None:
        if not self._accept_incoming:
            return None
        given = [value for name, value in scope["headers"] if name == self._header]
        if len(given) != 1 or not _WELL_FORMED.fullmatch(given[0]):
            return None
        return bytes(given[0]).decode("ascii")
