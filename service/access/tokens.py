"""Keys as text: ``mw_<env>_<kid>_<secret><crc32>``.

The prefix and the checksum let scanners find a key that has leaked, and let a mistyped one be
told without the database.
"""

import hashlib
import re
import secrets
import zlib
from typing import NamedTuple

ENV = re.compile(r"[a-z0-9]{1,16}")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# 62^43 > 2^256, and 62^6 > 2^32.
_SECRET, _CHECKSUM = 43, 6
_SECRET_BITS = 256
_KID_BYTES = 8
_TOKEN = re.compile(
    rb"(mw_[a-z0-9]{1,16}_([0-9a-f]{16})_[0-9A-Za-z]{43})([0-9A-Za-z]{6})", re.ASCII
)


class Token(NamedTuple):
    """A new key: the only time that it is seen whole."""

    text: str
    kid: str
    digest: bytes


def new_token(env: str) -> Token:
    """Make a key that nobody can guess."""
    kid = secrets.token_hex(_KID_BYTES)
    body = f"mw_{env}_{kid}_{_base62(secrets.randbits(_SECRET_BITS), _SECRET)}"
    text = body + _checksum(body.encode())
    return Token(text, kid, digest_of(text.encode()))


def digest_of(token: bytes) -> bytes:
    """Return what is stored of a key; 256 random bits need no slow hash."""
    return hashlib.sha256(token).digest()


def kid_of(token: bytes) -> str | None:
    """Return which key it claims to be, or None if it can be none."""
    match = _TOKEN.fullmatch(token)
    if match is None or _checksum(match[1]).encode() != match[3]:
        return None
    return match[2].decode()


def _checksum(body: bytes) -> str:
    return _base62(zlib.crc32(body), _CHECKSUM)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
