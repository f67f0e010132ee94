"""Rows that only the database refuses: found, kept as bytes, and stored later."""

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from service.ingest import limits, store
from service.ingest.known import Forgetting
from service.ingest.rows import Layout
from service.registry.privacy import pseudonyms_of
from service.registry.schemas import ModelDocument, VersionDocument
from service.registry.service import put_model, put_version, require_key
from service.settings import Settings
from tests.integration.ingest.conftest import Api, Run, a_label, a_prediction, running


@pytest.fixture
def no_validator(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let rows of ids that begin with ``bad`` reach the database with a NUL in them."""
    encode = Layout.encode

    def corrupt(self: Layout, index: int, fields: Any, owner: Any) -> Any:
        row = encode(self, index, fields, owner)
        if fields.prediction_id.startswith("bad"):
            row.cells = row.cells.replace(b"north", b"no\0th")
        return row

    with monkeypatch.context() as patch:
        patch.setattr(Layout, "encode", corrupt)
        # On a busy machine the usual time does not suffice.
        patch.setattr(store, "_SEARCH_SECONDS", 60.0)
        yield patch


def forbid(api: Api, constraint: str, table: str = "prediction") -> None:
    with psycopg.connect(api.url) as connection:
        connection.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT forbidden CHECK ({constraint}) NOT VALID"
        )


def allow(api: Api, table: str = "prediction") -> None:
    with psycopg.connect(api.url) as connection:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT forbidden")


def test_of_a_whole_batch_only_the_rows_that_the_database_refuses_are_missing(
    run: Run, no_validator: pytest.MonkeyPatch
) -> None:
    bad = set(random.Random(4).sample(range(400), 12))

    async def body(api: Api) -> None:
        ids = [f"bad{i}" if i in bad else f"good{i}" for i in range(400)]
        mixed = api.predictions(*map(a_prediction, ids))
        others = [api.predictions(a_prediction(f"other{i}")) for i in range(5)]
        answer, *rest = await asyncio.gather(mixed, *others)
        document = answer.json()
        assert {(r["index"], r["code"]) for r in document["rejected"]} == {
            (i, "database-refused") for i in bad
        }
        assert document["accepted"] == 388
        assert all(r.json()["accepted"] == 1 for r in rest)
        assert api.count("prediction") == api.count("prediction_identity") == 393
        assert api.query("SELECT sum(rows) FROM ingest_fault") == [(12,)]
        letters = api.query("SELECT prediction_id, state, kind, version_id FROM dead_letter")
        assert {row[0] for row in letters} == {f"bad{i}" for i in bad}
        assert {row[1:3] for row in letters} == {("22021", "predictions")}

    run(body)


def test_a_search_that_is_broken_off_goes_on_and_refuses_no_other_row(
    run: Run, no_validator: pytest.MonkeyPatch
) -> None:
    no_validator.setattr(store, "_SEARCH_SECONDS", -1.0)
    bad = set(random.Random(5).sample(range(100), 20))

    async def body(api: Api) -> None:
        ids = [f"bad{i}" if i in bad else f"good{i}" for i in range(100)]
        mixed = api.predictions(*map(a_prediction, ids))
        others = [api.predictions(a_prediction(f"other{i}")) for i in range(5)]
        answer, *rest = await asyncio.gather(mixed, *others)
        assert answer.json()["accepted"] == 80
        assert {row["index"] for row in answer.json()["rejected"]} == bad
        assert len(answer.json()["rejected"]) == 20
        assert all(r.json()["accepted"] == 1 for r in rest)
        assert api.count("prediction") == api.count("prediction_identity") == 85
        assert api.count("dead_letter") == 20

    run(body)


def test_a_row_that_is_sent_again_is_kept_once(run: Run, no_validator: pytest.MonkeyPatch) -> None:
    async def body(api: Api) -> None:
        for _ in range(3):
            answer = await api.predictions(a_prediction("bad"), a_prediction("good"))
            assert [r["code"] for r in answer.json()["rejected"]] == ["database-refused"]
        assert api.count("dead_letter") == 1

    run(body)


def test_of_many_letters_the_newest_are_kept_and_none_for_ever(
    run: Run, no_validator: pytest.MonkeyPatch
) -> None:
    no_validator.setattr("service.ingest.letters.MAX_LETTERS", 10)

    async def body(api: Api) -> None:
        await api.predictions(*(a_prediction(f"bad{i}") for i in range(16)))
        assert api.count("dead_letter") == 10
        with psycopg.connect(api.url) as connection:
            connection.execute(
                "UPDATE dead_letter SET received_at = received_at - %s", (limits.LETTER_AGE,)
            )
        await api.predictions(a_prediction("bad-new"))
        assert api.query("SELECT prediction_id FROM dead_letter") == [("bad-new",)]

    run(body)


def test_a_worker_lets_go_of_letters_that_nobody_replays(
    run: Run, no_validator: pytest.MonkeyPatch, sessions: sessionmaker[Session]
) -> None:
    async def body(api: Api) -> None:
        await api.predictions(*map(a_prediction, ["bad1", "bad2"]))
        with psycopg.connect(api.url) as connection:
            connection.execute(
                "UPDATE dead_letter SET received_at = received_at - %s "
                "WHERE prediction_id = 'bad1'",
                (limits.LETTER_AGE,),
            )
        Forgetting(sessions).forget()
        assert api.query("SELECT prediction_id FROM dead_letter") == [("bad2",)]

    run(body)


def test_a_label_that_a_constraint_forbids_is_kept(run: Run) -> None:
    async def body(api: Api) -> None:
        forbid(api, "prediction_id <> 'b'", "label")
        answer = await api.labels(a_label("a"), a_label("b"), a_label("c"))
        assert [r["index"] for r in answer.json()["rejected"]] == [1]
        assert api.count("label") == 2
        assert api.query("SELECT kind, prediction_id, state FROM dead_letter") == [
            ("labels", "b", "23514")
        ]

    run(body)


async def listed(api: Api, **query: Any) -> Any:
    answer = await api.client.get("/v1/dead-letters", params={"model": "loans", **query})
    return answer.json()


def test_letters_are_read_page_by_page_with_their_records(run: Run) -> None:
    async def body(api: Api) -> None:
        forbid(api, "prediction_id NOT LIKE 'b%'")
        await api.predictions(*map(a_prediction, ["a", "b1", "c", "b2"]), a_prediction("b3"))
        first = await listed(api, limit=2)
        second = await listed(api, limit=2, cursor=first["next"])
        letters = first["dead_letters"] + second["dead_letters"]
        assert second["next"] is None
        assert {letter["prediction_id"] for letter in letters} == {"b1", "b2", "b3"}
        assert {(own["model"], own["version"], own["state"]) for own in letters} == {
            ("loans", "7", "23514")
        }
        records = [json.loads(letter["record"]) for letter in letters]
        assert sorted(r["prediction_id"] for r in records) == ["b1", "b2", "b3"]
        assert a_prediction("b1") in records
        answer = await api.client.get("/v1/dead-letters", params={"model": "nobody"})
        assert answer.status_code == 404

    run(body)


def test_what_is_replayed_is_stored_like_any_row_and_is_no_letter_any_more(run: Run) -> None:
    async def body(api: Api) -> None:
        forbid(api, "prediction_id NOT LIKE 'b%'")
        await api.predictions(*map(a_prediction, ["a", "b1", "b2", "b3"]))
        forbid(api, "label = '0'", "label")
        await api.labels(a_label("b1"), a_label("b2", label="0"))
        ids = [letter["id"] for letter in (await listed(api))["dead_letters"]]
        assert len(ids) == 4
        answer = (await api.client.post(f"/v1/dead-letters/{ids[0]}/replay")).json()
        assert answer["rejected"][0]["code"] == "database-refused"
        assert api.count("dead_letter") == 4
        assert api.query("SELECT sum(rows) FROM ingest_fault") == [(4,)]
        allow(api)
        answer = (await api.client.post(f"/v1/dead-letters/{ids[0]}/replay")).json()
        assert answer == {"accepted": 1, "duplicates": 0, "rejected": []}
        assert (await api.predictions(a_prediction("b2"))).json()["accepted"] == 1
        answer = await api.client.post("/v1/dead-letters/replay", params={"model": "loans"})
        refused = answer.json()["rejected"]
        assert (answer.json()["accepted"], answer.json()["duplicates"]) == (1, 1)
        assert [(own["id"], own["code"]) for own in refused] == [(ids[3], "database-refused")]
        allow(api, "label")
        await api.client.post("/v1/dead-letters/replay", params={"model": "loans"})
        assert api.count("prediction") == 4
        assert api.count("label") == 2
        assert api.count("dead_letter") == 0
        gone = await api.client.post(f"/v1/dead-letters/{ids[0]}/replay")
        assert (gone.status_code, gone.json()["code"]) == (404, "unknown-dead-letter")

    run(body)


def test_a_letter_that_contradicts_what_is_stored_meanwhile_is_kept(run: Run) -> None:
    async def body(api: Api) -> None:
        forbid(api, "prediction_id <> 'b'")
        await api.predictions(a_prediction("b"))
        allow(api)
        await api.predictions(a_prediction("b", score=0.5))
        answer = await api.client.post("/v1/dead-letters/replay", params={"model": "loans"})
        assert [own["code"] for own in answer.json()["rejected"]] == ["conflicting-duplicate"]
        assert api.count("dead_letter") == 1

    run(body)


def test_replays_at_the_same_time_store_a_row_once(run: Run) -> None:
    async def body(api: Api) -> None:
        forbid(api, "prediction_id NOT LIKE 'b%'")
        await api.predictions(*(a_prediction(f"b{i}") for i in range(20)))
        allow(api)
        path = "/v1/dead-letters/replay?model=loans"
        answers = await asyncio.gather(*(api.client.post(path) for _ in range(4)))
        assert sum(answer.json()["accepted"] for answer in answers) == 20
        assert api.count("prediction") == 20
        assert api.count("dead_letter") == 0

    run(body)


def test_letters_can_be_deleted(run: Run) -> None:
    async def body(api: Api) -> None:
        forbid(api, "prediction_id NOT LIKE 'b%'")
        await api.predictions(*map(a_prediction, ["b1", "b2", "b3"]))
        [first, *_] = (await listed(api))["dead_letters"]
        path = f"/v1/dead-letters/{first['id']}"
        assert (await api.client.delete(path)).json() == {"deleted": 1}
        assert (await api.client.delete(path)).status_code == 404
        assert (await api.client.delete("/v1/dead-letters/0")).status_code == 404
        answer = await api.client.delete("/v1/dead-letters", params={"model": "loans"})
        assert answer.json() == {"deleted": 2}
        assert api.count("dead_letter") == 0

    run(body)


def test_a_letter_holds_nothing_personal_and_its_replay_stores_the_same_hashes(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as session:
        put_model(session, "loans", ModelDocument())
        features = [
            {"name": "region", "kind": "categorical", "pii": "hash"},
            {"name": "email", "kind": "text", "pii": "drop"},
        ]
        settings = Settings(_env_file=None, pii_key=SecretStr("k" * 32))
        document = VersionDocument.model_validate({"features": features})
        put_version(session, "loans", "7", document)
        require_key(session, pseudonyms_of(settings))

    async def body() -> None:
        async with running(database_url, sessions, settings) as api:
            said = {"region": "SECRET", "email": "SECRET@x.org"}
            rows = [a_prediction(i, features=said, subject="SECRET-7") for i in ("a", "b")]
            forbid(api, "prediction_id <> 'b'")
            assert (await api.predictions(*rows)).json()["accepted"] == 1
            [letter] = (await listed(api))["dead_letters"]
            assert "SECRET" not in json.dumps(letter)
            assert b"SECRET" not in bytes(api.query("SELECT record FROM dead_letter")[0][0])
            allow(api)
            await api.client.post("/v1/dead-letters/replay?model=loans")
            [one] = api.query("SELECT DISTINCT subject, c1 FROM prediction")
            assert "SECRET" not in str(one)
            assert (await api.predictions(*rows)).json()["duplicates"] == 2

    asyncio.run(body())
