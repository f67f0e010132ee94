"""``POST /v1/cloudevents`` and ``/v1/import/sagemaker``: raw routes, as those of ingest are.

Inference servers take any answer but 200 for an error, and wait for it with a handful of workers:
the answer is 200, given as soon as the commit allows.
"""

from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from service.access.scopes import count_rows
from service.foreign.answers import Answer
from service.foreign.bodies import read_captures, read_events
from service.ingest.routes import AllRejectedError, json_answer, mount_raw

if TYPE_CHECKING:
    from service.foreign.service import Foreign


def mount_foreign(app: FastAPI) -> None:
    """Add the routes; they find ``Foreign`` in ``app.state.foreign``."""
    mount_raw(app, "/v1/cloudevents", "cloudevents", _events)
    mount_raw(app, "/v1/import/sagemaker", "sagemaker", _captures)


async def _events(request: Request) -> Response:
    foreign: Foreign = request.app.state.foreign
    return _answer(request, await foreign.events(await read_events(request, foreign.settings)))


async def _captures(request: Request) -> Response:
    foreign: Foreign = request.app.state.foreign
    lines, options = await read_captures(request, foreign.settings)
    label_ts = request.query_params.get("label_ts")
    return _answer(request, await foreign.captures(lines, options, label_ts))


def _answer(request: Request, answer: Answer) -> Response:
    count_rows(request, max(answer.sent, answer.stored.total()))
    if len(answer.rejected) == answer.sent:
        message = "every event was rejected"
        raise AllRejectedError(message, rejected=answer.problem_rows())
    return json_answer(answer.document())
