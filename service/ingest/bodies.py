"""Requests to records: size, time, content type and encoding, envelope or lines."""

from collections.abc import AsyncIterator

from starlette.requests import Request

from service.errors import (
    BadRequestError,
    TooLargeError,
    UnsupportedTypeError,
)
from service.ingest.arrow import ARROW, ArrowReader
from service.ingest.decode import content_coding, read_envelope, read_lines
from service.ingest.inflate import INFLATERS
from service.ingest.intake import Sent
from service.ingest.room import Share
from service.settings import Settings
from service.web import body_pieces, content_type

JSON = "application/json"
NDJSON = "application/x-ndjson"
# Where the levels of a record begin: in an envelope below its object and its array.
_ENVELOPE_DEPTH = 2
_LONGEST_LENGTH = 30


async def read_typed(request: Request, settings: Settings) -> tuple[str, bytes]:
    """Return the type and the body of a request with predictions or labels."""
    media = content_type(request)
    if media not in {JSON, NDJSON, ARROW}:
        message = f"the content type must be {JSON}, {NDJSON} or {ARROW}"
        raise UnsupportedTypeError(message)
    return media, await read_body(request, settings)


async def read_sent(
    request: Request, kind: str, settings: Settings, arrow: ArrowReader, media: str, body: bytes
) -> Sent:
    """Return the records of a body."""
    if media == ARROW:
        sent = await arrow.read(kind, body, request)
        # Written out as lines it is another body, and larger.
        request.state.share.take(sum(map(len, sent.records)))
    else:
        sent = _envelope(body) if media == JSON else _lines(body, request)
    if not sent.records:
        message = "the request has no records"
        raise BadRequestError(message, code="empty-batch")
    if len(sent.records) > settings.max_batch_rows:
        message = "the request has too many records"
        raise TooLargeError(message, code="too-many-rows", limit=settings.max_batch_rows)
    return sent


async def read_body(request: Request, settings: Settings, inflated: int | None = None) -> bytes:
    """Return a body, decompressed to at most ``inflated`` bytes; it takes room as it comes."""
    share: Share = request.state.share
    # Two headers are one list, and a list of codings is not read.
    coding = content_coding(",".join(request.headers.getlist("content-encoding")))
    pieces = [piece async for piece in limited_pieces(request, settings.max_body_bytes, share)]
    body = b"".join(pieces)
    if coding in INFLATERS:
        body = INFLATERS[coding](body, inflated or settings.max_inflated_bytes)
        share.take(len(body))
    return body


async def limited_pieces(request: Request, limit: int, share: Share) -> AsyncIterator[bytes]:
    """Yield the pieces of a body as they come; each takes room, and all are within a limit."""
    declared = request.headers.get("content-length", "")
    # Python refuses to read numbers of thousands of digits.
    if declared.isdecimal() and (len(declared) > _LONGEST_LENGTH or int(declared) > limit):
        raise _too_large(limit)
    size = 0
    async for piece in body_pieces(request):
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        share.take(len(piece))
        yield piece


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError("the body is over the limit", code="body-too-large", limit=limit)


def _envelope(body: bytes) -> Sent:
    envelope = read_envelope(body)
    return Sent(
        records=envelope.records,
        model=envelope.model,
        version=envelope.version,
        depth=_ENVELOPE_DEPTH,
        escapes=b"\\" in body,
        lines=False,
    )


def _lines(body: bytes, request: Request) -> Sent:
    query = request.query_params
    return Sent(
        records=read_lines(body),
        model=query.get("model"),
        version=query.get("version"),
        depth=0,
        escapes=b"\\" in body,
        lines=True,
    )
