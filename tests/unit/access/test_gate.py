"""Who is let in without a key, where none is wanted, and how a key may be shown."""

import asyncio
import base64
from typing import Any

import pytest

from service.access.gate import Gate
from service.access.grants import LOCAL, Grant, Scope
from service.access.quotas import Meter
from service.db.visibility import visible_models
from service.errors import UnauthenticatedError

KEY = b"mw_a_key"


class OneKey:
    def __init__(self, **grant: Any) -> None:
        self._grant = Grant("key:1", frozenset({Scope.READ}), **grant)

    async def grant(self, token: bytes) -> Grant:
        if token != KEY:
            raise UnauthenticatedError
        return self._grant


def ask(
    *headers: tuple[bytes, bytes],
    keyless: bool = False,
    body: tuple[bytes, ...] = (b"",),
    path: str = "/v1/models",
    **grant: Any,
) -> tuple[int, dict[bytes, bytes], list[Any]]:
    """Return status, headers and what the application behind the gate saw."""
    seen: list[Any] = []
    sent: list[Any] = []
    pieces = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]

    async def receive() -> Any:
        return pieces.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope.get("grant"), visible_models()))
        for _ in body:
            await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": list(headers),
    }
    gate = Gate(app, OneKey(**grant), keyless=keyless)  # type: ignore[arg-type]  # it does what a ring does
    asyncio.run(gate(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), seen


def bearer(key: bytes = KEY, scheme: bytes = b"Bearer ") -> tuple[bytes, bytes]:
    return (b"authorization", scheme + key)


def basic(key: bytes = KEY) -> tuple[bytes, bytes]:
    return bearer(base64.b64encode(b"key:" + key), b"Basic ")


@pytest.mark.parametrize("header", [bearer(), bearer(scheme=b"bEARER "), basic()])
def test_a_key_lets_in(header: tuple[bytes, bytes]) -> None:
    status, _, seen = ask(header)
    assert status == 200
    assert seen[0][0].actor == "key:1"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [bearer(b"mw_another")],
        [bearer(), bearer()],
        [bearer(scheme=b"")],
        [bearer(scheme=b"Bearer")],
        [bearer(scheme=b"Bearer  ")],
        [bearer(scheme=b"Token ")],
        [basic(b"mw_another")],
        [bearer(b"!", b"Basic ")],
        [(b"x-api-key", KEY)],
        [(b"cookie", b"authorization=" + KEY)],
    ],
)
def test_anything_else_is_answered_401_and_goes_no_further(headers: list[Any]) -> None:
    status, found, seen = ask(*headers)
    assert status == 401
    assert found[b"www-authenticate"].startswith(b"Bearer")
    assert seen == []


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_told_to_everybody(path: str) -> None:
    assert ask(path=path)[0] == 200


@pytest.mark.parametrize("path", ["/healthz/", "//healthz", "/healthz/../v1/models", "/HEALTHZ"])
def test_what_looks_like_health_is_not(path: str) -> None:
    assert ask(path=path)[0] == 401


@pytest.mark.parametrize(
    "host", [b"localhost", b"LocalHost:8080", b"127.0.0.1:8080", b"127.9.9.9", b"[::1]:8080"]
)
def test_without_keys_this_machine_s_own_names_are_taken(host: bytes) -> None:
    status, _, seen = ask((b"host", host), keyless=True)
    assert (status, seen[0]) == (200, (LOCAL, None))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"evil.example:8080")],
        [(b"host", b"localhost.evil.example")],
        [(b"host", b"127.0.0.1.nip.io")],
        [(b"host", b"10.0.0.1")],
        [(b"host", b"evil@localhost.example")],
        [(b"host", b"")],
        [(b"host", b"[::1")],
        [(b"host", b"localhost"), (b"host", b"evil.example")],
    ],
)
def test_without_keys_other_names_are_refused(headers: list[Any]) -> None:
    status, _, seen = ask(*headers, keyless=True)
    assert (status, seen) == (403, [])


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (b"http://localhost:8080", 200),
        (b"http://localhost", 403),
        (b"http://localhost:8081", 403),
        (b"https://evil.example", 403),
        (b"null", 403),
        (b"", 403),
    ],
)
@pytest.mark.parametrize("keyless", [True, False])
def test_pages_of_other_sites_are_refused_where_a_browser_needs_no_header(
    origin: bytes, status: int, keyless: bool
) -> None:
    shown = [] if keyless else [basic()]
    headers = [(b"host", b"localhost:8080"), (b"origin", origin), *shown]
    assert ask(*headers, keyless=keyless)[0] == status
    assert ask(*headers[:2], bearer(), keyless=False)[0] == 200


def test_a_key_that_is_sent_counts_even_where_none_is_wanted() -> None:
    local = (b"host", b"localhost")
    assert ask(local, bearer(b"mw_another"), keyless=True)[0] == 401
    _, _, seen = ask(local, bearer(), keyless=True, models=frozenset({"loans"}))
    assert seen[0][1] == {"loans"}


def test_what_a_key_may_see_ends_with_its_request() -> None:
    _, _, seen = ask(bearer(), models=frozenset({"loans"}))
    assert seen[0][1] == {"loans"}
    assert visible_models() is None


def test_over_its_limit_a_key_is_told_when_to_come_back() -> None:
    meter = Meter(1, None, None)
    assert ask(bearer(), meter=meter)[0] == 200
    status, headers, seen = ask(bearer(), meter=meter)
    assert (status, headers[b"retry-after"], seen) == (429, b"60", [])


@pytest.mark.parametrize(
    "length", [(b"content-length", b"600"), (b"transfer-encoding", b"chunked")]
)
def test_bytes_count_whether_or_not_they_were_announced(length: tuple[bytes, bytes]) -> None:
    meter = Meter(None, None, 500)
    assert ask(bearer(), length, meter=meter, body=(b"x" * 300, b"x" * 300))[0] == 200
    assert ask(bearer(), meter=meter)[0] == 429


@pytest.mark.parametrize(
    ("header", "closes"),
    [
        ((b"content-length", b"100"), False),
        ((b"content-length", b"100000"), True),
        ((b"content-length", b"9" * 5_000), True),
        ((b"content-length", b"-1"), True),
        ((b"transfer-encoding", b"chunked"), True),
    ],
)
def test_a_long_body_that_nobody_reads_ends_the_connection(
    header: tuple[bytes, bytes], closes: bool
) -> None:
    status, headers, _ = ask(header)
    assert status == 401
    assert (headers.get(b"connection") == b"close") is closes
