"""Bodies to records: decompression, envelopes, lines.  Nothing here knows a schema."""

import zlib
from typing import Any

import msgspec

from service.errors import BadRequestError, TooLargeError, UnsupportedTypeError
from service.ingest.limits import MAX_DEPTH
from service.ingest.verdicts import Code, RowError

BOM = b"\xef\xbb\xbf"
GZIP_WINDOW = 31
# Each member costs a copy of what follows it, so endless empty members would be a weapon.
MAX_GZIP_MEMBERS = 32

Record = msgspec.Raw | bytes


class Envelope(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A JSON body; the records stay undecoded until their schema is known."""

    records: list[msgspec.Raw]
    model: str | None = None
    version: str | None = None


_envelope = msgspec.json.Decoder(Envelope)
_anything = msgspec.json.Decoder()


def malformed() -> BadRequestError:
    """Return the answer to a body that is not JSON in strict UTF-8."""
    return BadRequestError("the body is not valid JSON in UTF-8", code="malformed-json")


def content_coding(value: str) -> str:
    """Return ``identity`` or ``gzip``, the codings that are read."""
    coding = value.strip().lower()
    if coding in {"", "identity"}:
        return "identity"
    if coding in {"gzip", "x-gzip"}:
        return "gzip"
    message = "the content encoding is not one that is read; send gzip or none"
    raise UnsupportedTypeError(message, code="unsupported-encoding")


def inflate(body: bytes, limit: int) -> bytes:
    """Decompress gzip, and stop as soon as more than ``limit`` bytes come out."""
    pieces: list[bytes] = []
    size = 0
    rest = body
    while rest and len(pieces) < MAX_GZIP_MEMBERS:
        member = zlib.decompressobj(GZIP_WINDOW)
        try:
            piece = member.decompress(rest, limit - size + 1)
        except zlib.error:
            raise bad_gzip() from None
        size += len(piece)
        if size > limit:
            message = "the decompressed body is over the limit"
            raise TooLargeError(message, code="body-too-large", limit=limit)
        if not member.eof:
            raise bad_gzip()
        pieces.append(piece)
        rest = member.unused_data
    if rest or not pieces:
        raise bad_gzip()
    return b"".join(pieces)


def bad_gzip() -> BadRequestError:
    """Return the answer to a body that is not the gzip its header promises."""
    return BadRequestError("the body is not a complete gzip stream", code="bad-gzip")


def read_envelope(body: bytes) -> Envelope:
    """Split a JSON body into its records."""
    if body.startswith(BOM):
        raise malformed()
    try:
        return _envelope.decode(body)
    except msgspec.ValidationError:
        load_whole(body)
        message = 'the body is not an object {"model", "version", "records": [...]}'
        raise BadRequestError(message, code="bad-envelope") from None
    except RecursionError:
        raise too_deep() from None
    except ValueError:
        raise malformed() from None


def load_whole(body: bytes) -> None:
    """Raise unless the body is JSON: a syntax error is reported before a wrong shape."""
    try:
        _anything.decode(body)
    except RecursionError:
        raise too_deep() from None
    except ValueError:
        raise malformed() from None


def too_deep() -> BadRequestError:
    """Return the answer to a document that nests too much."""
    return BadRequestError("the document nests too deeply", code="too-deep", limit=MAX_DEPTH)


def read_lines(body: bytes) -> list[bytes]:
    """Split NDJSON into its lines; blank ones do not count."""
    if body.startswith(BOM):
        raise malformed()
    return [line for line in body.split(b"\n") if line and not line.isspace()]


def load_record(raw: Record, depth: int) -> Any:
    """Decode one record of which nothing is known, at ``depth`` levels below its document."""
    try:
        value = _anything.decode(raw)
    except RecursionError:
        raise RowError(Code.TOO_DEEP, None, "the record nests too deeply") from None
    except ValueError:
        raise RowError(Code.MALFORMED_JSON, None, "the record is not valid JSON in UTF-8") from None
    if _nests_deeper(value, MAX_DEPTH - depth):
        raise RowError(Code.TOO_DEEP, None, "the record nests too deeply")
    return value


def _nests_deeper(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_nests_deeper(v, levels - 1) for v in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_nests_deeper(v, levels - 1) for v in value)
    return False
