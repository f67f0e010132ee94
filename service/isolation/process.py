"""Work in a process of its own: it may die of it, and nobody else waits for the interpreter."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from service.isolation.frames import read_frame, write_frame
from service.isolation.memory import own_memory

_STOP_SECONDS = 1.0
_LOOK_SECONDS = 0.05
# Where an allocation fails some libraries abort, as they do where a file is malformed.
_MUCH = 0.5
_STOPPED = frozenset({-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP})
# What Python and its libraries ask the environment; no key or address of ours is among it.
_PASSED_ON = frozenset({"PATH", "LANG", "TZ", "TZDIR", "TMPDIR", "LD_LIBRARY_PATH"})
_PASSED_ON_TOO = ("PYTHON", "LC_", "DYLD_")
# What is reserved and what is kept for later counts like what is used.
_FRUGAL = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(256 << 10),
    "OPENBLAS_NUM_THREADS": "1",
}


class ProcessDiedError(Exception):
    """The file ended the process that read it, as a crash does."""


class ProcessGrownError(ProcessDiedError):
    """The file needs more memory than its process may have."""


class ProcessSlowError(ProcessDiedError):
    """The file needs more of the processor than its process may have."""


class ProcessLateError(Exception):
    """There was no answer in time, or the process was told to stop; the file may be right."""


class ProcessNotStartedError(ProcessLateError):
    """The machine cannot start another process now."""


class ProcessKilledError(ProcessLateError):
    """Somebody else ended the process at once: as a rule the kernel, which had no memory left."""


@dataclass(frozen=True, slots=True)
class Job:
    """A function from bytes to bytes, by name, and what it may use for one answer."""

    function: str
    """As ``module:name``; the module is imported in the process alone."""
    memory: int
    """Bytes beside those that the libraries share."""
    processor: int
    """Seconds of processor; who needs more is hostile."""
    seconds: float
    """Seconds until nobody waits any longer; a busy machine may need them for anything."""
    share: float = 1.0
    """Part of a processor that it may use; with less than 1 it stands back for everybody else."""
    environment: tuple[str, ...] = ()
    """Beginnings of further names of the environment that it may read."""


class _Watch(threading.Thread):
    """Ends a process that takes too long or too much."""

    def __init__(self, process: "subprocess.Popen[bytes]", job: Job) -> None:
        super().__init__(name="isolation-watch", daemon=True)
        self._process = process
        self._job = job
        self._answered = threading.Event()
        self.late = False
        self.largest = 0
        """Bytes of memory that were seen."""

    def run(self) -> None:
        """Look again and again, until there is an answer."""
        until = time.monotonic() + self._job.seconds
        while not self._answered.wait(_LOOK_SECONDS):
            self.late = time.monotonic() > until
            self.largest = max(self.largest, own_memory(self._process.pid))
            if self.late or self.largest > self._job.memory:
                self._process.kill()
                return

    def end(self) -> None:
        """Look no more."""
        self._answered.set()
        self.join()


def reason_of(job: Job, code: int, largest: int) -> Exception:
    """Return what to tell of a process that ended like this, and was seen to be so large."""
    if largest > job.memory:
        return ProcessGrownError()
    if code in _STOPPED:
        return ProcessLateError()
    if code == -signal.SIGKILL:
        return ProcessKilledError()
    if code == -signal.SIGXCPU:
        return ProcessSlowError()
    return ProcessGrownError() if largest > job.memory * _MUCH else ProcessDiedError()


class IsolatedProcess:
    """One process, started when it is asked and again after its death; for one thread."""

    def __init__(self, job: Job, files: Sequence[int] = ()) -> None:
        """Prepare one; ``files`` are descriptors that it finds under the same numbers."""
        self._job = job
        self._files = tuple(files)
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        self._killed = False

    def ask(self, request: bytes) -> bytes:
        """Return the answer of the job, or raise that there is none."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        watch = _Watch(process, self._job)
        watch.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                write_frame(process.stdin.fileno(), request)
            answer = read_frame(process.stdout.fileno())
        except BaseException:
            # What was not read of an answer would be taken for the next one.
            process.kill()
            self.close()
            raise
        finally:
            watch.end()
        if answer is not None:
            return answer
        code = process.wait()
        self.close()
        raise ProcessLateError if watch.late else reason_of(self._job, code, watch.largest)

    def kill(self) -> None:
        """End an answer that is under way, and give no other; called from another thread."""
        with self._starting:
            self._killed = True
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
        with self._starting:
            if self._killed:
                raise ProcessLateError
            try:
                self._process = self._start()
            except OSError as error:
                raise ProcessNotStartedError from error
        return self._process

    def _start(self) -> "subprocess.Popen[bytes]":
        job = self._job
        limits = [str(job.memory), str(job.processor), str(job.share)]
        return subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-m", "service.isolation.child", job.function, *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            pass_fds=self._files,
            env=_environment(job.environment),
        )


def _environment(further: tuple[str, ...]) -> dict[str, str]:
    own = os.environ  # noqa: TID251  it is handed on, not read
    beginnings = (*_PASSED_ON_TOO, *further)
    passed_on = (n for n in own if n in _PASSED_ON or n.startswith(beginnings))
    return {**{name: own[name] for name in passed_on}, **_FRUGAL}
