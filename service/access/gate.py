"""Every request passes here first, and says who it is before anything of it is read."""

import base64
import binascii
from contextlib import suppress
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.grants import LOCAL, Grant
from service.access.keyring import KeyRing
from service.access.quotas import Meter
from service.db.visibility import only
from service.errors import ForeignOriginError, ServiceError, UnauthenticatedError
from service.web import closing, declared_size, problem

WITHOUT_KEY: Final = frozenset({"/healthz", "/readyz"})


class Gate:
    """Answers 401 to whoever shows no key; ``keyless`` is for ``modelwatch up`` on loopback."""

    def __init__(self, app: ASGIApp, keys: KeyRing, *, keyless: bool) -> None:
        self._app = app
        self._keys = keys
        self._keyless = keyless

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its grant, or refuse it."""
        if scope["type"] != "http" or scope["path"] in WITHOUT_KEY:
            await self._app(scope, receive, send)
            return
        try:
            grant = await self._grant(scope)
            if grant.meter is not None:
                receive = _admitted(grant.meter, scope, receive)
        except ServiceError as error:
            await problem(Request(scope), error, headers=_headers(scope, error))(
                scope, receive, send
            )
            return
        scope["grant"] = grant
        if grant.models is None:
            await self._app(scope, receive, send)
            return
        with only(grant.models):
            await self._app(scope, receive, send)

    async def _grant(self, scope: Scope) -> Grant:
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        if self._keyless:
            _require_own_name(scope)
            _require_own_page(scope)
            if not sent:
                return LOCAL
        if len(sent) != 1:
            raise UnauthenticatedError
        scheme, _, shown = sent[0].partition(b" ")
        if scheme.lower() == b"bearer":
            return await self._keys.grant(shown)
        if scheme.lower() == b"basic":
            # A browser that knows a password shows it whichever page asks.
            _require_own_page(scope)
            return await self._keys.grant(_password(shown))
        raise UnauthenticatedError


def _password(shown: bytes) -> bytes:
    """Return the password of Basic, which may be a key.

    The loggers of inference servers have nowhere to put a header, and make this one of an address
    like ``http://key:mw_…@host/v1/cloudevents``.
    """
    with suppress(binascii.Error):
        return base64.b64decode(shown, validate=True).partition(b":")[2]
    raise UnauthenticatedError


def _admitted(meter: Meter, scope: Scope, receive: Receive) -> Receive:
    """Count a request before its body is read; a body of unknown size is counted as it comes."""
    size = declared_size(scope)
    meter.admit(size or 0)
    if size is not None:
        return receive

    async def counted() -> Message:
        message = await receive()
        meter.take_bytes(len(message.get("body", b"")))
        return message

    return counted


def _headers(scope: Scope, error: ServiceError) -> dict[str, str]:
    headers = closing(scope)
    if isinstance(error, UnauthenticatedError):
        headers["WWW-Authenticate"] = 'Bearer realm="modelwatch"'
    return headers


def _require_own_name(scope: Scope) -> None:
    """Refuse another host's name: a page's own may be made to point here, and it reads answers."""
    hosts = _values(scope, b"host")
    if len(hosts) != 1 or not _is_own_name(hosts[0]):
        raise ForeignOriginError


def _require_own_page(scope: Scope) -> None:
    """Refuse what another site's page sends: it may post here without asking anybody."""
    hosts = _values(scope, b"host")
    for origin in _values(scope, b"origin"):
        if [origin.partition("://")[2].lower()] != [host.lower() for host in hosts]:
            raise ForeignOriginError


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for each, value in scope["headers"] if each == name]


def _is_own_name(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
