"""Predictions over HTTP into a real database."""

import asyncio
import gzip
import json
import math
import random
import struct
from typing import Any

import pytest

from service.ingest.limits import MAX_UNKNOWN_NAMES
from service.ingest.tables import OTHERS
from tests.integration.ingest.conftest import Api, Run, a_prediction


def codes(answer: Any) -> list[tuple[int, str]]:
    return [(row["index"], row["code"]) for row in answer.json()["rejected"]]


def test_a_row_is_stored_as_it_was_sent_and_marks_its_hour(run: Run) -> None:
    async def body(api: Api) -> None:
        tags = {"channel": "web"}
        record = a_prediction("a", weight=2, tags=tags, subject="customer-17")
        answer = await api.predictions(record)
        assert answer.status_code == 200
        assert answer.json() == {"accepted": 1, "duplicates": 0, "rejected": [], "warnings": []}
        logged = (await api.client.get("/v1/models/loans/predictions/a")).json()
        [row] = logged["predictions"]
        received = row.pop("received_at")
        assert received > "2026"
        assert row == {**record, "scores": None, "attributions": None, "version": "7"}
        assert row["features"]["owner"] is True
        [(kind, bucket, pending)] = api.query("SELECT kind, bucket::text, pending FROM arrival")
        assert (kind, bucket[:19], pending) == ("rows", "2026-01-02 03:00:00", None)

    run(body)


def test_a_batch_sent_again_is_counted_and_marks_nothing(run: Run) -> None:
    async def body(api: Api) -> None:
        rows = [a_prediction(str(i)) for i in range(10)]
        await api.predictions(*rows)
        marks = api.count("arrival")
        again = (await api.predictions(*rows)).json()
        assert (again["accepted"], again["duplicates"]) == (0, 10)
        mixed = (await api.predictions(*rows[:5], a_prediction("new"))).json()
        assert (mixed["accepted"], mixed["duplicates"]) == (1, 5)
        assert api.count("prediction") == api.count("prediction_identity") == 11
        assert api.count("arrival") == marks + 1

    run(body)


@pytest.mark.parametrize("change", [{"score": 0.5}, {"ts": "2026-01-02T03:04:06Z"}])
def test_the_same_id_with_other_content_is_a_named_conflict(run: Run, change: Any) -> None:
    async def body(api: Api) -> None:
        await api.predictions(a_prediction("a"))
        answer = await api.predictions(a_prediction("a", **change), a_prediction("b"))
        assert answer.json()["accepted"] == 1
        assert codes(answer) == [(0, "conflicting-duplicate")]
        assert api.query("SELECT count(*) FROM prediction") == [(2,)]
        [fault] = api.query("SELECT code, rows FROM ingest_fault")
        assert fault == ("conflicting-duplicate", 1)

    run(body)


def test_an_id_twice_in_one_batch_is_stored_once(run: Run) -> None:
    async def body(api: Api) -> None:
        other = a_prediction("a", score=0.1)
        answer = await api.predictions(a_prediction("a"), other, a_prediction("a"), other)
        assert (answer.json()["accepted"], answer.json()["duplicates"]) == (1, 1)
        assert codes(answer) == [(1, "conflicting-duplicate"), (3, "conflicting-duplicate")]
        # What contradicts the stored row is refused, what repeats it is not, in any order.
        again = await api.predictions(other, a_prediction("a"), other)
        assert again.json()["duplicates"] == 1
        assert codes(again) == [(0, "conflicting-duplicate"), (2, "conflicting-duplicate")]

    run(body)


def test_a_bad_row_never_harms_its_batch(run: Run) -> None:
    async def body(api: Api) -> None:
        answer = await api.predictions(
            a_prediction("a"),
            a_prediction("b", ts="2026-01-02T03:04:05"),
            a_prediction("c", features={"income": "high", "region": 5, "owner": 1}),
            a_prediction("d", features={"elsewhere": 1}),
            7,
            a_prediction("e", prediction="maybe"),
            a_prediction("f", features={"region": "a\x00b"}),
        )
        document = answer.json()
        assert document["accepted"] == 2
        assert codes(answer) == [
            (1, "timestamp-without-zone"),
            (3, "unknown-feature"),
            (4, "bad-record"),
            (5, "unknown-class"),
            (6, "control-character"),
        ]
        assert [w["field"] for w in document["warnings"]] == ["income", "owner", "region"]
        assert api.query("SELECT n1, c1, n2 FROM prediction WHERE prediction_id = 'c'") == [
            (None, None, None)
        ]
        faults = dict(api.query("SELECT field || '/' || code, rows FROM ingest_fault"))
        assert faults["income/wrong-type"] == faults["/unknown-feature"] == 1
        assert faults["elsewhere/unknown-feature"] == 1

    run(body)


def test_a_row_that_is_sent_again_does_not_count_its_type_errors_again(run: Run) -> None:
    async def body(api: Api) -> None:
        rows = [a_prediction(f"r{i}", features={"income": "high"}) for i in range(3)]
        for _ in range(2):
            answer = await api.predictions(*rows)
            assert len(answer.json()["warnings"]) == 3
        assert (await api.predictions(*rows, a_prediction("new"))).json()["accepted"] == 1
        counted = api.query("SELECT field, code, sum(rows) FROM ingest_fault GROUP BY 1, 2")
        assert counted == [("income", "wrong-type", 3)]

    run(body)


def test_names_that_no_schema_has_are_counted_up_to_a_limit(run: Run) -> None:
    async def body(api: Api) -> None:
        answer = await api.predictions(
            *(a_prediction(f"r{i}", features={f"made-up-{i}": 1}) for i in range(50)),
            a_prediction("nul", features={"a\x00b": 1, "x" * 200: 1}),
        )
        assert answer.json()["rejected"][7]["field"] == "made-up-7"
        counted = dict(api.query("SELECT field, rows FROM ingest_fault"))
        assert (counted.pop(""), counted.pop(OTHERS)) == (51, 50 - MAX_UNKNOWN_NAMES + 2)
        assert list(counted.values()) == [1] * MAX_UNKNOWN_NAMES

    run(body)


def test_a_request_of_which_nothing_is_stored_is_422(run: Run) -> None:
    async def body(api: Api) -> None:
        answer = await api.predictions(a_prediction("a", score=2), a_prediction(""))
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert [r["code"] for r in answer.json()["rejected"]] == ["bad-score", "bad-prediction-id"]

    run(body)


def test_each_line_names_its_model_and_a_bad_line_costs_itself(run: Run) -> None:
    async def body(api: Api) -> None:
        named = {"model": "loans", "version": "7"}
        answer = await api.lines(
            {**a_prediction("a"), **named},
            b'{"prediction_id": "b", ',
            {**a_prediction("c"), **named, "model": "nothing"},
            {**a_prediction("d"), **named, "version": "8"},
            a_prediction("e"),
            {**a_prediction("f"), **named},
        )
        assert answer.json()["accepted"] == 2
        assert codes(answer) == [
            (1, "malformed-json"),
            (2, "unknown-model"),
            (3, "unknown-version"),
            (4, "missing-field"),
        ]
        by_query = await api.lines(a_prediction("g"), path="/v1/predictions?model=loans&version=7")
        assert by_query.json()["accepted"] == 1

    run(body)


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, 400, "malformed-json"),
        (b'{"records":[', {}, 400, "malformed-json"),
        (b'{"records":[]} x', {}, 400, "malformed-json"),
        (b'\xef\xbb\xbf{"records":[]}', {}, 400, "malformed-json"),
        (b"[]", {}, 400, "bad-envelope"),
        (b'{"records":[]}', {}, 400, "empty-batch"),
        (b'{"model":"loans","version":"7","records":[NaN]}', {}, 400, "malformed-json"),
        (b'{"model":"loans","version":"7","records":[1e999]}', {}, 400, "malformed-json"),
        (b'{"model":"loans","version":"7","records":["\\ud800"]}', {}, 400, "malformed-json"),
        (b'{"model":"loans","version":"7","records":["\xff"]}', {}, 400, "malformed-json"),
        (
            b'{"model":"loans","version":"7","records":[%s%s]}' % (b"[" * 9, b"]" * 9),
            *({}, 400, "too-deep"),
        ),
        (b"[" * 100_000, {}, 400, "too-deep"),
        (b'{"model":"nothing","version":"7","records":[1]}', {}, 404, "unknown-model"),
        (b'{"model":"loans","version":"9","records":[1]}', {}, 404, "unknown-version"),
        (b"{}", {"content_type": "text/plain"}, 415, "unsupported-type"),
        (b"{}", {"content_type": "application/json; charset=latin-1"}, 415, "unsupported-type"),
        (b"{}", {"content_encoding": "br"}, 415, "unsupported-encoding"),
        (b"{}", {"content_encoding": "gzip, gzip"}, 415, "unsupported-encoding"),
        (b"{}", {"content_encoding": "gzip"}, 400, "bad-gzip"),
        (gzip.compress(b"{}" * 50, mtime=0)[:-9], {"content_encoding": "gzip"}, 400, "bad-gzip"),
        (
            gzip.compress(b" " * (33 << 20), mtime=0),
            {"content_encoding": "gzip"},
            413,
            "body-too-large",
        ),
        (b" " * ((8 << 20) + 1), {}, 413, "body-too-large"),
        (
            b'{"model":"loans","version":"7","records":[%s0]}' % (b"0," * 5000),
            {},
            413,
            "too-many-rows",
        ),
    ],
)
def test_what_cannot_be_read_is_a_problem_that_echoes_nothing(
    run: Run, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    async def ask(api: Api) -> None:
        answer = await api.raw(body, **headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"

    run(ask)


def test_a_gzip_body_is_read(run: Run) -> None:
    async def body(api: Api) -> None:
        envelope = {"model": "loans", "version": "7", "records": [a_prediction()]}
        sent = gzip.compress(json.dumps(envelope).encode())
        assert (await api.raw(sent, content_encoding="gzip")).json()["accepted"] == 1

    run(body)


def test_many_clients_that_send_the_same_ids_store_each_once(run: Run) -> None:
    async def body(api: Api) -> None:
        async def client(number: int) -> Any:
            ids = [f"{(number // 2 * 7 + i) % 300:05}" for i in range(40)]
            return (await api.predictions(*map(a_prediction, ids))).json()

        answers = await asyncio.gather(*(client(n) for n in range(60)))
        accepted = sum(answer["accepted"] for answer in answers)
        assert all(a["accepted"] + a["duplicates"] == 40 for a in answers)
        assert accepted == api.count("prediction") == api.count("prediction_identity")
        [(distinct,)] = api.query("SELECT count(DISTINCT prediction_id) FROM prediction")
        assert accepted == distinct

    run(body)


def test_any_double_is_stored_as_it_was_written(run: Run) -> None:
    chance = random.Random(5)
    patterns = (struct.pack(">Q", chance.getrandbits(64)) for _ in range(3_000))
    random_ones = [struct.unpack(">d", pattern)[0] for pattern in patterns]
    edges = [0.1 + 0.2, 5e-324, -5e-324, 2.0**-1022, 0.0, -0.0, 1 / 3, 2.0**53 + 2, -(2.0**63)]
    numbers = [n for n in [*edges, *random_ones] if math.isfinite(n)]

    async def body(api: Api) -> None:
        rows = [a_prediction(f"{i:05}", features={"income": n}) for i, n in enumerate(numbers)]
        assert (await api.predictions(*rows)).json()["accepted"] == len(numbers)
        stored = api.query("SELECT n1 FROM prediction ORDER BY prediction_id")
        assert [struct.pack(">d", n) for (n,) in stored] == [struct.pack(">d", n) for n in numbers]

    run(body)
