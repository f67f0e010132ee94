"""Entry of a process that ``modelwatch up`` starts: ``python -m service.processes.child ROLE``.

It imports first and reads its settings then, one line of JSON on standard input, so that the
imports overlap with the start of the database.  Standard input stays open: its end means that
``up`` is gone.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from service.errors import ModelwatchSetupError

Run = Callable[[Mapping[str, Any]], int]


def _read_line(descriptor: int) -> bytes:
    # Not sys.stdin: a thread blocked in its buffer breaks the interpreter's shutdown.
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(descriptor, 1)
        if not piece:
            return b""
        line += piece
    return line


def _load(role: str) -> Run:
    # Imported here: each role pays for what it uses.
    from service.processes.stopping import stop_event

    if role == "api":
        from service.processes import api

        return lambda message: api.run_child(message, stop_event(parent=0))
    if role == "worker":
        from service.processes import worker

        return lambda message: worker.run_child(message, stop_event(parent=0))
    if role == "demo":
        from service.processes import demo

        return lambda message: demo.run_child(message, stop_event(parent=0))
    from service.processes import guard

    return guard.run_child


def main(role: str) -> int:
    """Run one role until it is told to stop."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda *_: os._exit(0))
    run = _load(role)
    line = _read_line(0)
    try:
        return run(json.loads(line)) if line else 0
    except ModelwatchSetupError as fault:
        sys.stderr.write(f"{role}: {fault}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
