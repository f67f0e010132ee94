"""A process that reads hostile files may die; who asks it never does."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.parsing.memory import own_memory
from service.parsing.parser import (
    Job,
    Parser,
    ParserDiedError,
    ParserGrownError,
    ParserKilledError,
    ParserLateError,
    ParserSlowError,
    reason_of,
)
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
        b"stopped": lambda: os.kill(os.getpid(), signal.SIGTERM),
        b"fill": _fill,
    }
    if request == b"environment":
        return " ".join(os.environ).encode()
    if request.startswith(b"/"):
        return Path(request.decode()).read_bytes()
    try:
        deeds.get(request, lambda: None)()
    except MemoryError:
        return b"no memory"
    return request[::-1]


def _spin() -> None:
    while True:
        pass


def _fill() -> None:
    filled = b"x" * (JOB.memory * 5 // 4)
    while filled:
        time.sleep(1)


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


def test_who_takes_too_much_memory_is_ended(parser: Parser) -> None:
    with pytest.raises(ParserGrownError):
        parser.ask(b"fill")
    assert parser.ask(b"abc") == b"cba"


@pytest.mark.parametrize(
    ("largest", "code", "expected"),
    [
        (JOB.memory + 1, signal.SIGKILL, ParserGrownError),
        # An allocation failed, and a library gave up.
        (JOB.memory - 1, signal.SIGABRT, ParserGrownError),
        (JOB.memory // 4, signal.SIGABRT, ParserDiedError),
        (JOB.memory - 1, signal.SIGXCPU, ParserSlowError),
        (JOB.memory - 1, signal.SIGKILL, ParserKilledError),
        (JOB.memory - 1, signal.SIGTERM, ParserLateError),
    ],
)
def test_why_a_parser_ended_is_told(
    largest: int, code: signal.Signals, expected: type[Exception]
) -> None:
    assert type(reason_of(JOB, -code, largest)) is expected


def test_a_parser_is_the_first_to_go_where_there_is_no_memory_left(parser: Parser) -> None:
    assert parser.ask(b"/proc/self/oom_score_adj") == b"1000\n"


def test_a_parser_has_no_secret_of_the_environment(
    parser: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MODELWATCH_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    found = set(parser.ask(b"environment").decode().split())
    assert "LC_ALL" in found
    assert not {name for name in found if "secret" in os.environ.get(name, "")}


def test_a_parser_reads_a_file_that_has_no_name() -> None:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(b"content")
        with Parser(JOB, [file.fileno()]) as parser:
            assert parser.ask(f"/dev/fd/{file.fileno()}".encode()) == b"content"


def test_who_takes_too_long_or_is_ended_from_outside_may_be_right(parser: Parser) -> None:
    with pytest.raises(ParserKilledError):
        parser.ask(b"killed")
    with pytest.raises(ParserLateError):
        parser.ask(b"stopped")
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


_ASKER = f"""
from service.parsing.parser import Job, Parser
parser = Parser(Job({f"{__name__}:answer"!r}, memory=256 << 20, processor=600, seconds=600.0))
parser.ask(b"started")
print(parser.pid, flush=True)
parser.ask(b"spin")
"""


def test_a_parser_whose_asker_was_killed_ends_with_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _ASKER], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as asker:
        assert asker.stdout is not None
        pid = int(asker.stdout.readline())
        asker.kill()
    for _ in range(600):
        if not own_memory(pid):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it went on, with the file that it read")


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
