"""Entry of an isolated process.

``python -m service.isolation.child MODULE:FUNCTION MEMORY SECONDS SHARE``

It answers frame after frame on its standard input until that ends.  Whatever a hostile file makes
of the libraries that read it stays in here: a crash, a loop, an allocation without end.
"""

import contextlib
import importlib
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from service.isolation.frames import read_frame, write_frame

_STATUS = Path("/proc/self/statm")
_LOOK_SECONDS = 1.0
# Bursts so short that a quota of one processor, told off every 100 ms, is not used up by one.
_BURST_SECONDS = 0.01
_LAST = 19
_FIRST_TO_GO = Path("/proc/self/oom_score_adj")


def _volunteer() -> None:
    """Be the one that the kernel ends when there is no memory left, rather than who asks."""
    with contextlib.suppress(OSError):
        _FIRST_TO_GO.write_text("1000")


def _leave_with(parent: int) -> None:
    """End when who asks has gone: nobody reads the answer, and the file that is read takes room."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _take_turns(share: float) -> None:
    """Use this part of a processor at most, and none that another process wants.

    Standing back is not enough: a container's quota, once it is used up, stops who asks as well.
    """
    os.nice(_LAST)

    def rest(*_: object) -> None:
        time.sleep(_BURST_SECONDS * (1 / share - 1))

    signal.signal(signal.SIGPROF, rest)
    signal.setitimer(signal.ITIMER_PROF, _BURST_SECONDS, _BURST_SECONDS)


def _limit_memory(more: int) -> None:
    """Allow so many bytes more than the libraries have mapped already.

    They are addresses, of which some are never used: who asks looks at what is.
    """
    more += more // 2
    if not _STATUS.exists():
        return
    mapped = int(_STATUS.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + more, mapped + more))


def _limit_processor(seconds: int) -> None:
    """Allow so many seconds of processor more than were used already."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(usage.ru_utime + usage.ru_stime) + seconds + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY or soft <= hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def main(job: str, memory: int, seconds: int, share: float) -> int:
    """Answer until the questions end."""
    # The keys of a terminal are meant for the process that asks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _volunteer()
    threading.Thread(target=_leave_with, args=[os.getppid()], daemon=True).start()
    # A crash is an answer here; nobody reads its memory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.dup(1)
    os.dup2(2, 1)
    module, _, name = job.partition(":")
    work: Callable[[bytes], bytes] = getattr(importlib.import_module(module), name)
    _limit_memory(memory)
    if share < 1:
        _take_turns(share)
    with contextlib.suppress(BrokenPipeError):
        while (request := read_frame(0)) is not None:
            _limit_processor(seconds)
            write_frame(answers, work(request))
    return 0


if __name__ == "__main__":
    _, function, most, longest, part = sys.argv
    sys.exit(main(function, int(most), int(longest), float(part)))
