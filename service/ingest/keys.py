"""What a client calls its batch: the header ``Idempotency-Key``."""

import hashlib
import re
from collections.abc import Iterable

from starlette.requests import Request

from service.access.scopes import grant_of
from service.errors import BadRequestError
from service.ingest.verdicts import BatchKey

HEADER = "idempotency-key"
_DIGEST_BYTES = 16
_KEY = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)


def key_of(request: Request, kind: str, media: str, body: bytes) -> BatchKey | None:
    """Return the key of a batch if the client has named one; other clients' are other keys."""
    named = request.headers.getlist(HEADER)
    if not named:
        return None
    if len(named) > 1 or not _KEY.fullmatch(named[0]):
        message = "an Idempotency-Key has 1 to 128 visible characters of ASCII"
        raise BadRequestError(message, code="bad-idempotency-key")
    return BatchKey(
        _digest((grant_of(request).actor.encode(), kind.encode(), named[0].encode())),
        _digest((media.encode(), request.url.query.encode(), body)),
    )


def _digest(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()
