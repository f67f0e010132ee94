"""Batches with an ``Idempotency-Key``: told again, answered again, stored once."""

import asyncio
import gzip
import json
from typing import Any

import psycopg
import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.ingest.known import Forgetting
from tests.integration.ingest.conftest import Api, Run, a_label, a_prediction


async def send(api: Api, *records: Any, key: str, path: str = "/v1/predictions") -> Any:
    body: dict[str, Any] = {"model": "loans", "records": list(records)}
    if path == "/v1/predictions":
        body["version"] = "7"
    return await api.raw(json.dumps(body).encode(), path, idempotency_key=key)


@pytest.mark.parametrize(
    ("path", "make"), [("/v1/predictions", a_prediction), ("/v1/labels", a_label)]
)
def test_a_batch_again_is_answered_as_before_and_stores_nothing(
    run: Run, path: str, make: Any
) -> None:
    table = path.rpartition("/")[2].removesuffix("s")

    async def body(api: Api) -> None:
        await send(api, make("known"), key="earlier", path=path)
        rows = [make("a"), make("known"), make("b"), make("a"), make("")]
        # A label of the same time and a prediction of the same id that contradict what is stored.
        other = {"label": 0} if path == "/v1/labels" else {"score": 0.1}
        first = await send(api, *rows, make("b", **other), key="k", path=path)
        assert (first.json()["accepted"], first.json()["duplicates"]) == (2, 2)
        assert "idempotency-replayed" not in first.headers
        before = api.query(f"SELECT count(*) FROM {table}") + api.query("SELECT * FROM arrival")
        for _ in range(2):
            again = await send(api, *rows, make("b", **other), key="k", path=path)
            assert again.status_code == 200
            assert again.headers["idempotency-replayed"] == "true"
            expected = first.json()
            for refusal in expected["rejected"]:
                refusal["prediction_id"] = None
            assert again.json() == expected
        after = api.query(f"SELECT count(*) FROM {table}") + api.query("SELECT * FROM arrival")
        assert after == before

    run(body)


def test_a_key_with_another_batch_is_refused_and_the_batch_is_not_stored(run: Run) -> None:
    async def body(api: Api) -> None:
        assert (await send(api, a_prediction("a"), key="k")).status_code == 200
        answer = await send(api, a_prediction("b"), key="k")
        assert (answer.status_code, answer.json()["code"]) == (422, "key-reused")
        # Labels have keys of their own.
        assert (await send(api, a_label("a"), key="k", path="/v1/labels")).status_code == 200
        assert api.count("prediction") == 1

    run(body)


def test_a_batch_is_known_however_it_is_packed(run: Run) -> None:
    async def body(api: Api) -> None:
        content = json.dumps(
            {"model": "loans", "version": "7", "records": [a_prediction()]}
        ).encode()
        await api.raw(content, idempotency_key="k")
        for packed in (gzip.compress(content, 1), gzip.compress(content, 9)):
            again = await api.raw(packed, content_encoding="gzip", idempotency_key="k")
            assert again.json()["accepted"] == 1

    run(body)


def test_what_was_not_stored_is_not_known(run: Run) -> None:
    async def body(api: Api) -> None:
        bad = a_prediction("a", score=2)
        for _ in range(2):
            answer = await send(api, bad, key="k")
            assert (answer.status_code, answer.json()["code"]) == (422, "all-rejected")
        with psycopg.connect(api.url) as blocker:
            blocker.execute("LOCK TABLE prediction_identity IN ACCESS EXCLUSIVE MODE")
            answer = await send(api, a_prediction("b"), key="l")
            assert answer.status_code == 503
        assert api.count("known_batch") == 0
        answer = await send(api, a_prediction("b"), key="l")
        assert (answer.json()["accepted"], "idempotency-replayed" in answer.headers) == (1, False)

    run(body)


@pytest.mark.parametrize("key", ["", "x" * 129, "a b", "a\x7f"])
def test_a_key_is_short_and_visible(run: Run, key: str) -> None:
    async def body(api: Api) -> None:
        answer = await send(api, a_prediction(), key=key)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad-idempotency-key")

    run(body)


def test_the_same_batch_at_the_same_time_is_stored_once(run: Run) -> None:
    async def body(api: Api) -> None:
        rows = [a_prediction(str(i)) for i in range(20)]
        answers = await asyncio.gather(*(send(api, *rows, key=f"k{i % 3}") for i in range(12)))
        assert {a.status_code for a in answers} == {200}
        assert all(a.json()["accepted"] + a.json()["duplicates"] == 20 for a in answers)
        assert api.count("prediction") == 20

    run(body)


def test_old_answers_are_forgotten_and_their_rows_are_still_known(
    run: Run, sessions: sessionmaker[Session]
) -> None:
    async def body(api: Api) -> None:
        for key in ("old", "new"):
            await send(api, a_prediction(key), key=key)
        with psycopg.connect(api.url) as connection:
            connection.execute(
                "UPDATE known_batch SET received_at = received_at - interval '61 minutes' "
                "WHERE received_at = (SELECT min(received_at) FROM known_batch)"
            )
        forgetting = Forgetting(sessions)
        assert forgetting.forget()
        assert not forgetting.forget()
        assert api.count("known_batch") == 1
        assert (await send(api, a_prediction("old"), key="old")).json()["duplicates"] == 1
        assert (await send(api, a_prediction("new"), key="new")).json()["accepted"] == 1

    run(body)
