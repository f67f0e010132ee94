"""Valid requests to ingest, and how they are broken."""

import copy
import gzip
import json
import random
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

MODELS = {"loans": "7", "digits": "1", "prices": "1"}
CLASSES = ["zero", "one", "two"]
FEATURES = [
    {"name": "income", "kind": "numeric"},
    {"name": "region", "kind": "categorical"},
    {"name": "owner", "kind": "boolean"},
    {"name": "since", "kind": "datetime"},
    {"name": "note", "kind": "text"},
    {"name": "image", "kind": "embedding", "length": 3},
]
VERSIONS: dict[str, dict[str, Any]] = {
    "loans": {"features": FEATURES, "classes": ["0", "1"], "positive_class": "1"},
    "digits": {"features": FEATURES[:2], "classes": CLASSES},
    "prices": {"features": FEATURES, "attributions": True},
}
TASKS = {"loans": "binary", "digits": "multiclass", "prices": "regression"}
JSON, NDJSON = "application/json", "application/x-ndjson"
SECRET = "Zq7-never-told"
"""A value of features that no answer may repeat."""

_TOKENS = (
    *(b"NaN", b"-Infinity", b"1e999", b"-0", b"1E-400", b"9223372036854775808", b"9" * 400),
    *(
        b"\\u0000",
        b"\\ud800",
        b"\\udc00\\ud800",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
    ),
    *(b"[" * 9, b"[" * 3_000, b'{"a":' * 200, b"]", b"}", b",", b":", b'"', b"\\", b"\n", b"\r\n"),
    *(b"null", b"true", b"{}", b"[]", b'""', b'"records"', b'"model"', b'"features":{}', b"/**/"),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, 1e308, -1e308, 5e-324, 2**63, -(2**63) - 1, 10**40),
    *("", " ", "0", "1", "zero", "x" * 9_000, "é" * 5_000, "\0", "a\0b", "\x1b[31m", "\ud800"),
    *("2026-01-02T03:04:05Z", "2026-01-02T03:04:05", "2026-01-02", "0000-01-01T00:00:00Z"),
    *(
        "9999-12-31T23:59:59-12:00",
        "0001-01-01T00:00:00+14:00",
        "2026-06-30T23:59:60Z",
        "1767322800",
    ),
    *("1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "<script>", "=1+1", "\u202e", "__proto__"),
    *([], {}, [[]], [1, 2, 3], [1e39, 0, 0], [None], {"$ne": 1}, {"one": 0.5}, {"a": {"b": {}}}),
    json.loads("[" * 12 + "]" * 12),
    *("loans", "7", "nobody", "../loans", "\u0440red", "a;drop table label", "o'clock"),
)
_KEYS = (
    *("model", "version", "prediction_id", "ts", "features", "prediction", "score", "scores"),
    *("weight", "subject", "tags", "attributions", "label", "label_ts", "income", "image"),
    *("", "\0", "__proto__", "x" * 300, "constructor"),
)
_MEDIA = (
    *("", "text/plain", "application/json; charset=latin-1", "application/JSON", "image/png"),
    *("application/json;charset=utf-8", "application/x-ndjson; charset=utf-16", ";;;"),
    *("multipart/form-data", "application/json, application/json"),
    *("application/vnd.apache.parquet",),
)
_CODINGS = ("gzip", "x-gzip", "GZIP ", "identity", "br", "gzip, gzip", "deflate", "\x80", "zstd")


@dataclass(frozen=True)
class Request:
    """One request as it goes over the wire."""

    path: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    query: str = ""
    cuts: tuple[int, ...] = ()
    """Where the body is cut into pieces."""
    hangs_up: bool = False
    notes: tuple[str, ...] = field(default=(), compare=False)

    def header(self, name: bytes) -> bytes:
        return next((value for key, value in self.headers if key == name), b"")


class Mutator:
    """Makes requests, most of them wrong in some way; the same seed makes the same ones."""

    def __init__(self, seed: int, ids: int) -> None:
        self.random = random.Random(seed)
        self.ids = ids

    def request(self) -> Request:
        """Return the next request."""
        chance = self.random
        sent, kind = self._document()
        for _ in range(chance.choice((0, 1, 1, 2, 3))):
            sent = self._wrong_value(sent)
        lines = chance.random() < 0.3
        body, query = _written(sent, lines=lines)
        for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 4))):
            body = self._wrong_bytes(body)
        media = NDJSON if lines else JSON
        request = Request(f"/v1/{kind}", body, ((b"content-type", media.encode()),), query)
        if chance.random() < 0.2:
            request = self._packed(request)
        if chance.random() < 0.05:
            request = self._wrong_headers(request)
        return self._cut(request)

    def _document(self) -> tuple[Any, str]:
        chance = self.random
        model = chance.choice(tuple(MODELS))
        kind = "labels" if chance.random() < 0.25 else "predictions"
        one = self._label if kind == "labels" else self._prediction
        records = [one(model) for _ in range(chance.choice((1, 1, 2, 3, 8)))]
        envelope = {"model": model, "version": MODELS[model], "records": records}
        return envelope, kind

    def _id(self) -> str:
        return f"{self.random.randrange(self.ids):x}"

    def _prediction(self, model: str) -> dict[str, Any]:
        chance = self.random
        name = self._id()
        # Mostly a function of the id, so that repeats are repeats and not always conflicts.
        own = random.Random(name) if chance.random() < 0.9 else chance
        features: dict[str, Any] = {"income": own.gauss(40_000, 9_000), "region": SECRET}
        record: dict[str, Any] = {"prediction_id": name, "features": features}
        record["ts"] = f"2026-0{own.randrange(1, 7)}-11T0{own.randrange(10)}:00:00.25Z"
        if model != "digits":
            features |= {"owner": own.random() < 0.5, "since": "2020-02-29", "note": "a\tb"}
            features["image"] = [own.random(), 0.5, -1]
        if model == "loans":
            record |= {"prediction": own.choice("01"), "score": own.random(), "weight": 1}
        elif model == "digits":
            record["scores"] = dict(zip(CLASSES, (0.2, 0.3, 0.5), strict=True))
        else:
            record |= {"prediction": own.gauss(9, 1), "attributions": {"income": own.random()}}
        if own.random() < 0.3:
            record |= {"subject": f"s{own.randrange(99)}", "tags": {"channel": "web"}}
        return record

    def _label(self, model: str) -> dict[str, Any]:
        chance = self.random
        name = self._id()
        own = random.Random(name) if chance.random() < 0.9 else chance
        label: Any = {"loans": own.choice("01"), "digits": own.choice(CLASSES)}.get(model, 1.5)
        when = f"2026-07-0{own.randrange(1, 4)}T00:00:00Z"
        return {"prediction_id": name, "label": label, "label_ts": when}

    def _value(self) -> Any:
        return copy.deepcopy(self.random.choice(_VALUES))

    def _wrong_value(self, document: Any) -> Any:
        """Change one place of a document: its value, its name, or whether it is there."""
        chance = self.random
        places: list[tuple[Any, Any]] = []
        _collect(document, places)
        if not places:
            return self._value()
        parent, key = chance.choice(places)
        deed = chance.random()
        if deed < 0.6:
            parent[key] = self._value()
        elif deed < 0.75:
            del parent[key]
        elif isinstance(parent, dict):
            parent[chance.choice(_KEYS)] = copy.deepcopy(parent[key])
        else:
            parent.insert(0, copy.deepcopy(parent[key]))
        return document

    def _wrong_bytes(self, body: bytes) -> bytes:
        chance = self.random
        at = chance.randrange(len(body) + 1)
        end = min(len(body), at + chance.choice((1, 2, 8, 64)))
        deed = chance.randrange(6)
        if deed == 0:
            return body[:at] + chance.choice(_TOKENS) + body[at:]
        if deed == 1:
            return body[:at] + chance.choice(_TOKENS) + body[end:]
        if deed == 2:
            return body[:at] + body[end:]
        if deed == 3:
            return body[:at]
        if deed == 4:
            return body[:at] + body[at:end] * 2 + body[end:]
        return body[:at] + bytes(b ^ 1 << chance.randrange(8) for b in body[at:end]) + body[end:]

    def _packed(self, request: Request) -> Request:
        chance = self.random
        coding = chance.choice(("gzip", "gzip", "zstd"))
        body = packed(request.body, coding)
        if chance.random() < 0.2:
            body = packed(body, coding)
        if chance.random() < 0.3:
            body = self._wrong_bytes(body)
        if chance.random() < 0.2:
            body += chance.choice((b"\0", body, b"x", packed(b"", coding)))
        headers = (*request.headers, (b"content-encoding", coding.encode()))
        return replace(request, body=body, headers=headers)

    def _wrong_headers(self, request: Request) -> Request:
        chance = self.random
        name, choices = chance.choice(
            (
                (b"content-type", _MEDIA),
                (b"content-encoding", _CODINGS),
                (b"content-length", ("-1", "99999999999", "0x10", "", "1" * 5_000)),
                (b"expect", ("100-continue",)),
                (b"x-request-id", ("\x80\xff",)),
            )
        )
        kept = tuple(each for each in request.headers if each[0] != name)
        value = chance.choice(choices).encode("latin-1")
        query = chance.choice((request.query, "model=%00&version=%ff", "model=nobody", "a=b&&=&%"))
        return replace(request, headers=(*kept, (name, value)), query=query)

    def _cut(self, request: Request) -> Request:
        chance = self.random
        if chance.random() < 0.1 and request.body:
            cuts = sorted(chance.randrange(len(request.body)) for _ in range(3))
            return replace(request, cuts=tuple(cuts), hangs_up=chance.random() < 0.1)
        return request


def packed(body: bytes, coding: str) -> bytes:
    if coding == "gzip":
        return gzip.compress(body, 1)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, coding) as stream:
        stream.write(body)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _written(document: Any, *, lines: bool) -> tuple[bytes, str]:
    if not lines or not isinstance(document, dict):
        return _dumped(document), ""
    records = document.get("records")
    rows = records if isinstance(records, list) else [records]
    query = "&".join(
        f"{name}={document[name]}"
        for name in ("model", "version")
        if str(document.get(name, "")).isalnum() and str(document[name]).isascii()
    )
    return b"\n".join(map(_dumped, rows)), query


def _dumped(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, below in pairs:
        places.append((value, key))
        if isinstance(below, dict | list):
            _collect(below, places)
