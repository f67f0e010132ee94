"""Sending one request to an address that was judged, within one span of time.

The name is resolved once; the connection goes to the very addresses that were permitted, while
TLS still proves the name.  No redirect is followed, no proxy is asked.
"""

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import certifi
import httpcore

from service import clock
from service.webhooks.addresses import Allowed, Destination, ForbiddenAddressError
from service.webhooks.connecting import Pinned
from service.webhooks.resolving import Resolve, resolve, resolve_within

SECONDS = 15.0
MAX_REPLY_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one attempt: a status, or the error that took its place.

    Nothing else of what was answered is kept: whoever sets up a webhook must not read by it.
    """

    status: int | None
    error: str | None
    retry_after: timedelta | None = None


def trusted() -> ssl.SSLContext:
    """Return a TLS context that trusts what the system trusts, and the well-known authorities."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends requests where it may; tests give it another resolver and other authorities."""

    allowed: Allowed
    context: ssl.SSLContext
    resolve: Resolve = resolve
    seconds: float = SECONDS

    def post(self, destination: Destination, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send the request and return what came of it."""
        deadline = time.monotonic() + self.seconds
        try:
            addresses = resolve_within(
                self.resolve, destination.host, destination.port, self.seconds
            )
            self.allowed.require(destination, addresses)
            return self._exchange(destination, headers, body, Pinned(addresses, deadline))
        except (ForbiddenAddressError, OSError, *_FAILURES) as error:
            return Reply(None, _named(error))

    def _exchange(
        self,
        destination: Destination,
        headers: Mapping[str, str],
        body: bytes,
        backend: Pinned,
    ) -> Reply:
        url = httpcore.URL(
            scheme=destination.scheme.encode(),
            host=destination.host.encode(),
            port=destination.port,
            target=destination.target.encode(),
        )
        framed = {**headers, "Host": destination.authority, "Connection": "close"}
        sent = [(name.encode(), value.encode()) for name, value in framed.items()]
        with (
            httpcore.HTTPConnection(
                url.origin, ssl_context=self.context, network_backend=backend
            ) as connection,
            connection.stream("POST", url, headers=sent, content=body) as response,
        ):
            _drain(response)
            return _reply(response)


# Their text can hold addresses of the inside, and URLs can hold tokens: only these words are kept.
_FAILURES = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)
_NAMES: tuple[tuple[type[Exception], str], ...] = (
    (ForbiddenAddressError, "forbidden-address"),
    (TimeoutError, "resolve-timeout"),
    (OSError, "unresolved"),
    (httpcore.TimeoutException, "timeout"),
    (httpcore.ConnectError, "unreachable"),
)


def _named(error: Exception) -> str:
    if isinstance(error.__cause__, ssl.SSLError):
        return "tls"
    return next((name for kind, name in _NAMES if isinstance(error, kind)), "broken-connection")


def _drain(response: httpcore.Response) -> None:
    """Read what a target says, as far as it is bearable, for it may write before it is done."""
    read = 0
    try:
        for piece in response.iter_stream():
            read += len(piece)
            if read >= MAX_REPLY_BYTES:
                return
    except _FAILURES:
        return


def _reply(response: httpcore.Response) -> Reply:
    if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
        return Reply(response.status, None)
    asked = next((v for n, v in response.headers if n.lower() == b"retry-after"), b"")
    return Reply(response.status, "refused", _wait(asked.decode("ascii", "replace").strip()))


def _wait(asked: str) -> timedelta | None:
    """Read a Retry-After, which is seconds or a date."""
    # At most six digits: more is not a wait but an overflow.
    if asked.isascii() and asked.isdigit() and len(asked) <= len("999999"):
        return timedelta(seconds=int(asked))
    try:
        at = parsedate_to_datetime(asked)
    except (ValueError, TypeError, OverflowError):
        return None
    return None if at.tzinfo is None else max(at - clock.now(), timedelta(0))
