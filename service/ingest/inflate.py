"""Bodies that were sent compressed, inflated up to a limit and not a byte further."""

import zlib
from collections.abc import Callable, Mapping

import pyarrow as pa

from service.errors import BadRequestError, TooLargeError

GZIP_WINDOW = 31
# Each member costs a copy of what follows it, so endless empty members would be a weapon.
MAX_GZIP_MEMBERS = 32
_PIECE = 1 << 20


def inflate_gzip(body: bytes, limit: int) -> bytes:
    """Decompress gzip."""
    pieces: list[bytes] = []
    size = 0
    rest = body
    while rest and len(pieces) < MAX_GZIP_MEMBERS:
        member = zlib.decompressobj(GZIP_WINDOW)
        try:
            piece = member.decompress(rest, limit - size + 1)
        except zlib.error:
            raise _bad_gzip() from None
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        if not member.eof:
            raise _bad_gzip()
        pieces.append(piece)
        rest = member.unused_data
    if rest or not pieces:
        raise _bad_gzip()
    return b"".join(pieces)


def inflate_zstd(body: bytes, limit: int) -> bytes:
    """Decompress zstd, whatever its frames say of their size."""
    pieces: list[bytes] = []
    size = 0
    try:
        # Arrow refuses a stream that ends within a frame, and has zstd where Python 3.11 has not.
        with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
            while piece := stream.read(_PIECE):
                size += len(piece)
                if size > limit:
                    raise _too_large(limit)
                pieces.append(piece)
    except (OSError, pa.ArrowException):
        raise _bad_zstd() from None
    if not pieces:
        raise _bad_zstd()
    return b"".join(pieces)


INFLATERS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "gzip": inflate_gzip,
    "zstd": inflate_zstd,
}


def _bad_gzip() -> BadRequestError:
    return BadRequestError("the body is not a complete gzip stream", code="bad-gzip")


def _bad_zstd() -> BadRequestError:
    return BadRequestError("the body is not a complete zstd stream", code="bad-zstd")


def _too_large(limit: int) -> TooLargeError:
    message = "the decompressed body is over the limit"
    return TooLargeError(message, code="body-too-large", limit=limit)
