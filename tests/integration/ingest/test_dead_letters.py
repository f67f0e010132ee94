"""Rows that only the database refuses: found, kept as bytes, and stored later."""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from service.ingest import limits
from service.ingest.rows import Layout
from tests.integration.ingest.conftest import Api, Run, a_label, a_prediction


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
    bad = set(random.Random(4).sample(range(1_000), 40))

    async def body(api: Api) -> None:
        ids = [f"bad{i}" if i in bad else f"good{i}" for i in range(1_000)]
        mixed = api.predictions(*map(a_prediction, ids))
        others = [api.predictions(a_prediction(f"other{i}")) for i in range(5)]
        answer, *rest = await asyncio.gather(mixed, *others)
        document = answer.json()
        assert {(r["index"], r["code"]) for r in document["rejected"]} == {
            (i, "database-refused") for i in bad
        }
        assert document["accepted"] == 960
        assert all(r.json()["accepted"] == 1 for r in rest)
        assert api.count("prediction") == api.count("prediction_identity") == 965
        assert api.query("SELECT sum(rows) FROM ingest_fault") == [(40,)]
        letters = api.query("SELECT prediction_id, state, kind, version_id FROM dead_letter")
        assert {row[0] for row in letters} == {f"bad{i}" for i in bad}
        assert {row[1:3] for row in letters} == {("22021", "predictions")}

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
