"""A few processes serve many who ask, or tell them to come back."""

import asyncio
import time
from contextlib import closing

import pytest

from service.isolation.process import ProcessDiedError, ProcessLateError
from service.isolation.room import ProcessRoom, RoomFullError
from tests.unit.isolation.deeds import JOB


def test_a_room_serves_many_and_turns_away_too_many() -> None:
    async def body() -> None:
        room = ProcessRoom(JOB, processes=2, most=6)
        try:
            questions = [b"a", b"crash", b"bc", b"abort", b"de", b"fg"]
            answers = [asyncio.ensure_future(room.ask(each)) for each in questions]
            await asyncio.sleep(0)
            with pytest.raises(RoomFullError):
                await room.ask(b"one too many")
            found = await asyncio.gather(*answers, return_exceptions=True)
            assert [each if isinstance(each, bytes) else type(each) for each in found] == [
                *(b"a", ProcessDiedError, b"cb", ProcessDiedError, b"ed", b"gf")
            ]
            assert await room.ask(b"hi") == b"ih"
        finally:
            room.close()

    asyncio.run(body())


def test_who_has_waited_too_long_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.isolation.room.WAIT_SECONDS", -1.0)
    with closing(ProcessRoom(JOB, processes=1, most=1)) as room, pytest.raises(ProcessLateError):
        asyncio.run(room.ask(b"abc"))


def test_a_room_that_closes_waits_for_no_hostile_file_and_tells_all_who_wait() -> None:
    async def body() -> None:
        room = ProcessRoom(JOB, processes=1, most=2)
        await room.ask(b"started")
        waiting = [asyncio.ensure_future(room.ask(each)) for each in (b"sleep", b"abc")]
        while not room._free.empty():  # noqa: ASYNC110  a thread takes it
            await asyncio.sleep(0)
        began = time.monotonic()
        room.close()
        assert time.monotonic() - began < 30
        for each in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(each, ProcessLateError)

    asyncio.run(body())
