"""Messages come whole and apart, whatever pieces a pipe has."""

import os
import threading
from collections.abc import Iterator

import pytest

from service.isolation.frames import read_frame, write_frame


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)


def test_messages_that_wait_together_are_read_one_by_one(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    for message in (b"abc", b"", b"defg"):
        write_frame(writing, message)
    os.close(writing)
    assert [read_frame(reading) for _ in range(4)] == [b"abc", b"", b"defg", None]


def test_a_message_may_be_larger_than_the_pipe(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    message = os.urandom(3 << 20)
    thread = threading.Thread(target=write_frame, args=[writing, message])
    thread.start()
    assert read_frame(reading) == message
    thread.join()
    os.close(writing)


def test_half_a_message_is_none(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.write(writing, (8).to_bytes(8, "big") + b"abc")
    os.close(writing)
    assert read_frame(reading) is None
