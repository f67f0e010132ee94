"""A few isolated processes for many requests."""

import asyncio
import queue
import time
from concurrent.futures import ThreadPoolExecutor

from service.isolation.process import IsolatedProcess, Job, ProcessLateError

# Who waits longer for a free process is told to come back.
WAIT_SECONDS = 4.0


class RoomFullError(Exception):
    """Too many wait for a process already."""


class ProcessRoom:
    """Processes that answer one request each at a time; they start with the first request."""

    def __init__(self, job: Job, *, processes: int, most: int) -> None:
        self._most = most
        self._asked = 0
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="isolated")
        # The last one to be free is the next to be asked: the others need not start at all.
        self._free: queue.LifoQueue[IsolatedProcess] = queue.LifoQueue()
        self._processes = [IsolatedProcess(job) for _ in range(processes)]
        for process in self._processes:
            self._free.put(process)

    async def ask(self, request: bytes) -> bytes:
        """Return an answer, or raise that there is none."""
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
        """End the processes; whoever waits for one is told to come back."""
        for process in self._processes:
            process.kill()
        self._threads.shutdown()
        for process in self._processes:
            process.close()

    def _ask(self, request: bytes, latest: float) -> bytes:
        if time.monotonic() > latest:
            raise ProcessLateError
        process = self._free.get()
        try:
            return process.ask(request)
        finally:
            self._free.put(process)
