"""What a fork and the end of the process do to the monitors in it."""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelwatch.monitor import Monitor
    from modelwatch.sender import Sender

EXIT_SECONDS = 2.0

_monitors: weakref.WeakValueDictionary[int, Monitor] = weakref.WeakValueDictionary()
# Strongly: what a monitor has queued is sent even if its host has let go of it.
_senders: dict[int, Sender] = {}
_deadline: float | None = None


def watch_over(monitor: Monitor) -> None:
    """Let a monitor begin anew in a forked child."""
    _monitors[id(monitor)] = monitor


def flush_at_exit(sender: Sender) -> None:
    """Let the process not end before a sender had a last chance, until it is ``let_go``."""
    _senders[id(sender)] = sender
    package = sys.modules.get("multiprocessing")
    if package is not None and package.parent_process() is not None:
        # Children of multiprocessing end without atexit.
        sys.modules["multiprocessing.util"].Finalize(None, at_exit, exitpriority=100)


def let_go(sender: Sender) -> None:
    """Forget a sender that has nothing left to do."""
    _senders.pop(id(sender), None)


def seconds_left() -> float | None:
    """Return what is left of the process's last seconds, or ``None`` while it is not ending."""
    return None if _deadline is None else max(0.0, _deadline - time.monotonic())


def at_exit() -> None:
    """Give all senders together a few seconds."""
    global _deadline  # noqa: PLW0603 - a process ends once
    _deadline = _deadline or time.monotonic() + EXIT_SECONDS
    for reference in _monitors.valuerefs():
        monitor = reference()
        if monitor is not None:
            # Whatever is logged from now on, in other handlers of the end, is sent at once.
            monitor._engine.is_ending = True  # noqa: SLF001 - this package's own class
    senders = list(_senders.values())
    # All at the same time: a server that is away takes no other's seconds.
    for sender in senders:
        sender.hurry()
    for sender in senders:
        sender.end(seconds_left() or 0.0)
    for sender in senders:
        sender.take_leave()


def _after_fork() -> None:
    global _deadline  # noqa: PLW0603 - a child that is made while its parent ends goes on
    _deadline = None
    _senders.clear()
    for reference in _monitors.valuerefs():
        monitor = reference()
        if monitor is not None:
            monitor._reset()  # noqa: SLF001 - as above


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(at_exit)
