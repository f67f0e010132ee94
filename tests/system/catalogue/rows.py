"""Cases 24 to 61: what one row says."""

from collections.abc import Iterator

from tests.system.catalogue.case import (
    Case,
    bad_row,
    envelope,
    kept,
    lines,
    predictions,
    refused,
    row,
)
from tests.system.catalogue.wire import request

KILOBYTES = b"x" * 10_000
MEGABYTE = b"x" * (1 << 20)
SCRIPT = '"><script>alert(1)</script>'


def at(number: int, name: str, code: str, *times: bytes | None) -> Iterator[Case]:
    """Yield the cases of a row whose time is written so."""
    for n, time in enumerate(times):
        each = f"{name} {n + 1}" if len(times) > 1 else name
        yield from bad_row(number, each, code, row(f"{number}-bad", ts=time))


def features(number: int, name: str, code: str, value: bytes, secret: bytes = b"") -> list[Case]:
    """Return the cases of a row whose features are these."""
    return bad_row(number, name, code, row(f"{number}-bad", features=value), secret)


def named(model: bytes) -> bytes:
    """Return a batch for a model of that name."""
    return envelope(row("never-stored"), model=b'"%s"' % model)


def lookup(number: int, name: str, path: bytes, code: str = "unknown-model") -> Case:
    """Return a GET whose path names something."""
    sent = request(path, method="GET", media=None, length=False)
    return Case(number=number, name=name, sent=sent, status=404, code=code)


TIMES = (
    *at(24, "no zone", "timestamp-without-zone", b'"2026-01-02T03:04:05"'),
    *at(25, "date only", "bad-timestamp", b'"2026-01-02"'),
    *at(26, "epoch", "bad-timestamp", b"1767322845", b"1767322845000", b'"1767322845000"'),
    *at(
        *(27, "years 0 and 10000", "bad-timestamp"),
        *(b'"0000-01-01T00:00:00Z"', b'"10000-01-01T00:00:00Z"'),
    ),
    *at(
        *(28, "out of the calendar in UTC", "timestamp-out-of-range"),
        *(b'"0001-01-01T00:00:00+14:00"', b'"9999-12-31T23:59:59-12:00"'),
    ),
    *refused(29, "1e400", envelope(row("29", ts=b"1e400")), 400, "malformed-json"),
    *at(30, "future", "timestamp-in-future", b'"2100-01-01T00:00:00Z"'),
    *at(31, "1970", "timestamp-too-old", b'"1970-01-01T00:00:00Z"'),
    *at(
        *(32, "leap second and 24:00", "bad-timestamp"),
        *(b'"2016-12-31T23:59:60Z"', b'"2026-01-01T24:00:00Z"'),
    ),
    *at(33, "no ts", "missing-field", None, b"null"),
)
IDS = (
    *bad_row(34, "id missing", "missing-field", row("34", prediction_id=None)),
    *bad_row(34, "id null", "missing-field", row("34", prediction_id=b"null")),
    *bad_row(34, "id number", "bad-prediction-id", row("34", prediction_id=b"34")),
    *bad_row(35, "id empty", "bad-prediction-id", row("")),
    *bad_row(36, "id of 10k", "bad-prediction-id", row(KILOBYTES.decode()), KILOBYTES),
    *bad_row(36, "id of 129", "bad-prediction-id", row("é" * 129)),
    Case(
        number=36,
        name="id of 128",
        sent=predictions(row("36-id-of-128-".ljust(128, "x"))),
        rows=1,
        stored=("36-id-of-128-".ljust(128, "x"),),
    ),
    Case(
        number=37,
        name="twice",
        sent=predictions(row("37-twice-a"), row("37-twice-a"), row("37-twice-b")),
        rows=3,
        duplicates=1,
        stored=("37-twice-a", "37-twice-b"),
    ),
    Case(
        number=37,
        name="again",
        before=(predictions(row("37-again-a")),),
        sent=predictions(row("37-again-a"), row("37-again-b")),
        rows=2,
        duplicates=1,
        stored=("37-again-a", "37-again-b"),
    ),
    Case(
        number=38,
        name="other content",
        sent=predictions(
            row("38-other-content-a"),
            row("38-other-content-a", score=b"0.1"),
            row("38-other-content-b"),
        ),
        rows=3,
        verdicts={1: "conflicting-duplicate"},
        stored=("38-other-content-a", "38-other-content-b"),
        columns={"score": 0.83},
    ),
    *(
        Case(
            number=39,
            name=f"earlier {field}",
            before=(predictions(row(f"39-earlier-{field}-a")),),
            sent=predictions(
                row(f"39-earlier-{field}-a", **{field: value}), row(f"39-earlier-{field}-b")
            ),
            rows=2,
            verdicts={0: "conflicting-duplicate"},
            stored=(f"39-earlier-{field}-a", f"39-earlier-{field}-b"),
            columns={"score": 0.83, "income": 41000.0},
        )
        for field, value in (
            ("score", b"0.1"),
            ("ts", b'"2026-01-02T03:04:06Z"'),
            ("features", b'{"income":41000.000000000007,"region":"north","owner":true}'),
        )
    ),
)
NAMES = (
    *refused(40, "unknown model", named(b"no-secret"), 404, "unknown-model", secret=b"no-secret"),
    Case(
        number=40,
        name="unknown in one record",
        sent=lines(
            row("40-unknown-in-one-record-a"),
            row("40-bad", model=b'"no-secret"'),
            row("40-unknown-in-one-record-b"),
        ),
        rows=3,
        verdicts={1: "unknown-model"},
        stored=("40-unknown-in-one-record-a", "40-unknown-in-one-record-b"),
        secret=b"no-secret",
    ),
    *refused(41, "traversal", named(b"../../etc/passwd"), 404, "unknown-model", secret=b"passwd"),
    lookup(41, "traversal in the path", b"/v1/models/..%2f..%2fetc%2fpasswd", "not-found"),
    *refused(42, "nul", named(b"lo\\u0000ans"), 404, "unknown-model"),
    lookup(42, "nul in the path", b"/v1/models/lo%00ans"),
    *refused(43, "sql in the model", named(b"x'; DROP TABLE label; --"), 404, "unknown-model"),
    lookup(43, "sql in the path", b"/v1/models/x'%3B%20DROP%20TABLE%20label%3B%20--"),
    Case(
        number=43,
        name="sql as a slice",
        sent=request(
            "/v1/models/loans/measurements?metric=drift&slice='%3B%20DROP%20TABLE%20label%3B--",
            *(b"", "Accept: */*"),
            method="GET",
            media=None,
        ),
    ),
    *features(
        43, "sql as a feature", "unknown-feature", b'{"x\'); DROP TABLE label; --":1}', b"DROP"
    ),
    *refused(44, "promql", named(b'a\\"} or vector(1) #'), 404, "unknown-model", secret=b"vector"),
    *refused(44, "line of its own", named(b"a\\nup 1"), 404, "unknown-model"),
    *refused(45, "homoglyph", named("\u0440red".encode()), 404, "unknown-model"),
    lookup(46, "invalid utf-8", b"/v1/models/%ff%fe"),
    lookup(47, "60 kB", b"/v1/models/" + b"a" * 60_000),
)
FEATURES = (
    *features(48, "unknown", "unknown-feature", b'{"income":1,"secret":2}'),
    *kept(
        49,
        "missing",
        features=b'{"region":"north"}',
        columns={"income": None, "region": "north", "owner": None},
    ),
    *(
        kept(
            number,
            name,
            features=b'{"income":%s,"region":"north"}' % value,
            columns={"income": None, "region": "north"},
            warnings=("income/wrong-type",),
        )[0]
        for number, name, value in (
            (50, "string for number", b'"41000"'),
            (51, "bool for number", b"true"),
            (52, "object", b'{"$ne":null}'),
        )
    ),
    *features(53, "list", "bad-features", b"[1,2]"),
    *features(
        54,
        "10k features",
        "too-many-features",
        b"{%s}" % b",".join(b'"f%d":1' % i for i in range(10_000)),
    ),
    *features(
        54, "321", "too-many-features", b"{%s}" % b",".join(b'"f%d":1' % i for i in range(321))
    ),
    *features(
        54, "320", "unknown-feature", b"{%s}" % b",".join(b'"f%d":1' % i for i in range(320))
    ),
    *features(55, "1 MB name", "unknown-feature", b'{"%s":1}' % MEGABYTE, MEGABYTE[:500]),
    *features(56, "__proto__", "unknown-feature", b'{"__proto__":{"x":1}}'),
    *features(57, "1 MB", "string-too-long", b'{"region":"%s"}' % MEGABYTE, MEGABYTE[:500]),
    *features(57, "8193 bytes", "string-too-long", b'{"region":"%s"}' % (b"x" * 8_193)),
    *kept(
        57,
        "8192 bytes",
        features=b'{"region":"%s"}' % (b"x" * 8_192),
        columns={"region": "x" * 8_192},
    ),
    *kept(
        58,
        "script",
        features=b'{"region":"\\"><script>alert(1)</script>"}',
        columns={"region": SCRIPT},
    ),
    *kept(59, "formula", features=b'{"region":"=1+1|cmd"}', columns={"region": "=1+1|cmd"}),
    *kept(
        60,
        "bidi override",
        features='{"region":"a\u202eb"}'.encode(),
        columns={"region": "a\u202eb"},
    ),
    Case(
        number=61,
        name="flood",
        sent=predictions(
            *(row(f"61-flood-{i:04}", features=b'{"region":"flood-%d"}' % i) for i in range(2_000))
        ),
        rows=2_000,
        stored=tuple(f"61-flood-{i:04}" for i in range(2_000)),
    ),
)
ROWS = (*TIMES, *IDS, *NAMES, *FEATURES)
