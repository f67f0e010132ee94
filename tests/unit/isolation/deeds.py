"""What a hostile file could make a library do, for a process to survive."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from service.isolation.process import Job


def answer(request: bytes) -> bytes:
    """Do what a hostile file could make a library do."""
    deeds: dict[bytes, Callable[[], object]] = {
        b"abort": os.abort,
        b"crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
        b"leave": lambda: os._exit(0),
        b"spin": _spin,
        b"sleep": lambda: time.sleep(60),
        b"grow": lambda: bytearray(1 << 30),
        b"talk": lambda: os.write(1, b"not an answer"),
        b"killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
        b"stopped": lambda: os.kill(os.getpid(), signal.SIGTERM),
        b"fill": _fill,
    }
    if request == b"priority":
        return str(os.getpriority(os.PRIO_PROCESS, 0)).encode()
    if request.startswith(b"work "):
        return " ".join(map(str, _work(float(request[5:])))).encode()
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


def _work(seconds: float) -> tuple[float, float]:
    """Return how long so much work takes, of the processor and of the clock."""
    began, since = time.monotonic(), time.process_time()
    while (used := time.process_time() - since) < seconds:
        pass
    return used, time.monotonic() - began


def _fill() -> None:
    filled = b"x" * (JOB.memory * 5 // 4)
    while filled:
        time.sleep(1)


JOB = Job(f"{__name__}:answer", memory=256 << 20, processor=1, seconds=50.0)
