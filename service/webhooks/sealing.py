"""Keeping URLs, headers and secrets of webhooks where whoever reads the database cannot."""

import hmac
import json
import secrets
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.errors import ConflictError
from service.settings import Settings

_NONCE_BYTES = 12
# The key of the service may serve other ends as well; none of them shares its bytes.
_PURPOSE = b"modelwatch webhooks"


class NoSecretKeyError(ConflictError):
    """Webhooks have secrets, and this service has no key to keep them under."""

    code = "no-secret-key"
    title = "No secret key"

    def __init__(self) -> None:
        super().__init__(
            "webhooks have secrets: set MODELWATCH_SECRET_KEY, a long random text, to keep them"
        )


class UnreadableSealError(Exception):
    """What was sealed cannot be opened: it was sealed under another key, or for another name."""


def key_from(settings: Settings) -> bytes | None:
    """Return the key for webhooks, or None where the service has no key."""
    if settings.secret_key is None:
        return None
    return hmac.digest(settings.secret_key.get_secret_value().encode(), _PURPOSE, "sha256")


def seal(key: bytes, name: str, content: dict[str, Any]) -> bytes:
    """Encrypt and authenticate (AES-GCM) what only a webhook of that name may be opened with."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, json.dumps(content).encode(), name.encode())


def unseal(key: bytes, name: str, sealed: bytes) -> dict[str, Any]:
    """Return what was sealed.

    Raises
    ------
    UnreadableSealError
        If it was sealed under another key or for another name, or has been changed.
    """
    try:
        text = AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
    except (InvalidTag, ValueError):
        raise UnreadableSealError from None
    content: dict[str, Any] = json.loads(text)
    return content
