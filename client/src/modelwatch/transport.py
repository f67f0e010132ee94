"""One keep-alive connection of the standard library, and what an answer means."""

from __future__ import annotations

import gzip
import http.client
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

RETRIED = frozenset({408, 429})
LOCKED_OUT = frozenset({401, 403})
SERVER_FAULT = 500
SPLIT = frozenset({400, 413})
OK = 200
GZIP_FROM = 1024


@dataclass(frozen=True)
class Answer:
    """What the server said; without a status it could not be reached, and ``cause`` says why."""

    status: int | None
    cause: str = ""
    retry_after: float = 0.0
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed later."""
        status = self.status
        return status is None or status in RETRIED or status >= SERVER_FAULT

    @property
    def is_locked_out(self) -> bool:
        """Whether the key is at fault, and the same request will succeed once it is put right."""
        return self.status in LOCKED_OUT

    @property
    def is_divisible(self) -> bool:
        """Whether half of the request may succeed."""
        return self.status in SPLIT


class Transport:
    """Posts JSON to one server."""

    def __init__(self, url: str, api_key: str | None, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            message = f"{url!r} is no http:// or https:// address"
            raise ValueError(message)
        secure = parts.scheme == "https"
        connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = connect(parts.hostname, parts.port, timeout=timeout)
        self.address = f"{self._connection.host}:{self._connection.port}"
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def post(self, path: str, body: bytes) -> Answer:
        """Send one request."""
        headers = self._headers
        if len(body) >= GZIP_FROM:
            body = gzip.compress(body, 1)
            headers = {**headers, "Content-Encoding": "gzip"}
        try:
            self._connection.request("POST", self._prefix + path, body, headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as fault:
            self.close()
            cause = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
            return Answer(None, cause=str(cause))
        wait = _seconds(response.getheader("Retry-After"))
        return Answer(response.status, retry_after=wait, document=_json(content))

    def close(self) -> None:
        """Close the connection; the next request opens it again."""
        self._connection.close()


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0


def _json(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
