import asyncio
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.foreign.sweeping import Sweeper
from service.ingest.service import Ingest
from service.settings import Settings
from service.telemetry import FOREIGN_ORPHANS
from tests.integration.foreign.conftest import (
    ANSWERED,
    ASKED,
    REQUEST,
    RESPONSE,
    Api,
    register,
    running,
)

SETTINGS = Settings(_env_file=None, pending_ttl=timedelta(minutes=15))


@pytest.fixture
def sweeper(database_url: str, sessions: sessionmaker[Session]) -> Sweeper:
    register(sessions)
    return Sweeper(SETTINGS, sessions, database_url)


def sent(url: str, sessions: sessionmaker[Session], *events: tuple[str, str]) -> None:
    async def inside() -> None:
        async with running(url, sessions) as api:
            for side, name in events:
                payload = ASKED if side == REQUEST else ANSWERED
                assert (await api.event(side, name, payload)).status_code == 200

    asyncio.run(inside())


def age(url: str, seconds: float) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE pending_pair SET received_at = received_at - make_interval(secs => %s)",
            (seconds,),
        )


def stored(url: str) -> list[tuple[str, float | None, float]]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT prediction_id, n1, score FROM prediction ORDER BY 1")
        return [(row[0], row[1], row[2]) for row in rows]


def pending(url: str) -> int:
    with psycopg.connect(url) as connection:
        return int(connection.execute("SELECT count(*) FROM pending_pair").fetchall()[0][0])


def orphans(side: str) -> float:
    return float(FOREIGN_ORPHANS.labels("loans", side)._value.get())


def test_a_response_that_stays_alone_is_kept_without_features(
    sweeper: Sweeper, database_url: str, sessions: sessionmaker[Session]
) -> None:
    sent(database_url, sessions, (RESPONSE, "alone"), (REQUEST, "unanswered"))
    before = orphans("response"), orphans("request")
    assert not sweeper.sweep()
    age(database_url, 14 * 60)
    assert not sweeper.sweep()
    age(database_url, 61)
    assert sweeper.sweep()
    assert stored(database_url) == [("alone", None, 0.8)]
    assert pending(database_url) == 0
    assert (orphans("response"), orphans("request")) == (before[0] + 1, before[1] + 1)
    assert not sweeper.sweep()


def test_the_worker_stores_the_rows_of_a_pair_that_its_process_did_not(
    sweeper: Sweeper,
    database_url: str,
    sessions: sessionmaker[Session],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def killed(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(Ingest, "predictions", killed)

        async def inside() -> None:
            async with running(database_url, sessions) as api:
                await api.event(REQUEST, "a", ASKED)
                with pytest.raises(RuntimeError):
                    await api.event(RESPONSE, "a", ANSWERED)

        asyncio.run(inside())
    assert not sweeper.sweep()
    age(database_url, 31)
    before = orphans("response")
    assert sweeper.sweep()
    assert stored(database_url) == [("a", 41000.0, 0.8)]
    assert orphans("response") == before
    sent(database_url, sessions, (RESPONSE, "a"))
    assert stored(database_url) == [("a", 41000.0, 0.8)]


def test_hashes_of_stored_pairs_go_in_the_end(
    sweeper: Sweeper, database_url: str, sessions: sessionmaker[Session]
) -> None:
    sent(database_url, sessions, (REQUEST, "a"), (RESPONSE, "a"))
    assert pending(database_url) == 1
    age(database_url, 16 * 60)
    assert sweeper.sweep()
    assert pending(database_url) == 0


def test_a_sweep_that_dies_after_its_rows_is_repeated_without_doubling(
    sweeper: Sweeper,
    database_url: str,
    sessions: sessionmaker[Session],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent(database_url, sessions, (RESPONSE, "alone"))
    age(database_url, 16 * 60)

    def killed(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr("service.foreign.sweeping._let_go", killed)
        with pytest.raises(RuntimeError):
            sweeper.sweep()
    assert pending(database_url) == 1
    assert sweeper.sweep()
    assert stored(database_url) == [("alone", None, 0.8)]


def test_a_half_of_this_moment_never_waits_for_a_sweep(
    sweeper: Sweeper, database_url: str, sessions: sessionmaker[Session]
) -> None:
    async def inside() -> None:
        async with running(database_url, sessions) as api:
            await api.event(REQUEST, "a", ASKED)
            api_answer = await _answered_while_swept(api, sweeper)
            assert api_answer == 1

    asyncio.run(inside())


async def _answered_while_swept(api: Api, sweeper: Sweeper) -> int:
    sweep = asyncio.get_running_loop().run_in_executor(None, sweeper.sweep)
    answer = await api.event(RESPONSE, "a", ANSWERED)
    await sweep
    return int(answer.json()["rows"]["accepted"])
