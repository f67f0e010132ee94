"""Standard Webhooks signatures (https://www.standardwebhooks.com)."""

import base64
import binascii
import hashlib
import hmac
from datetime import datetime

from service.errors import ModelwatchSetupError

_PREFIX = "whsec_"
_SHORTEST_KEY = 16


def signing_key(secret: str) -> bytes:
    """Decode a secret, ``whsec_`` and base64.

    Raises
    ------
    ModelwatchSetupError
        If it is not one; the message does not repeat it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < _SHORTEST_KEY:
        message = (
            "MODELWATCH_WEBHOOK_SECRET must be whsec_ and the base64 of at least "
            f"{_SHORTEST_KEY} random bytes"
        )
        raise ModelwatchSetupError(message)
    return key


def signed_headers(key: bytes, message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers by which the receiver knows us, and knows a replay."""
    timestamp = str(int(at.timestamp()))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
