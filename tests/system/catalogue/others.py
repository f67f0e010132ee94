"""Cases 72 to 77 of the transport, and 83 to 87 of labels."""

from typing import Any

from tests.system.catalogue.bodies import GOOD
from tests.system.catalogue.case import Case, label, labels, predictions, row

HEAD = b"POST /v1/predictions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(GOOD)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


def bad_http(number: int, name: str, sent: bytes) -> Case:
    """Return bytes that are no request."""
    return Case(number=number, name=name, sent=sent, status=400, code="malformed-http")


def bad_head(number: int, name: str, sent: bytes, status: int, code: str) -> list[Case]:
    """Return what is refused by the proxy, and by the service where there is none."""
    waits = status == 408
    slow: dict[str, Any] = {"slow": True, "within": (9.0, 50.0)} if waits else {}
    common: dict[str, Any] = {"number": number, "sent": sent, "status": status, **slow}
    return [
        Case(name=name, code=code, **common),
        Case(name=f"{name} by the proxy", proxied=True, **common),
    ]


TRANSPORT = (
    bad_http(72, "length and chunked", HEAD + LENGTH + CHUNKED + b"\r\n" + CHUNKS),
    bad_http(72, "chunked and length", HEAD + CHUNKED + LENGTH + b"\r\n" + CHUNKS),
    bad_http(72, "two lengths", HEAD + LENGTH + b"Content-Length: 3\r\n\r\n" + GOOD),
    bad_http(72, "xchunked", HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS),
    bad_http(72, "negative length", HEAD + b"Content-Length: -1\r\n\r\n" + GOOD),
    bad_http(72, "length with a plus", HEAD + b"Content-Length: +5\r\n\r\n" + GOOD),
    bad_http(73, "bare line feeds", b"GET /healthz HTTP/1.1\nHost: x\n\n"),
    bad_http(73, "folded header", GET + b"X-A: 1\r\n 2\r\n\r\n"),
    bad_http(73, "nul in a header", GET + b"X-A: a\x00b\r\n\r\n"),
    *bad_head(
        *(74, "header of 1 MB", GET + b"X-A: " + b"a" * (1 << 20) + b"\r\n\r\n"),
        *(431, "head-too-large"),
    ),
    *bad_head(
        *(75, "10k headers", GET + b"".join(b"X-%d: 1\r\n" % i for i in range(10_000)) + b"\r\n"),
        *(431, "head-too-large"),
    ),
    *(
        Case(
            number=74,
            name=name,
            sent=HEAD + CHUNKED + b"\r\n2" + rest + b"a" * (1 << 20),
            status=431,
            code="head-too-large",
        )
        for name, rest in (
            ("trailer of 1 MB", b"\r\n{}\r\n0\r\nX: "),
            ("chunk extension of 1 MB", b";"),
        )
    ),
    Case(
        number=76,
        name="stalled body",
        sent=HEAD + LENGTH + b"\r\n" + GOOD[:9],
        status=408,
        code="stalled-body",
        slow=True,
        within=(9.0, 50.0),
    ),
    *bad_head(77, "stalled head", GET + b"X-A", 408, "stalled-head"),
    *bad_head(77, "idle socket", b"", 408, "stalled-head"),
)
CONFLICTING = "conflicting-label"
LABELLED = (
    Case(number=83, name="unknown prediction", sent=labels(label("83-unknown")), rows=1),
    Case(
        number=84,
        name="before its prediction",
        before=(labels(label("84-before-its-prediction-a")),),
        sent=predictions(row("84-before-its-prediction-a")),
        rows=1,
        stored=("84-before-its-prediction-a",),
        columns={"label": "1"},
    ),
    Case(
        number=85,
        name="again",
        before=(labels(label("85-a")),),
        sent=labels(label("85-a"), label("85-a", label=b"1"), label("85-b")),
        rows=3,
        duplicates=2,
    ),
    Case(
        number=86,
        name="newer",
        before=(predictions(row("86-newer-a")), labels(label("86-newer-a"))),
        sent=labels(label("86-newer-a", label=b'"0"', label_ts=b'"2026-02-02T00:00:00Z"')),
        rows=1,
        stored=("86-newer-a",),
        columns={"label": "0"},
    ),
    Case(
        number=87,
        name="same time",
        before=(predictions(row("87-same-time-a")), labels(label("87-same-time-a"))),
        sent=labels(label("87-same-time-a", label=b'"0"'), label("87-b")),
        rows=2,
        verdicts={0: CONFLICTING},
        stored=("87-same-time-a",),
        columns={"label": "1"},
    ),
    Case(
        number=87,
        name="in one batch",
        sent=labels(label("87-c"), label("87-c", label=b'"0"'), label("87-d")),
        rows=3,
        verdicts={1: CONFLICTING},
    ),
)
OTHERS = (*TRANSPORT, *LABELLED)
