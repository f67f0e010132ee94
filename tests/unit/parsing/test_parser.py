"""A process that reads hostile files may die; who asks it never does."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from service.parsing.parser import Job, Parser, ParserDiedError, ParserLateError
from service.parsing.room import ParserRoom, RoomFullError


def answer(request: bytes) -> bytes:
    """Do what a hostile file could make a library do."""
    deeds: dict[bytes, Callable[[], object]] = {
        b"abort": os.abort,
        b"crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
        b"leave": lambda: os._exit(0),
        b"spin": _spin,
        b"sleep": lambda: time.sleep(60),
        b"grow": lambda: bytearray(1 << 40),
        b"talk": lambda: os.write(1, b"not an answer"),
        b"killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    }
    try:
        deeds.get(request, lambda: None)()
    except MemoryError:
        return b"no memory"
    return request[::-1]


def _spin() -> None:
    while True:
        pass


JOB = Job(f"{__name__}:answer", memory=256 << 20, processor=1, seconds=50.0)


@pytest.fixture
def parser() -> Iterator[Parser]:
    with Parser(JOB) as parser:
        yield parser


@pytest.mark.parametrize("deed", [b"abort", b"crash", b"leave", b"spin"])
def test_after_a_death_there_is_another_process(parser: Parser, deed: bytes) -> None:
    assert parser.ask(b"abc") == b"cba"
    before = parser.pid
    with pytest.raises(ParserDiedError):
        parser.ask(deed)
    assert parser.ask(b"abc") == b"cba"
    assert parser.pid not in {None, before}


def test_memory_is_bounded_and_nothing_is_said_but_answers(parser: Parser) -> None:
    assert parser.ask(b"grow") == b"no memory"
    assert parser.ask(b"talk") == b"klat"
    large = os.urandom(5 << 20)
    assert parser.ask(large) == large[::-1]


def test_who_takes_too_long_or_is_killed_from_outside_may_be_right(parser: Parser) -> None:
    with pytest.raises(ParserLateError):
        parser.ask(b"killed")
    hurried = Job(JOB.function, JOB.memory, 1, seconds=0.5)
    with Parser(hurried) as other, pytest.raises(ParserLateError):
        other.ask(b"sleep")


def test_a_parser_leaves_no_process_behind() -> None:
    with Parser(JOB) as parser:
        parser.ask(b"a")
        pid = parser.pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_room_serves_many_and_turns_away_too_many() -> None:
    async def body() -> None:
        room = ParserRoom(JOB, parsers=2, most=6)
        try:
            questions = [b"a", b"crash", b"bc", b"abort", b"de", b"fg"]
            answers = [asyncio.ensure_future(room.ask(each)) for each in questions]
            await asyncio.sleep(0)
            with pytest.raises(RoomFullError):
                await room.ask(b"one too many")
            found = await asyncio.gather(*answers, return_exceptions=True)
            assert [each if isinstance(each, bytes) else type(each) for each in found] == [
                *(b"a", ParserDiedError, b"cb", ParserDiedError, b"ed", b"gf")
            ]
        finally:
            room.close()

    asyncio.run(body())


def test_a_room_that_closes_waits_for_no_hostile_file() -> None:
    async def body() -> None:
        room = ParserRoom(JOB, parsers=1, most=2)
        await room.ask(b"started")
        asleep = asyncio.ensure_future(room.ask(b"sleep"))
        while not room._free.empty():  # noqa: ASYNC110  a thread takes it
            await asyncio.sleep(0)
        began = time.monotonic()
        room.close()
        assert time.monotonic() - began < 30
        with pytest.raises(ParserLateError):
            await asleep

    asyncio.run(body())
