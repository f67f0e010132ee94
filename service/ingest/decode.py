"""Bodies to records: envelopes and lines.  Nothing here knows a schema."""

import sys
from typing import Any

import msgspec

from service.errors import BadRequestError, UnsupportedTypeError
from service.ingest.limits import MAX_DEPTH
from service.ingest.verdicts import Code, RowError

BOM = b"\xef\xbb\xbf"
LARGEST = sys.float_info.max

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
    """Return ``identity``, ``gzip`` or ``zstd``, the codings that are read."""
    coding = value.strip().lower()
    if coding in {"", "identity"}:
        return "identity"
    if coding in {"gzip", "x-gzip"}:
        return "gzip"
    if coding == "zstd":
        return coding
    message = "the content encoding is not one that is read; send gzip, zstd or none"
    raise UnsupportedTypeError(message, code="unsupported-encoding")


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
    _check(value, MAX_DEPTH - depth)
    return value


def _check(value: Any, levels: int) -> None:
    """Refuse what nests too deeply, and integers that no double can hold, as ``1e999`` is."""
    if isinstance(value, dict | list):
        if levels == 0:
            raise RowError(Code.TOO_DEEP, None, "the record nests too deeply")
        for inner in value.values() if isinstance(value, dict) else value:
            _check(inner, levels - 1)
    elif type(value) is int and not -LARGEST <= value <= LARGEST:
        raise RowError(Code.MALFORMED_JSON, None, "the record has a number beyond any double")
