"""Reading hostile files in a process that may die of them."""

import contextlib
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from service.parsing.frames import read_frame, write_frame

_STOP_SECONDS = 1.0


class ParserDiedError(Exception):
    """The file ended the process that read it: a crash, or too much of memory or processor."""


class ParserLateError(Exception):
    """There was no answer in time, or somebody else ended the process; the file may be right."""


@dataclass(frozen=True, slots=True)
class Job:
    """A function from bytes to bytes, by name, and what it may use for one answer."""

    function: str
    """As ``module:name``; the module is imported in the process alone."""
    memory: int
    """Bytes beside those of the libraries."""
    processor: int
    """Seconds of processor; who needs more is hostile."""
    seconds: float
    """Seconds until nobody waits any longer; a busy machine may need them for anything."""


class Parser:
    """One process, started when it is asked and again after its death; for one thread."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, request: bytes) -> bytes:
        """Return the answer of the job, or raise that there is none."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(self._job.seconds, process.kill)
        late.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                write_frame(process.stdin.fileno(), request)
            answer = read_frame(process.stdout.fileno())
        finally:
            late.cancel()
        if answer is not None:
            return answer
        code = process.wait()
        self.close()
        # The job itself never ends by SIGKILL: that is the timer, or a machine without memory.
        raise ParserLateError if code == -signal.SIGKILL else ParserDiedError

    def kill(self) -> None:
        """End an answer that is under way; called from another thread."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    @property
    def pid(self) -> int | None:
        """Return the number of the process, if there is one."""
        return None if self._process is None else self._process.pid

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        job = self._job
        limits = [str(job.memory), str(job.processor)]
        self._process = subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-m", "service.parsing.child", job.function, *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        return self._process
