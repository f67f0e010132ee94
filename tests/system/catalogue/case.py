"""One case of the catalogue: what is sent, byte by byte, and what must come of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.system.catalogue.wire import request

PREDICTIONS = "/v1/predictions"
LABELS = "/v1/labels"
LINES = "application/x-ndjson"
MODEL, VERSION = "loans", "7"
TS = b'"2026-01-02T03:04:05Z"'


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request; ``stored`` are the ids, beginning with ``prefix``, that are stored after it."""

    number: int
    name: str
    sent: bytes | Callable[[], bytes] = field(repr=False)
    """What is large is made when it is sent."""
    key: str = "admin"
    """Which of the test's keys is sent; an empty one is none."""
    status: int = 200
    code: str = ""
    before: tuple[bytes, ...] = ()
    """Requests that are answered 200 first."""
    rows: int = 0
    duplicates: int = 0
    verdicts: Mapping[int, str] = field(default_factory=dict)
    """Code of the rejected rows, by index."""
    warnings: tuple[str, ...] = ()
    stored: tuple[str, ...] = field(default=(), repr=False)
    columns: Mapping[str, Any] = field(default_factory=dict)
    """What the first stored row has, by the real names of its columns."""
    headers: Mapping[str, str] = field(default_factory=dict)
    secret: bytes = b""
    """What the answer must not repeat."""
    proxied: bool = False
    slow: bool = False
    within: tuple[float, float] = (0.0, 60.0)
    """Seconds that the answer takes."""

    @property
    def prefix(self) -> str:
        """Return how the ids of this case begin."""
        return f"{self.number}-{self.name.replace(' ', '-')}-"

    def __str__(self) -> str:
        return f"{self.number} {self.name}"


def row(prediction_id: str, /, **fields: bytes | None) -> bytes:
    """Return a record as JSON; fields are JSON too, and none are left out."""
    known: dict[str, bytes | None] = {
        "prediction_id": b'"%s"' % prediction_id.encode(),
        "ts": TS,
        "features": b'{"income":41000,"region":"north","owner":true}',
        "prediction": b'"1"',
        "score": b"0.83",
    }
    known.update(fields)
    return _object(known)


def label(prediction_id: str, /, **fields: bytes | None) -> bytes:
    """Return a label as JSON."""
    known: dict[str, bytes | None] = {
        "prediction_id": b'"%s"' % prediction_id.encode(),
        "label": b'"1"',
        "label_ts": b'"2026-02-01T00:00:00Z"',
    }
    return _object({**known, **fields})


def _object(fields: Mapping[str, bytes | None]) -> bytes:
    pairs = (b'"%s":%s' % (k.encode(), v) for k, v in fields.items() if v is not None)
    return b"{%s}" % b",".join(pairs)


def envelope(*records: bytes, model: bytes = b'"loans"', version: bytes | None = b'"7"') -> bytes:
    """Return a batch as JSON."""
    return _object({"model": model, "version": version, "records": b"[%s]" % b",".join(records)})


def predictions(*records: bytes) -> bytes:
    """Return a request with predictions of the registered version."""
    return request(PREDICTIONS, envelope(*records))


def labels(*records: bytes) -> bytes:
    """Return a request with labels of the registered model."""
    return request(LABELS, envelope(*records, version=None))


def lines(*records: bytes) -> bytes:
    """Return the same records as lines."""
    target = f"{PREDICTIONS}?model={MODEL}&version={VERSION}"
    return request(target, b"\n".join(records), media=LINES)


def refused(
    number: int, name: str, body: bytes, status: int, code: str, *headers: str, **more: Any
) -> list[Case]:
    """Return a case of predictions that are refused as a whole."""
    sent = request(PREDICTIONS, body, *headers, media=more.pop("media", "application/json"))
    return [Case(number=number, name=name, sent=sent, status=status, code=code, **more)]


def bad_row(number: int, name: str, code: str, bad: bytes, secret: bytes = b"") -> list[Case]:
    """Return a row by itself, which is all rejected, and among others, which are stored."""
    common: dict[str, Any] = {"number": number, "secret": secret}
    first, last = (f"{number}-{name.replace(' ', '-')}-{which}" for which in ("first", "last"))
    return [
        Case(
            name=f"{name} alone",
            sent=predictions(bad),
            **{**common, "status": 422, "code": "all-rejected", "verdicts": {0: code}, "rows": 1},
        ),
        Case(
            name=name,
            sent=predictions(row(first), bad, row(last)),
            **{**common, "verdicts": {1: code}, "rows": 3, "stored": (first, last)},
        ),
    ]


def bad_syntax(number: int, name: str, bad: bytes, code: str = "malformed-json") -> list[Case]:
    """Return a fault that costs a whole document, and in lines only its own."""
    whole, single = f"{number}-{name}-", f"{number}-{name}-in-a-line-"
    around = (row(f"{whole}first"), bad, row(f"{whole}last"))
    first, last = f"{single}first", f"{single}last"
    return [
        Case(number=number, name=name, sent=predictions(*around), status=400, code=code),
        Case(
            number=number,
            name=f"{name} in a line",
            sent=lines(row(first), bad, row(last)),
            rows=3,
            verdicts={1: code},
            stored=(first, last),
        ),
    ]


def kept(number: int, name: str, **more: Any) -> list[Case]:
    """Return a row that is stored; ``features`` and other fields are its JSON."""
    expected = ("warnings", "columns")
    common = {key: more.pop(key) for key in expected if key in more}
    prediction_id = f"{number}-{name.replace(' ', '-')}-only"
    sent = predictions(row(prediction_id, **more))
    return [Case(number=number, name=name, sent=sent, rows=1, stored=(prediction_id,), **common)]
