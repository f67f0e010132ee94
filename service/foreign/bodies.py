"""Requests to events and lines: content types, modes, and what the address says."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request

from service.errors import (
    BadRequestError,
    InvalidDocumentError,
    TooLargeError,
    UnsupportedTypeError,
)
from service.foreign.aside import aside
from service.foreign.targets import Options
from service.formats.events import (
    BATCHED,
    STRUCTURED,
    Event,
    is_binary_mode,
    read_binary,
    read_structured,
)
from service.formats.outputs import Mapping
from service.formats.trouble import PayloadError, Trouble
from service.formats.values import load
from service.ingest.bodies import JSON, NDJSON, read_body
from service.ingest.decode import BOM, malformed, read_lines, too_deep
from service.settings import Settings
from service.web import content_type

LINES = frozenset({NDJSON, "application/jsonl", "application/jsonlines"})
EVENT_PARAMETERS = ("model", "version", "prediction", "score", "classes", "decide", "only")
CAPTURE_PARAMETERS = (*EVENT_PARAMETERS[:-1], "label_ts")
_MOST_CLASSES = 50
# An empty object of two bytes and a comma takes seventy-two.
_OBJECTS = 24

Found = Event | PayloadError


@dataclass(frozen=True, slots=True)
class SentEvents:
    """The events of a request, each read or refused, what its address says, and its size."""

    found: list[Found]
    options: Options
    size: int


async def read_events(request: Request, settings: Settings) -> SentEvents:
    """Return the events of a request."""
    options = read_options(request.query_params, EVENT_PARAMETERS)
    if is_binary_mode(request.headers):
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        # Of two equal headers the first is taken, as proxies do.
        headers = dict(reversed(request.headers.items()))
        body = await _read(request, settings)
        return SentEvents(
            [await aside(len(body), _binary, headers, media, body)], options, len(body)
        )
    media = content_type(request)
    if media not in {STRUCTURED, BATCHED, JSON, *LINES}:
        message = f"send {STRUCTURED}, {BATCHED}, {NDJSON}, or the event's attributes as headers"
        raise UnsupportedTypeError(message)
    body = await _read(request, settings)
    if media in LINES:
        lines = _bounded(read_lines(body), settings)
        found = await aside(len(body), _each, _line, lines)
        return SentEvents(found, options, len(body))
    documents = await aside(len(body), _documents, body)
    if not isinstance(documents, list):
        documents = [documents]
    elif media == STRUCTURED:
        message = f"a list of events is {BATCHED}"
        raise BadRequestError(message, code="bad-envelope")
    found = await aside(len(body), _each, _structured, _bounded(documents, settings))
    return SentEvents(found, options, len(body))


async def read_captures(request: Request, settings: Settings) -> tuple[list[bytes], Options]:
    """Return the lines of a capture or ground-truth file."""
    options = read_options(request.query_params, CAPTURE_PARAMETERS)
    if options.model is None:
        message = "the model of the captured data is missing: ?model="
        raise InvalidDocumentError(message, code="invalid-request")
    media = content_type(request)
    if media not in {JSON, *LINES}:
        message = f"the content type must be {NDJSON} or {JSON}"
        raise UnsupportedTypeError(message)
    return list(_bounded(read_lines(await _read(request, settings)), settings)), options


def read_options(query: QueryParams, known: tuple[str, ...]) -> Options:
    """Return what an address says; a parameter that is not known is an error, and none is lost."""
    for name in query:
        if name not in known:
            message = f"unknown parameter; the route has {', '.join(known)}"
            raise InvalidDocumentError(message, code="invalid-request")
    only = query.get("only")
    if only not in {None, "response"}:
        message = "only: responses can come alone, and nothing else"
        raise InvalidDocumentError(message, code="invalid-request")
    classes = tuple(query["classes"].split(",")) if query.get("classes") else ()
    if len(set(classes)) != len(classes) or len(classes) > _MOST_CLASSES:
        message = "classes: each class once, separated by commas"
        raise InvalidDocumentError(message, code="invalid-request")
    return Options(
        model=query.get("model") or None,
        version=query.get("version") or None,
        mapping=Mapping(
            prediction=query.get("prediction") or None,
            score=query.get("score") or None,
            classes=classes,
            decide=_decide(query.get("decide")),
        ),
        alone=only is not None,
    )


def _decide(text: str | None) -> str | float | None:
    if not text or text == "argmax":
        return text or None
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        message = "decide: argmax, or a threshold between 0 and 1"
        raise InvalidDocumentError(message, code="invalid-request")
    return threshold


async def _read(request: Request, settings: Settings) -> bytes:
    """Return a body of events, which takes room for the objects that it will be as well."""
    limit = min(settings.max_inflated_bytes, settings.max_body_bytes)
    body = await read_body(request, settings, inflated=limit)
    request.state.share.take(_OBJECTS * len(body))
    return body


def _bounded(found: list[Any], settings: Settings) -> list[Any]:
    if not found:
        message = "the request has no events"
        raise BadRequestError(message, code="empty-batch")
    if len(found) > settings.max_batch_rows:
        message = "the request has too many events"
        raise TooLargeError(message, code="too-many-rows", limit=settings.max_batch_rows)
    return found


def _documents(body: bytes) -> Any:
    if body.startswith(BOM):
        raise malformed()
    try:
        return load(body, "data")
    except PayloadError as error:
        raise (too_deep() if error.code == Trouble.TOO_DEEP else malformed()) from None


def _each(read: Callable[[Any], Found], found: Iterable[Any]) -> list[Found]:
    return [read(each) for each in found]


def _binary(headers: dict[str, str], media: str, body: bytes) -> Found:
    try:
        return read_binary(headers.items(), media, body)
    except PayloadError as error:
        return error


def _line(line: bytes) -> Found:
    try:
        return read_structured(load(line, "data"))
    except PayloadError as error:
        return error


def _structured(document: object) -> Found:
    try:
        return read_structured(document)
    except PayloadError as error:
        return error
