"""A few parsers for many requests."""

import asyncio
import queue
import time
from concurrent.futures import ThreadPoolExecutor

from service.parsing.parser import Job, Parser, ParserLateError

# Who waits longer for a free parser is told to come back.
WAIT_SECONDS = 4.0


class RoomFullError(Exception):
    """Too many wait for a parser already."""


class ParserRoom:
    """Parsers that answer one request each at a time; they start with the first request."""

    def __init__(self, job: Job, *, parsers: int, most: int) -> None:
        self._most = most
        self._asked = 0
        self._threads = ThreadPoolExecutor(parsers, thread_name_prefix="parser")
        # The last one to be free is the next to be asked: the others need not start at all.
        self._free: queue.LifoQueue[Parser] = queue.LifoQueue()
        self._parsers = [Parser(job) for _ in range(parsers)]
        for parser in self._parsers:
            self._free.put(parser)

    async def ask(self, request: bytes) -> bytes:
        """Return a parser's answer, or raise that there is none."""
        if self._asked >= self._most:
            raise RoomFullError
        self._asked += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._threads, self._ask, request, time.monotonic() + WAIT_SECONDS
            )
        finally:
            self._asked -= 1

    def close(self) -> None:
        """End the parsers; whoever waits for one is told to come back."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for parser in self._parsers:
            parser.kill()
        self._threads.shutdown(wait=True)
        for parser in self._parsers:
            parser.close()

    def _ask(self, request: bytes, latest: float) -> bytes:
        if time.monotonic() > latest:
            raise ParserLateError
        parser = self._free.get()
        try:
            return parser.ask(request)
        finally:
            self._free.put(parser)
