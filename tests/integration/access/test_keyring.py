"""What a process knows of keys: soon enough, cheaply, and while the database is away."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session, sessionmaker

from service.access import keyring
from service.access.grants import Scope
from service.access.keyring import KeyRing
from service.access.service import revoke_key, rotate_key
from service.access.tables import ApiKey
from service.access.tokens import new_token
from service.db.engine import make_engine, make_sessions
from service.errors import DatabaseAwayError, NotMigratedError, UnauthenticatedError
from tests.integration.access.conftest import MakeKey

Check = Callable[[KeyRing], Awaitable[None]]
NOWHERE = make_sessions(make_engine("postgresql://nobody@127.0.0.1:1/none"))


def with_ring(sessions: sessionmaker[Session], check: Check) -> None:
    async def inside() -> None:
        ring = KeyRing(sessions)
        ring.start()
        try:
            await check(ring)
        finally:
            await ring.stop()

    asyncio.run(inside())


async def refused(ring: KeyRing, token: str, *, by: type[Exception] = UnauthenticatedError) -> None:
    with pytest.raises(by):
        await ring.grant(token.encode())


@contextmanager
def away(ring: KeyRing) -> Iterator[None]:
    there, ring._sessions = ring._sessions, NOWHERE
    try:
        yield
    finally:
        ring._sessions = there


def test_a_key_that_was_made_just_now_opens_at_once(
    sessions: sessionmaker[Session], make_key: MakeKey
) -> None:
    async def check(ring: KeyRing) -> None:
        for models in (None, ["a", "b"]):
            grant = await ring.grant(make_key(Scope.INGEST, models=models).encode())
            assert grant.scopes == {Scope.INGEST}
            assert grant.models == (None if models is None else {"a", "b"})

    with_ring(sessions, check)


def test_no_reason_for_a_refusal_is_told_from_another(
    sessions: sessionmaker[Session], make_key: MakeKey
) -> None:
    right, other = make_key(), make_key()
    expired = make_key(expires_in=timedelta(microseconds=1))
    revoked = make_key()
    with sessions.begin() as session:
        revoke_key(session, "cli", revoked.split("_")[2])
    # The right id with another key's secret, which its checksum would betray.
    mixed = new_token("live").text.split("_")
    mixed[2] = right.split("_")[2]

    async def check(ring: KeyRing) -> None:
        await ring.grant(right.encode())
        for token in (new_token("live").text, expired, revoked, "_".join(mixed), other[:-1], ""):
            await refused(ring, token)

    with_ring(sessions, check)


async def use_until_its_end(ring: KeyRing, token: str) -> None:
    end = 0.0
    # Read again at its end, a key may live on for the moment that the first reading took.
    while (known := ring._known[token.split("_")[2].encode()]).ends > end:
        end = known.ends
        await asyncio.sleep(max(0.0, end - time.monotonic()))
        await ring.grant(token.encode())


def test_an_expiry_is_kept_to_the_moment(
    sessions: sessionmaker[Session], make_key: MakeKey
) -> None:
    async def check(ring: KeyRing) -> None:
        for seconds in (2, 8, 32):
            token = make_key(expires_in=timedelta(seconds=seconds))
            # A machine may stall until it has expired.
            with suppress(UnauthenticatedError):
                await ring.grant(token.encode())
                break
        with pytest.raises(UnauthenticatedError):
            await use_until_its_end(ring, token)

    with_ring(sessions, check)


def test_a_key_revoked_here_opens_nothing_any_more_even_if_it_is_being_read(
    sessions: sessionmaker[Session], make_key: MakeKey
) -> None:
    token = make_key()
    kid = token.split("_")[2]

    async def check(ring: KeyRing) -> None:
        await ring.grant(token.encode())
        read, go_on = threading.Event(), threading.Event()

        def slowly(used: Any, really: Any = ring._read) -> Any:
            found = really(used)
            read.set()
            go_on.wait(60)
            return found

        ring._read = slowly  # type: ignore[method-assign]  # the time it takes is what counts
        reading = asyncio.create_task(ring._loaded_after(time.monotonic()))
        assert await asyncio.to_thread(read.wait, 20)
        with sessions.begin() as session:
            revoke_key(session, "cli", kid)
        ring.forget(kid)
        go_on.set()
        await reading
        await refused(ring, token)

    with_ring(sessions, check)


def test_a_key_revoked_elsewhere_is_refused_when_what_is_known_is_stale(
    sessions: sessionmaker[Session], make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "STALE_SECONDS", 0.1)
    monkeypatch.setattr(keyring, "REFRESH_SECONDS", 600.0)
    token = make_key()

    async def check(ring: KeyRing) -> None:
        await ring.grant(token.encode())
        with sessions.begin() as session:
            revoke_key(session, "cli", token.split("_")[2])
        await asyncio.sleep(0.2)
        await refused(ring, token)

    with_ring(sessions, check)


def test_both_keys_of_a_rotation_open_for_the_grace(
    sessions: sessionmaker[Session], make_key: MakeKey
) -> None:
    old = make_key(Scope.INGEST, models=["loans"], rows_per_minute=10)
    short = make_key()
    with sessions.begin() as session:
        new = rotate_key(session, "cli", old.split("_")[2], timedelta(hours=1)).text
        rotate_key(session, "cli", short.split("_")[2], timedelta(0))

    async def check(ring: KeyRing) -> None:
        first, second = await ring.grant(old.encode()), await ring.grant(new.encode())
        assert (first.scopes, first.models) == (second.scopes, second.models)
        assert second.meter is not None
        assert second.meter.limits == (None, 10, None)
        await refused(ring, short)

    with_ring(sessions, check)


def test_what_a_key_has_sent_still_counts_after_it_was_read_again(
    sessions: sessionmaker[Session], make_key: MakeKey
) -> None:
    token = make_key(requests_per_minute=5).encode()

    async def check(ring: KeyRing) -> None:
        first = (await ring.grant(token)).meter
        await ring._loaded_after(time.monotonic())
        assert (await ring.grant(token)).meter is first

    with_ring(sessions, check)


def test_known_keys_go_on_while_the_database_is_away_and_others_are_told_so(
    sessions: sessionmaker[Session], make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "STALE_SECONDS", 0.0)
    known, unknown = make_key(), make_key()

    async def check(ring: KeyRing) -> None:
        await ring.grant(known.encode())
        del ring._known[unknown.split("_")[2].encode()]
        with away(ring):
            await ring.grant(known.encode())
            await refused(ring, unknown, by=DatabaseAwayError)
            # Whether an id is known is not told either.
            await refused(ring, new_token("live").text, by=DatabaseAwayError)
            # What can be no key needs no database.
            await refused(ring, "mw_nonsense")
        await ring.grant(unknown.encode())

    with_ring(sessions, check)


def test_a_start_without_a_database_is_no_401(make_key: MakeKey) -> None:
    token = make_key()
    with_ring(NOWHERE, lambda ring: refused(ring, token, by=DatabaseAwayError))


def test_a_start_before_the_tables_are_there_is_no_401(cluster_url: str, make_key: MakeKey) -> None:
    # The cluster's own database has no table.
    engine = make_engine(cluster_url)

    async def check(ring: KeyRing) -> None:
        await refused(ring, make_key(), by=NotMigratedError)
        await refused(ring, "no key", by=UnauthenticatedError)

    with_ring(make_sessions(engine), check)
    engine.dispose()


def test_a_thousand_guesses_ask_the_database_hardly_more_often_than_one(
    sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    engine = sessions.kw["bind"]

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "api_key" in statement:
            asked.append(statement)

    event.listen(engine, "before_cursor_execute", count)

    async def check(ring: KeyRing) -> None:
        guesses = [refused(ring, new_token("live").text) for _ in range(1_000)]
        await asyncio.gather(*guesses)

    with_ring(sessions, check)
    assert 1 <= len(asked) < 10


def test_after_a_reading_that_took_long_a_new_key_opens_all_the_same(
    sessions: sessionmaker[Session], make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keyring.LONGEST_PACE_SECONDS < 4, "where a request waits no longer for a reading"
    monkeypatch.setattr(keyring, "LONGEST_PACE_SECONDS", 0.3)
    monkeypatch.setattr(keyring, "_SHARE", 1e6)

    async def check(ring: KeyRing) -> None:
        for _ in range(2):
            await ring.grant(make_key().encode())
            assert ring._pace == 0.3

    with_ring(sessions, check)


def test_the_last_use_of_a_key_is_noted(sessions: sessionmaker[Session], make_key: MakeKey) -> None:
    token, other = make_key(), make_key()

    async def check(ring: KeyRing) -> None:
        await ring.grant(token.encode())

    with_ring(sessions, check)
    with sessions() as session:
        rows = session.execute(select(ApiKey.kid, ApiKey.last_used_at))
        used = {kid: at for kid, at in rows}  # noqa: C416 - rows are no pairs to mypy
    assert used[token.split("_")[2]] is not None
    assert used[other.split("_")[2]] is None
