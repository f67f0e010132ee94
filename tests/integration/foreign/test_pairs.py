import asyncio
import itertools
import json
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session, sessionmaker

from service.registry.privacy import pseudonyms_of
from service.registry.schemas import ModelDocument
from service.registry.service import put_model, require_key
from service.settings import Settings
from tests.integration.foreign.conftest import (
    ANSWERED,
    ASKED,
    REQUEST,
    RESPONSE,
    Api,
    Run,
    headers_of,
    register,
    running,
)

NONE = {"accepted": 0, "duplicates": 0, "rejected": 0, "reasons": []}
ONE = {**NONE, "accepted": 1}


@pytest.mark.parametrize("order", [(REQUEST, RESPONSE), (RESPONSE, REQUEST)])
def test_halves_are_paired_in_either_order(run: Run, order: tuple[str, str]) -> None:
    async def body(api: Api) -> None:
        payloads = {REQUEST: ASKED, RESPONSE: ANSWERED}
        first = await api.event(order[0], "a", payloads[order[0]])
        assert first.status_code == 200
        assert first.json() == {
            "accepted": 1, "duplicates": 0, "rejected": [], "warnings": [], "rows": NONE,
        }  # fmt: skip
        assert (api.count("prediction"), api.count("pending_pair")) == (0, 1)
        second = await api.event(order[1], "a", payloads[order[1]])
        assert second.json()["rows"] == ONE
        row = await api.row("a")
        assert row["features"] == {"income": 41000, "region": "north", "owner": True}
        assert (row["score"], row["prediction"]) == (0.8, None)
        assert row["ts"] == "2026-01-02T03:04:05.078900Z"

    run(body)


def test_rows_of_one_payload_are_numbered(run: Run) -> None:
    async def body(api: Api) -> None:
        rows = [[41000, "north", True], [7, None, 0.0]]
        answer = await api.pair("b", {"instances": rows}, {"predictions": [1, 0]})
        assert answer["rows"]["accepted"] == 2
        assert (await api.row("b#0"))["prediction"] == "1"
        second = await api.row("b#1")
        assert second["features"] == {"income": 7, "region": None, "owner": False}

    run(body)


def test_halves_go_once_their_rows_are_stored(run: Run) -> None:
    async def body(api: Api) -> None:
        await api.pair("a")
        # The next commit lets go of them, at the latest.
        await api.event(REQUEST, "b", ASKED)
        held = "SELECT request, response, stored_at IS NULL FROM pending_pair"
        for _ in range(100):
            rows = api.query(held + " WHERE correlation = 'a'")
            if rows == [(None, None, False)]:
                break
            await asyncio.sleep(0.02)
        assert rows == [(None, None, False)]

    run(body)


def test_an_event_that_is_sent_again_is_a_duplicate_before_and_after_its_pair(run: Run) -> None:
    async def body(api: Api) -> None:
        for _ in range(2):
            first = await api.event(REQUEST, "a", ASKED)
            again = await api.event(REQUEST, "a", ASKED)
            assert again.json()["duplicates"] == 1
            answer = await api.event(RESPONSE, "a", ANSWERED)
        assert first.json()["duplicates"] == answer.json()["duplicates"] == 1
        assert api.count("prediction") == 1

    run(body)


def test_another_event_of_the_same_id_is_a_named_conflict(run: Run) -> None:
    async def body(api: Api) -> None:
        await api.event(REQUEST, "a", ASKED)
        for _ in range(2):
            other = await api.event(REQUEST, "a", {"instances": [[1, "south", False]]})
            assert other.status_code == 422
            (refusal,) = other.json()["rejected"]
            assert (refusal["code"], refusal["field"]) == ("conflicting-duplicate", "id")
            await api.event(RESPONSE, "a", ANSWERED)
        assert (await api.row("a"))["features"]["income"] == 41000

    run(body)


def test_events_of_two_sources_are_two_pairs(run: Run) -> None:
    async def body(api: Api) -> None:
        await api.event(REQUEST, "a", ASKED, source="transformer")
        answer = await api.event(RESPONSE, "a", ANSWERED, source="predictor")
        assert answer.json()["rows"] == NONE
        assert api.count("pending_pair") == 2

    run(body)


def test_both_halves_may_come_in_one_request_in_any_order_and_twice(run: Run) -> None:
    async def body(api: Api) -> None:
        async def sent(*order: str) -> Any:
            events = [
                {
                    **{k.removeprefix("ce-"): v for k, v in headers_of(side, name).items()},
                    "data": ASKED if side == REQUEST else ANSWERED,
                }
                for name, side in (each.split() for each in order)
            ]
            return (await api.send("application/cloudevents-batch+json", events)).json()

        answer = await sent("a response", "a request", "b request", "b request", "b response")
        assert (answer["accepted"], answer["duplicates"]) == (4, 1)
        assert answer["rows"]["accepted"] == 2
        assert api.count("prediction") == 2

    run(body)


def test_concurrent_halves_in_two_processes_wait_for_each_other(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    register(sessions)

    async def inside() -> None:
        async with (
            running(database_url, sessions) as one,
            running(database_url, sessions) as other,
        ):
            calls = [
                (one if (number + side) % 2 else other).event(
                    (REQUEST, RESPONSE)[side], f"c{number}", (ASKED, ANSWERED)[side]
                )
                for number, side in itertools.product(range(60), range(2))
            ]
            answers = await asyncio.gather(*calls)
            assert {answer.status_code for answer in answers} == {200}
            assert sum(answer.json()["rows"]["accepted"] for answer in answers) == 60
            assert one.count("prediction") == 60

    asyncio.run(inside())


def test_a_mismatch_of_rows_is_refused_and_not_tried_again(run: Run) -> None:
    async def body(api: Api) -> None:
        await api.event(REQUEST, "a", ASKED)
        answer = await api.event(RESPONSE, "a", {"predictions": [1, 0]})
        assert answer.status_code == 422
        assert answer.json()["rejected"][0]["code"] == "bad-shape"
        assert api.count("prediction") == 0

    run(body)


def test_rows_have_the_verdicts_of_the_native_route(run: Run) -> None:
    async def body(api: Api) -> None:
        await api.event(REQUEST, "a", {"instances": [{"shoe_size": 44}]})
        answer = await api.event(RESPONSE, "a", ANSWERED)
        assert answer.status_code == 422
        assert answer.json()["rejected"][0]["code"] == "unknown-feature"
        asked = {"instances": [{"income": "much"}, {"income": 1}]}
        await api.event(REQUEST, "b", asked)
        answer = await api.event(RESPONSE, "b", {"predictions": ["2", "1"]})
        assert answer.status_code == 200
        found = answer.json()
        assert (found["accepted"], found["rows"]["accepted"], found["rows"]["rejected"]) == (
            1,
            1,
            1,
        )
        (reason,) = found["rows"]["reasons"]
        assert (reason["index"], reason["prediction_id"], reason["code"]) == (
            0, "b#0", "unknown-class",
        )  # fmt: skip

    run(body)


def test_responses_that_come_alone_wait_for_nothing(run: Run) -> None:
    async def body(api: Api) -> None:
        answer = await api.event(RESPONSE, "a", ANSWERED, "?only=response")
        assert answer.json()["rows"] == ONE
        assert (await api.row("a"))["features"] == {"income": None, "region": None, "owner": None}
        assert api.count("pending_pair") == 0
        assert (await api.event(REQUEST, "b", ASKED, "?only=response")).status_code == 422

    run(body)


def test_the_model_and_version_are_found_by_name_or_said(
    run: Run, sessions: sessionmaker[Session]
) -> None:
    register(sessions, "prod.loans", "1")
    register(sessions, "shop", "1")
    register(sessions, "shop", "canary")

    async def body(api: Api) -> None:
        async def taken(query: str = "", **attributes: str) -> Any:
            answer = await api.event(
                RESPONSE, "a", ANSWERED, "?only=response" + query, **attributes
            )
            if answer.status_code != 200:
                return answer.json()["rejected"][0]["code"]
            found = api.query(
                "DELETE FROM prediction p USING model m, version v "
                "WHERE m.id = p.model_id AND v.id = p.version_id RETURNING m.name, v.name"
            )
            api.execute("DELETE FROM prediction_identity")
            return found

        assert await taken() == [("loans", "7")]
        assert await taken(namespace="PROD") == [("prod.loans", "1")]
        assert await taken("&model=prod.loans") == [("prod.loans", "1")]
        assert await taken(inferenceservicename="shop") == "unknown-version"
        assert await taken(inferenceservicename="shop", endpoint="canary") == [("shop", "canary")]
        assert await taken("&version=1", inferenceservicename="shop") == [("shop", "1")]
        assert await taken("&version=9", inferenceservicename="shop") == "unknown-version"
        assert await taken(inferenceservicename="nobody") == "unknown-model"
        assert await taken(inferenceservicename="../x") == "unknown-model"
        assert await taken("&model=nobody") == "unknown-model"

    run(body)


def test_what_waits_is_bounded_and_shed(
    database_url: str, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(sessions)
    monkeypatch.setattr("service.foreign.pairing.FRESH_SECONDS", -1.0)

    async def inside() -> None:
        bounded = Settings(_env_file=None, max_pending=4)
        async with running(database_url, sessions, bounded) as api:
            for number in range(4):
                assert (await api.event(REQUEST, f"r{number}", ASKED)).status_code == 200
            shed = await api.event(REQUEST, "r4", ASKED)
            assert (shed.status_code, shed.json()["code"]) == (503, "busy")
            assert shed.headers["retry-after"] == "1"
            # What completes a pair has room still.
            assert (await api.event(RESPONSE, "r0", ANSWERED)).json()["rows"] == ONE
            assert (await api.event(RESPONSE, "x", ANSWERED)).status_code == 200
            assert (await api.event(RESPONSE, "y", ANSWERED)).status_code == 200
            assert (await api.event(RESPONSE, "z", ANSWERED)).status_code == 503
            # Once what waited has gone, nothing is shed any more.
            api.execute("DELETE FROM pending_pair")
            assert (await api.event(REQUEST, "r4", ASKED)).status_code == 200
        narrow = Settings(_env_file=None, max_pending_bytes=10)
        async with running(database_url, sessions, narrow) as api:
            assert (await api.event(REQUEST, "r5", ASKED)).status_code == 200
            assert (await api.event(REQUEST, "r6", ASKED)).status_code == 503

    asyncio.run(inside())


def test_a_version_that_nobody_declared_is_registered_by_its_first_pair(
    run: Run, sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as session:
        put_model(session, "new", ModelDocument(auto_register=True))

    async def body(api: Api) -> None:
        asked = {"instances": [{"income": 1.5, "region": "north"}]}
        event = {"inferenceservicename": "new", "modelversion": "3"}
        unnamed = await api.event(REQUEST, "a", {"instances": [[1.5]]}, **event)
        assert unnamed.json()["rejected"][0]["code"] == "no-schema"
        await api.event(REQUEST, "a", asked, **event)
        answer = await api.event(RESPONSE, "a", {"predictions": [1]}, **event)
        assert answer.json()["rows"] == ONE
        row = await api.row("a", "new")
        assert (row["version"], row["features"]) == ("3", {"income": 1.5, "region": "north"})

    run(body)


@pytest.mark.usefixtures("production_limits")
def test_without_a_database_the_answer_is_503_at_once(run: Run) -> None:
    async def body(api: Api) -> None:
        await api.event(REQUEST, "a", ASKED)
        with psycopg.connect(api.url) as blocker:
            blocker.execute("LOCK TABLE pending_pair IN ACCESS EXCLUSIVE MODE")
            answer = await api.event(REQUEST, "b", ASKED)
            assert (answer.status_code, answer.json()["code"]) == (503, "database-away")
        assert (await api.event(REQUEST, "b", ASKED)).status_code == 200

    run(body)


def test_personal_features_wait_hashed_and_dropped(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    features: list[dict[str, Any]] = [
        {"name": "income", "kind": "numeric", "pii": "drop"},
        {"name": "region", "kind": "categorical", "pii": "hash"},
        {"name": "owner", "kind": "boolean"},
    ]
    settings = Settings(_env_file=None, pii_key="k" * 40)

    async def inside() -> None:
        async with running(database_url, sessions, settings) as api:
            await api.event(REQUEST, "a", ASKED, subject="customer-17")
            ((kept, subject),) = api.query("SELECT request, subject FROM pending_pair")
            assert b"north" not in bytes(kept)
            assert b"41000" not in bytes(kept)
            assert subject.startswith("hmac:")
            await api.event(RESPONSE, "a", ANSWERED)
            row = await api.row("a")
            assert row["subject"] == subject
            assert row["features"]["region"].startswith("hmac:")
            # A native row of the same value has the same hash: it was hashed once.
            native = {
                "model": "loans", "version": "7", "prediction_id": "n", "score": 0.1,
                "ts": "2026-01-02T03:04:05Z", "features": {"region": "north"},
            }  # fmt: skip
            await api.lines(native, path="/v1/predictions")
            assert (await api.row("n"))["features"]["region"] == row["features"]["region"]

    with sessions.begin() as session:
        require_key(session, pseudonyms_of(settings))
    register(sessions, features=features)
    asyncio.run(inside())


events = st.lists(
    st.tuples(
        st.sampled_from((REQUEST, RESPONSE)),
        st.integers(0, 3),
        st.integers(0, 1),
    ),
    max_size=14,
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events)
def test_any_order_of_halves_stores_each_pair_once(run: Run, sent: Any) -> None:
    """The first delivery of each half counts; the law of sums holds in every answer."""

    async def body(api: Api) -> None:
        first: dict[tuple[str, int], int] = {}
        for table in ("pending_pair", "prediction", "prediction_identity"):
            api.execute(f"DELETE FROM {table}")
        for side, number, variant in sent:
            income = 1000 + variant
            asked = {"instances": [[income, "north", True]]}
            answered = {"predictions": [[0.5 - variant / 4, 0.5 + variant / 4]]}
            payload = asked if side == REQUEST else answered
            answer = await api.event(side, f"p{number}", payload)
            expected = first.setdefault((side, number), variant)
            assert answer.status_code == (200 if expected == variant else 422)
        complete = {n for _, n in first if {(REQUEST, n), (RESPONSE, n)} <= first.keys()}
        stored = api.query("SELECT prediction_id, n1, score FROM prediction ORDER BY 1")
        assert stored == [
            (f"p{n}", 1000.0 + first[REQUEST, n], 0.5 + first[RESPONSE, n] / 4)
            for n in sorted(complete)
        ]

    run(body)


def test_the_answer_never_repeats_a_payload(run: Run) -> None:
    async def body(api: Api) -> None:
        for payload in (b"s3cret", json.dumps({"instances": "s3cret"}).encode()):
            answer = await api.event(REQUEST, "a", payload)
            assert answer.status_code == 422
            assert "s3cret" not in answer.text

    run(body)
