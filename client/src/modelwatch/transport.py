"""One keep-alive connection of the standard library, and what an answer means."""

from __future__ import annotations

# All of it here, and none in the sender's thread: a fork in the middle of an import would leave
# the child with half a module.
import encodings.idna  # noqa: F401 - looking up a host's name needs it
import gzip
import http.client
import json
import select
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import socket

RETRIED = frozenset({408, 429})
LOCKED_OUT = frozenset({401, 403})
SPLIT = frozenset({400, 413})
NOT_HERE = frozenset({404, 405})
OK, REDIRECT, REFUSED, SERVER_FAULT = 200, 300, 400, 500
GZIP_FROM = 1024
MOST_ANSWER = 1 << 20


Headers = dict[str, str]


class Answer(NamedTuple):
    """What the server said; without a status it could not be reached, and ``cause`` says why."""

    status: int | None
    cause: str = ""
    retry_after: float = 0.0
    content: bytes = b""

    @property
    def document(self) -> dict[str, Any]:
        """What the server said about the records."""
        try:
            document = json.loads(self.content)
        except (ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}

    @property
    def taken(self) -> tuple[int, int]:
        """How many records were accepted, and how many were there already."""
        if not self._is_success:
            return 0, 0
        document = self.document
        return document["accepted"], document["duplicates"]

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed later."""
        status = self.status
        return status is None or status in RETRIED or status >= SERVER_FAULT

    @property
    def is_locked_out(self) -> bool:
        """Whether the key or the address is at fault; once it is put right, the request succeeds.

        Only modelwatch's own verdict may cost a record: an answer that is plainly somebody else's,
        such as the page of a proxy that does not know the route yet, does not.
        """
        status = self.status
        if status is None or status in LOCKED_OUT:
            return status is not None
        if self._is_success:
            counts = [self.document.get(name) for name in ("accepted", "duplicates")]
            return not all(type(count) is int and count >= 0 for count in counts)
        is_page = status in NOT_HERE and bool(self.content) and not self.document
        return is_page or status < REFUSED

    @property
    def is_divisible(self) -> bool:
        """Whether half of the request may succeed."""
        return self.status in SPLIT

    @property
    def _is_success(self) -> bool:
        return self.status is not None and OK <= self.status < REDIRECT


class Transport:
    """Posts JSON to one server."""

    def __init__(self, url: str, api_key: str | None, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            message = f"{url!r} is no http:// or https:// address"
            raise ValueError(message)
        self._is_secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (
            http.client.HTTPS_PORT if self._is_secure else http.client.HTTP_PORT
        )
        self._connection: http.client.HTTPConnection | None = None
        self._timeout = timeout
        self.address = f"{self._host}:{self._port}"
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Content-Type": "application/json", "User-Agent": "modelwatch-python"}
        if api_key:
            # Read from a file, a key may end with its line.
            self._headers["Authorization"] = f"Bearer {api_key.strip()}"

    def post(self, path: str, body: bytes, timeout: float | None = None) -> Answer:
        """Send one request; ``timeout`` may be shorter than that of the connection."""
        headers = self._headers
        if len(body) >= GZIP_FROM:
            body = gzip.compress(body, 1)
            headers = {**headers, "Content-Encoding": "gzip"}
        try:
            connection = self._open()
            connection.timeout = min(self._timeout, timeout or self._timeout)
            return _ask_again(connection, self._prefix + path, body, headers)
        except (OSError, http.client.HTTPException) as fault:
            self.close()
            cause = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
            return Answer(None, cause=str(cause))

    def close(self) -> None:
        """Close the connection; the next request opens it again."""
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> http.client.HTTPConnection:
        if self._connection is None:
            # Not before, in the host's thread: to read all certificates takes a while.
            secure, plain = http.client.HTTPSConnection, http.client.HTTPConnection
            connect = secure if self._is_secure else plain
            self._connection = connect(self._host, self._port)
        return self._connection


def _ask_again(
    connection: http.client.HTTPConnection, path: str, body: bytes, headers: Headers
) -> Answer:
    """Ask over the connection that there is; one that was closed while idle is no fault."""
    sock = connection.sock
    if sock is None or _has_more_to_say(sock):
        connection.close()
        return _ask(connection, path, body, headers)
    sock.settimeout(connection.timeout)
    try:
        return _ask(connection, path, body, headers)
    except ConnectionError:
        # It was closed between the look at it and its use.
        connection.close()
        return _ask(connection, path, body, headers)


def _ask(
    connection: http.client.HTTPConnection, path: str, body: bytes, headers: Headers
) -> Answer:
    try:
        connection.request("POST", path, body, headers)
    except (BrokenPipeError, ConnectionResetError):
        # A server that refuses a body may answer before it has read all of it.
        if connection.sock is None:
            raise
    response = connection.getresponse()
    content = response.read(MOST_ANSWER)
    if not response.isclosed():
        connection.close()
    return Answer(response.status, "", _seconds(response.getheader("Retry-After")), content)


def _has_more_to_say(sock: socket.socket) -> bool:
    """Say whether an idle connection can be read: the server closed it, or is out of step."""
    if not hasattr(select, "poll"):
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _seconds(text: str | None) -> float:
    """Return how long to wait: a number, or the time until a date."""
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text or "").timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0
