"""Standard Webhooks signatures (https://www.standardwebhooks.com)."""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
SHORTEST_KEY, LONGEST_KEY = 24, 64


def generated_secret() -> str:
    """Return a new secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SHORTEST_KEY)).decode()


def signing_key(secret: str) -> bytes:
    """Decode a secret, ``whsec_`` and base64.

    Raises
    ------
    ValueError
        If it is not one; the message does not repeat it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        message = f"must be {PREFIX} and the base64 of {SHORTEST_KEY} to {LONGEST_KEY} random bytes"
        raise ValueError(message)
    return key


def signed_headers(
    keys: Sequence[bytes], message_id: str, at: datetime, body: bytes
) -> dict[str, str]:
    """Return the three headers by which the receiver knows us, and knows a replay.

    Of several keys each signs, so that a receiver may change to the next one when it likes.
    """
    timestamp = str(int(at.timestamp()))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(
            f"v1,{base64.b64encode(digest).decode()}" for digest in digests
        ),
    }
