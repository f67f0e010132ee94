"""Arrow streams: the same rows and verdicts as JSON, and nothing hostile comes through."""

import asyncio
import dataclasses
import math
import random
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.ingest.arrow import ARROW, JOB
from service.registry.schemas import ModelDocument, VersionDocument
from service.registry.service import put_model, put_version
from service.telemetry import PARSER_DEATHS
from tests.conftest import sized
from tests.integration.ingest.conftest import Api, Run, a_label, a_prediction

MUTATIONS = sized(default=300, full=30_000)
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_table(rows: int = 3, **columns: Any) -> pa.Table:
    content: dict[str, Any] = {
        "prediction_id": pa.array([f"{i}" for i in range(rows)]),
        "ts": pa.array([AT] * rows, pa.timestamp("us", "UTC")),
        "prediction": pa.array(["1"] * rows).dictionary_encode(),
        "score": pa.array([0.83] * rows),
        "tags.tier": pa.array(["gold", None, "iron"] * rows)[:rows],
        "income": pa.array([41_000.0 + i for i in range(rows)]),
        "region": pa.array(["north"] * rows, pa.large_string()),
        "owner": pa.array([True] * rows),
    }
    content.update(columns)
    present = {name: column for name, column in content.items() if column is not None}
    return pa.table(present).replace_schema_metadata({"model": "loans", "version": "7"})


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


async def post(api: Api, body: bytes, path: str = "/v1/predictions") -> Any:
    return await api.raw(body, path, content_type=ARROW)


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_what_a_stream_brings_is_what_json_would_have_brought(
    run: Run, compression: str | None
) -> None:
    async def body(api: Api) -> None:
        answer = await post(api, stream(a_table(), compression))
        assert answer.json() == {"accepted": 3, "duplicates": 0, "rejected": [], "warnings": []}
        tags: tuple[Any, ...] = ({"tier": "gold"}, None, {"tier": "iron"})
        records = [
            a_prediction(
                f"{i}",
                features={"income": 41_000 + i, "region": "north", "owner": True},
                tags=tags[i],
            )
            for i in range(3)
        ]
        assert (await api.predictions(*records)).json()["duplicates"] == 3
        assert (await post(api, stream(a_table(), compression))).json()["duplicates"] == 3

    run(body)


def test_every_row_gets_the_verdict_that_json_gives(run: Run) -> None:
    ids = ["a", None, "", "x" * 129, "b\0", "f", "g", "h", "i", "j"]
    times = [AT] * 5 + [None, datetime(2999, 1, 1), datetime(1980, 1, 1), AT, AT]
    scores = [0.5] * 8 + [1.5, math.inf]
    table = a_table(
        10,
        prediction_id=pa.array(ids),
        ts=pa.array(times, pa.timestamp("ms", "Europe/Sofia")),
        score=pa.array(scores),
    )

    async def body(api: Api) -> None:
        document = (await post(api, stream(table))).json()
        assert document["accepted"] == 1
        assert [row["code"] for row in document["rejected"]] == [
            *("missing-field", "bad-prediction-id", "bad-prediction-id", "bad-prediction-id"),
            *("missing-field", "timestamp-in-future", "timestamp-too-old"),
            *("bad-score", "bad-score"),
        ]
        naive = a_table(1, ts=pa.array([datetime(2026, 1, 1)], pa.timestamp("us")))
        answer = await post(api, stream(naive))
        assert answer.status_code == 422
        assert answer.json()["rejected"][0]["code"] == "timestamp-without-zone"
        unknown = a_table(1, surprise=pa.array([1]))
        answer = await post(api, stream(unknown))
        assert answer.json()["rejected"][0]["code"] == "unknown-feature"

    run(body)


@pytest.mark.parametrize(
    "income",
    [
        pa.array([b"\xff"]),
        pa.array([[1.0]]),
        pa.array([{"a": 1}]),
        pa.array([math.inf]),
        pa.array(["41000"]),
        pa.array([AT], pa.timestamp("s", "UTC")),
        pa.array([True]),
    ],
    ids=lambda array: str(array.type),
)
def test_a_feature_of_another_type_is_left_out_with_a_warning(run: Run, income: pa.Array) -> None:
    async def body(api: Api) -> None:
        answer = (await post(api, stream(a_table(1, income=income)))).json()
        assert answer["accepted"] == 1
        assert answer["warnings"] == [{"index": 0, "field": "income", "code": "wrong-type"}]

    run(body)


def test_what_pandas_calls_not_a_number_is_missing(run: Run) -> None:
    async def body(api: Api) -> None:
        answer = await post(api, stream(a_table(1, income=pa.array([math.nan]))))
        assert answer.json()["warnings"] == []
        assert api.query("SELECT n1 FROM prediction") == [(None,)]

    run(body)


def test_vectors_times_and_scores_have_their_columns(
    run: Run, sessions: sessionmaker[Session]
) -> None:
    features = [
        {"name": "image", "kind": "embedding", "length": 2},
        {"name": "since", "kind": "datetime"},
    ]
    with sessions.begin() as session:
        put_model(session, "digits", ModelDocument.model_validate({"task": "multiclass"}))
        document = {"features": features, "classes": ["a", "b", "c"], "attributions": True}
        put_version(session, "digits", "1", VersionDocument.model_validate(document))
    table = pa.table(
        {
            "prediction_id": ["a", "b", "c"],
            "ts": pa.array([AT] * 3, pa.timestamp("s", "UTC")),
            "scores.a": [0.25, 0.5, 0.75],
            "scores.b": [0.5, 0.25, 0.25],
            "scores.c": [0.25, 0.25, None],
            "image": pa.array([[1, 2], [math.inf, 0], None], pa.list_(pa.float32(), 2)),
            "since": pa.array([AT.date(), None, AT.date()]),
            "attributions.since": [0.5, None, 0.25],
        }
    )

    async def body(api: Api) -> None:
        answer = await api.raw(
            stream(table), "/v1/predictions?model=digits&version=1", content_type=ARROW
        )
        assert [row["code"] for row in answer.json()["rejected"]] == ["bad-score"]
        assert answer.json()["warnings"] == [{"index": 1, "field": "image", "code": "wrong-type"}]
        logged = (await api.client.get("/v1/models/digits/predictions/a")).json()["predictions"][0]
        assert logged["scores"] == {"a": 0.25, "b": 0.5, "c": 0.25}
        assert logged["features"] == {"image": [1, 2], "since": "2026-01-02T00:00:00Z"}
        assert logged["attributions"] == {"image": None, "since": 0.5}

    run(body)


def test_labels_come_as_streams_too(run: Run) -> None:
    columns = {"prediction_id": ["a", "b"], "label": [1, 5]}
    table = pa.table({**columns, "label_ts": pa.array([AT] * 2, pa.timestamp("us", "UTC"))})
    named = table.append_column("model", pa.array(["loans", "nobody"]))

    async def body(api: Api) -> None:
        answer = await api.raw(stream(table), "/v1/labels?model=loans", content_type=ARROW)
        assert answer.json()["accepted"] == 1
        assert [row["code"] for row in answer.json()["rejected"]] == ["unknown-class"]
        answer = await post(api, stream(named), "/v1/labels")
        assert answer.json()["duplicates"] == 1
        assert [row["code"] for row in answer.json()["rejected"]] == ["unknown-model"]
        again = a_label("a", label=1, label_ts="2026-01-02T03:04:05Z")
        assert (await api.labels(again)).json()["duplicates"] == 1

    run(body)


def a_bomb() -> bytes:
    """Return 512 MB of zeros as a stream of a few kilobytes."""
    zeros = pa.py_buffer(bytes(512 << 20))
    column = pa.Array.from_buffers(pa.binary(64 << 20), 8, [None, zeros])
    return stream(a_table(8).append_column("note", column), "zstd")


def test_what_is_no_stream_or_over_a_limit_is_refused(run: Run) -> None:
    whole = stream(a_table())
    bomb = a_bomb()
    assert len(bomb) < 50_000
    many = a_table(1, **{f"f{i}": pa.array([0.5]) for i in range(2_000)})
    repeated = pa.DictionaryArray.from_arrays(
        pa.array([0] * 5_000, pa.int16()), pa.array(["x" * 100_000])
    )
    cases = {
        b"": (400, "malformed-arrow"),
        b"{}": (400, "malformed-arrow"),
        whole[:-20]: (400, "malformed-arrow"),
        whole[: len(whole) // 2]: (400, "malformed-arrow"),
        whole + b"x": (400, "malformed-arrow"),
        whole + whole: (400, "malformed-arrow"),
        b"\xff" * 64: (400, "malformed-arrow"),
        stream(a_table(0)): (400, "empty-batch"),
        stream(a_table(5_001)): (413, "too-many-rows"),
        stream(many): (413, "too-many-columns"),
        stream(a_table(5_000, note=repeated)): (413, "body-too-large"),
        bomb: (413, "body-too-large"),
    }

    async def body(api: Api) -> None:
        for sent, expected in cases.items():
            answer = await post(api, sent)
            assert (answer.status_code, answer.json()["code"]) == expected, sent[:50]
        assert (await post(api, whole)).json()["accepted"] == 3

    run(body)


def test_a_stream_that_ends_its_reader_costs_no_other_request(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = dataclasses.replace(JOB, function="tests.integration.ingest.deadly:parse_or_die")
    monkeypatch.setattr("service.ingest.arrow.JOB", job)
    deaths = PARSER_DEATHS._value.get()

    def of(name: str, row: int) -> bytes:
        return stream(a_table(1, prediction_id=pa.array([f"{name}-{row}"])))

    async def body(api: Api) -> None:
        names = ["good", "abort", "good", "killed", "good", "abort", "good"]
        answers = [await post(api, of(name, i)) for i, name in enumerate(names)]
        expected = {"good": 200, "abort": 400, "killed": 503}
        assert [answer.status_code for answer in answers] == [expected[name] for name in names]
        assert answers[1].json()["code"] == "malformed-arrow"
        assert answers[3].headers["retry-after"] == "1"
        assert api.count("prediction") == 4
        assert PARSER_DEATHS._value.get() == deaths + 2

    run(body)


def mutated(source: bytes, chance: random.Random) -> bytes:
    body = bytearray(source)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(body))
        deed = chance.randrange(5)
        if deed == 0:
            body[at] ^= 1 << chance.randrange(8)
        elif deed == 1:
            body[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif deed == 2:
            value = chance.choice((-1, 0, 1, 1 << 31, (1 << 62) - 1, chance.getrandbits(40)))
            body[at : at + 8] = value.to_bytes(8, "little", signed=True)
        elif deed == 3:
            del body[at : at + chance.choice((1, 8, 64))]
        else:
            other = chance.randrange(len(body))
            body[at : at + 16] = body[other : other + 16]
    return bytes(body)


async def patiently(api: Api, body: bytes) -> Any:
    """Post until there is a parser for it, as clients do."""
    while (answer := await post(api, body)).status_code == 503:
        assert "retry-after" in answer.headers
    return answer


def test_mutated_streams_are_answered_and_never_with_a_failure(run: Run) -> None:
    chance = random.Random(MUTATIONS)
    nested = {
        "image": pa.array([[1.0, 2.0], None, [3.0]]),
        "since": pa.array([AT.date()] * 3),
        "kind": pa.array(["a", "b", None]).dictionary_encode(),
        "view": pa.array(["a" * 20, None, "c"], pa.string_view()),
        "deep": pa.array([{"a": [1]}, None, {"a": []}]),
    }
    sources = [
        stream(table, compression)
        for table in (a_table(), a_table(**nested), a_table(40))
        for compression in (None, "zstd", "lz4")
    ]

    async def body(api: Api) -> None:
        stored = 0
        for _ in range(0, MUTATIONS, 4):
            sent = [mutated(chance.choice(sources), chance) for _ in range(4)]
            answers = await asyncio.gather(*(patiently(api, each) for each in sent))
            for answer in answers:
                assert answer.status_code in {200, 400, 404, 413, 422}, answer.text
                stored += answer.json().get("accepted", 0)
        assert api.count("prediction") == api.count("prediction_identity") == stored
        assert api.count("dead_letter") == 0

    run(body)
