"""Hostile events to the whole application: answers as documented, every event accounted for."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import psycopg
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from service.processes.api import create_app
from service.settings import Settings
from tests.conftest import sized
from tests.integration.foreign.conftest import headers_of
from tests.integration.ingest.fuzzing import Fuzz, body_of, register
from tests.integration.ingest.mutations import NDJSON, SECRET, Mutator, Request

REQUESTS = sized(default=1_500, full=200_000)
EVENTS, CAPTURES = "/v1/cloudevents", "/v1/import/sagemaker"
STRUCTURED, BATCHED = "application/cloudevents+json", "application/cloudevents-batch+json"
QUERIES = (
    "",
    "",
    "",
    "only=response",
    "decide=argmax",
    "decide=0.3",
    "score=b",
    "classes=1,0",
    "x=y",
)


class ForeignMutator(Mutator):
    """Makes events and captures, most of them wrong in some way."""

    def request(self) -> Request:
        chance = self.random
        request = chance.choice(
            (self._binary, self._binary, self._json, self._lines, self._capture)
        )()
        for _ in range(chance.choice((0, 0, 0, 1, 1, 2))):
            request = replace(request, body=self._wrong_bytes(request.body))
        if chance.random() < 0.15:
            request = self._packed(request)
        if chance.random() < 0.05:
            request = self._wrong_headers(request)
        return self._cut(request)

    def _payload(self, side: str) -> Any:
        chance = self.random
        rows = chance.choice((1, 1, 2, 3))
        named = {"income": 1.5, "region": SECRET, "owner": 1, "image": [0, 1, 2]}
        vector = [[0.25, 0.75]] * rows
        tensors = [
            {"name": name, "shape": [rows, 1], "datatype": kind, "data": [value] * rows}
            for name, kind, value in (("income", "FP32", 1.5), ("region", "BYTES", SECRET))
        ]
        asked = (
            {"instances": [named] * rows},
            {"inputs": tensors, "parameters": {"content_type": "pd"}},
            {"dataframe_split": {"columns": ["income"], "data": [[1.5]] * rows}},
            [named] * rows,
        )
        answered = (
            {"predictions": vector},
            {"predictions": [1] * rows},
            {"predictions": [0.5] * rows},
            {
                "outputs": [
                    {"name": "predict", "shape": [rows], "datatype": "INT64", "data": [1] * rows}
                ]
            },
            [{"prediction": "1", "b": 0.5}] * rows,
        )
        found = json.loads(json.dumps(chance.choice(asked if side == "request" else answered)))
        for _ in range(chance.choice((0, 0, 1, 1, 2))):
            found = self._wrong_value(found)
        return found

    def _attributes(self, side: str) -> dict[str, Any]:
        headers = headers_of(side, f"e{self._id()}", source="s")
        found: Any = {name.removeprefix("ce-"): value for name, value in headers.items()}
        if self.random.random() < 0.3:
            found = self._wrong_value(found)
        return found if isinstance(found, dict) else {}

    def _side(self) -> str:
        return self.random.choice(("request", "response"))

    def _event(self) -> dict[str, Any]:
        side = self._side()
        return {**self._attributes(side), "data": self._payload(side)}

    def _query(self) -> str:
        return self.random.choice(QUERIES)

    def _binary(self) -> Request:
        side = self._side()
        headers = tuple(
            (f"ce-{name}".encode("latin-1", "replace"), str(value).encode("latin-1", "replace"))
            for name, value in self._attributes(side).items()
        )
        media = ((b"content-type", b"application/json"),)
        body = json.dumps(self._payload(side)).encode()
        return Request(EVENTS, body, (*media, *headers), self._query())

    def _json(self) -> Request:
        batch = self.random.random() < 0.5
        document: Any = [self._event() for _ in range(3)] if batch else self._event()
        media = BATCHED if batch else STRUCTURED
        headers = ((b"content-type", media.encode()),)
        return Request(EVENTS, json.dumps(document).encode(), headers, self._query())

    def _lines(self) -> Request:
        body = b"\n".join(json.dumps(self._event()).encode() for _ in range(3))
        return Request(EVENTS, body, ((b"content-type", NDJSON.encode()),), self._query())

    def _capture(self) -> Request:
        chance = self.random
        captured: Any = {
            "captureData": {
                "endpointInput": {"encoding": "CSV", "data": f"1,{SECRET},1,2020-02-29,a,"},
                "endpointOutput": {"encoding": "CSV", "data": "0.5"},
            },
            "eventMetadata": {"eventId": self._id(), "inferenceTime": "2026-01-02T03:04:05Z"},
        }
        truth: Any = {
            "groundTruthData": {"encoding": "CSV", "data": "1"},
            "eventMetadata": {"eventId": self._id()},
        }
        lines = [
            self._wrong_value(each) if chance.random() < 0.4 else each for each in (captured, truth)
        ]
        body = b"\n".join(json.dumps(line).encode() for line in lines)
        query = chance.choice(("model=loans&label_ts=2026-07-01T00:00:00Z", "model=loans", ""))
        return Request(CAPTURES, body, ((b"content-type", NDJSON.encode()),), query)


class ForeignFuzz(Fuzz):
    """Judges the answers of both routes; counts the rows that they tell of."""

    PATHS = frozenset({EVENTS, CAPTURES})

    def sent_in(self, request: Request) -> int:
        if any(name == b"ce-specversion" for name, _ in request.headers) and request.path == EVENTS:
            return 1
        body = body_of(request)
        if request.path == CAPTURES or request.header(b"content-type").startswith(NDJSON.encode()):
            return sum(1 for line in body.split(b"\n") if line.strip())
        document = json.loads(body)
        return len(document) if isinstance(document, list) else 1

    def count(self, request: Request, document: dict[str, Any]) -> None:
        super().count(request, document)
        self.stored[request.path] -= document["accepted"]
        self.stored[request.path] += document["rows"]["accepted"]


def test_hostile_events_get_a_documented_answer_and_are_accounted_for(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    register(sessions)
    app = create_app(Settings(_env_file=None, database_url=SecretStr(database_url)), keyless=True)
    found = ForeignFuzz(app, ForeignMutator(REQUESTS, ids=max(20, REQUESTS // 20)))

    async def inside() -> None:
        async with app.router.lifespan_context(app):
            await found.run(REQUESTS)

    asyncio.run(inside())
    assert not found.broken, found.report()
    assert found.answers.total() == REQUESTS
    assert len(found.answers) >= 10, found.report()
    assert found.stored[EVENTS] > REQUESTS // 50, found.report()
    with psycopg.connect(database_url) as connection:
        ((rows,),) = connection.execute("SELECT count(*) FROM prediction").fetchall()
        ((labels,),) = connection.execute("SELECT count(*) FROM label").fetchall()
    if not found.unknown:
        assert rows + labels == found.stored.total()
