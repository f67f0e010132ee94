"""What the endpoints share: sessions, documents, and failures as ``application/problem+json``."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Annotated, Any

import orjson
import psycopg
import yaml
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from service.db.outage import DATABASE
from service.db.trouble import is_refusal, lacks_tables
from service.errors import (
    BadRequestError,
    DatabaseAwayError,
    NotMigratedError,
    ServiceError,
    StalledBodyError,
    TooLargeError,
    UnsupportedTypeError,
)

log = logging.getLogger(__name__)

MAX_DOCUMENT_BYTES = 1 << 20
# PyYAML reads some 100 kB a second.
MAX_YAML_BYTES = 128 << 10
# Each may be a mistake, and what is known of a mistake takes a hundred times its place.
MOST_VALUES = 100_000
# A client that is silent for so long inside a body is not waited for ...
STALL_SECONDS = 10.0
# ... nor one that, after as long, sends fewer bytes a second than any link does.
LEAST_RATE = 64 << 10
LONGEST_INSTANCE = 300
# A body that nobody reads is read to its end and thrown away, if it is no longer than this.
_SHORT_BODY = 64 << 10
# Longer ones are no sizes, and int() refuses the longest.
_MOST_DIGITS = 18
MOST_LISTED = 100

JSON_TYPES = frozenset({"application/json"})
YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})

_TITLES = {404: ("not-found", "Not found"), 405: ("method-not-allowed", "Method not allowed")}


def _read_session(request: Request) -> Iterator[Session]:
    with request.app.state.sessions() as session, session.begin():
        session.connection(execution_options={"postgresql_readonly": True})
        yield session
    DATABASE.works("requests")


def _write_session(request: Request) -> Iterator[Session]:
    with request.app.state.sessions() as session, session.begin():
        yield session
    DATABASE.works("requests")


# The scope makes the commit happen before the answer is sent.
ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
WriteSession = Annotated[Session, Depends(_write_session, scope="function")]


def content_type(request: Request) -> str:
    """Return the media type of the body; a charset other than UTF-8 is refused."""
    media, _, parameters = request.headers.get("content-type", "").partition(";")
    for parameter in parameters.split(";"):
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "charset" and value.strip(" \"'").lower() not in {
            "utf-8",
            "utf8",
            "us-ascii",
        }:
            message = "the charset must be UTF-8"
            raise UnsupportedTypeError(message)
    return media.strip().lower()


def declared_size(scope: Scope) -> int | None:
    """Return the size of the body; None if only its end will tell."""
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) <= _MOST_DIGITS else None
    return 0


def closing(scope: Scope) -> dict[str, str]:
    """Return the header of an answer to a request whose body need not have been read."""
    size = declared_size(scope)
    return {"Connection": "close"} if size is None or size > _SHORT_BODY else {}


async def body_pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield the pieces of a body as they come, as long as they come and fast enough."""
    pieces = aiter(request.stream())
    time = asyncio.get_running_loop().time
    patience = STALL_SECONDS
    while True:
        began = time()
        try:
            async with asyncio.timeout(patience):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            message = (
                f"the body brought nothing for {STALL_SECONDS:.0f} s, or less than"
                f" {LEAST_RATE >> 10} KiB a second"
            )
            raise StalledBodyError(message) from None
        # What came fast earns no more of it, or the rest could come as slowly as one likes.
        patience += began - time() + len(piece) / LEAST_RATE
        patience = min(STALL_SECONDS, max(0.0, patience))
        yield piece


async def _document(request: Request) -> Any:
    """Read a JSON or YAML body of limited size; only reading it is asynchronous."""
    media = content_type(request)
    if media not in JSON_TYPES | YAML_TYPES:
        message = "the content type must be application/json or application/yaml"
        raise UnsupportedTypeError(message)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        message = "a document is sent without a content encoding"
        raise UnsupportedTypeError(message)
    limit = MAX_DOCUMENT_BYTES if media in JSON_TYPES else MAX_YAML_BYTES
    body = bytearray()
    async for piece in body_pieces(request):
        body += piece
        if len(body) > limit:
            message = "the document is too large"
            raise TooLargeError(message, limit=limit)
    if body.count(b",") > MOST_VALUES:
        message = "the document has too many values"
        raise TooLargeError(message, limit=MOST_VALUES)
    # A large document takes its time to parse, and the loop has others to serve.
    return await run_in_threadpool(_parse, bytes(body), media)


def _parse(body: bytes, media: str) -> Any:
    try:
        if media in JSON_TYPES:
            return orjson.loads(body)
        # libyaml would be faster, but deep nesting overflows its stack and ends the process.
        return _unfolded(yaml.safe_load(body.decode()))
    except orjson.JSONDecodeError:
        message = "the body is not JSON"
        raise BadRequestError(message, code="malformed-json", title="Malformed JSON") from None
    # PyYAML lets the errors of impossible dates, of wrong tags and of deep nesting through.
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, TypeError, RecursionError):
        message = "the body is not YAML in UTF-8"
        raise BadRequestError(message, code="malformed-yaml", title="Malformed YAML") from None


def _unfolded(document: Any) -> Any:
    """Return the document, if it is not too large once each alias is replaced by what it names."""
    stack, left = [document], MOST_VALUES
    while stack:
        value = stack.pop()
        left -= 1
        if isinstance(value, dict | list):
            stack.extend(value.values() if isinstance(value, dict) else value)
        if len(stack) > left:
            message = "the document has too many values"
            raise TooLargeError(message, limit=MOST_VALUES)
    return document


Body = Annotated[Any, Depends(_document)]


def documented_body(kind: type[BaseModel], example: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a body that is read by ``Body``, for a route's ``openapi_extra``."""
    # Definitions of parts move to the document's components.
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    content = {"schema": schema, "example": dict(example)}
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": content, "application/yaml": content},
        }
    }


def problem(
    request: Request, error: ServiceError, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Render a failure as RFC 9457 has it."""
    content: dict[str, Any] = {
        "type": f"/problems/{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "instance": request.url.path[:LONGEST_INSTANCE],
    }
    if error.limit is not None:
        content["limit"] = error.limit
    if error.rejected:
        content["rejected"] = list(error.rejected[:MOST_LISTED])
    sent = dict(headers or {})
    if error.retry_after is not None:
        sent["Retry-After"] = str(error.retry_after)
    return Response(
        orjson.dumps(content), error.status, sent, media_type="application/problem+json"
    )


def install_problems(app: FastAPI) -> None:
    """Make every failure of the application a problem document."""

    @app.exception_handler(ServiceError)
    def deliberate(request: Request, error: ServiceError) -> Response:
        return problem(request, error, headers=closing(request.scope))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem(request, _invalid_request(error.errors()))

    @app.exception_handler(HTTPException)
    def routing(request: Request, error: HTTPException) -> Response:
        code, title = _TITLES.get(error.status_code, ("bad-request", "Bad request"))
        answer = ServiceError(title, code=code, title=title)
        return problem(request, _with_status(answer, error.status_code), headers=error.headers)

    @app.exception_handler(ClientDisconnect)
    def gone(_request: Request, _error: Exception) -> Response:
        # Nobody reads it; without it a client that hangs up is logged as a failure of ours.
        return Response(status_code=400)

    @app.exception_handler(PoolTimeoutError)
    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    @app.exception_handler(psycopg.OperationalError)
    def away(request: Request, error: Exception) -> Response:
        DATABASE.fails("requests", error)
        return problem(request, DatabaseAwayError())

    @app.exception_handler(ProgrammingError)
    def lacking(request: Request, error: ProgrammingError) -> Response:
        if not (lacks_tables(error) or is_refusal(error)):
            raise error
        DATABASE.fails("requests", error)
        return problem(request, NotMigratedError() if lacks_tables(error) else DatabaseAwayError())

    @app.exception_handler(Exception)
    def unhandled(request: Request, _error: Exception) -> Response:
        return problem(request, ServiceError("the service failed; its log says why"))


def _invalid_request(errors: Sequence[Mapping[str, Any]]) -> ServiceError:
    rejected = [
        {
            "field": ".".join(str(part) for part in error["loc"]),
            "code": str(error["type"]).replace("_", "-"),
            "detail": str(error["msg"]),
        }
        for error in errors[:MOST_LISTED]
    ]
    first = rejected[0]
    detail = f"{first['field']}: {first['detail']}"
    answer = ServiceError(
        detail, code="invalid-request", title="Invalid request", rejected=rejected
    )
    return _with_status(answer, 422)


def _with_status(error: ServiceError, status: int) -> ServiceError:
    error.status = status  # type: ignore[misc]  # the framework chose it, not one of our classes
    return error
