"""One event that says stop: a signal came, or the process that started this one is gone."""

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ORPHAN_SECONDS = 4.0


class SignalPipe:
    """A pipe that becomes readable once a signal has come.

    The interpreter writes the signal's number from its own C handler: a Python handler runs at
    the main thread's next instruction, so a signal that comes just before that thread waits
    would not be seen until something else ends the wait.  Event loops take that way for
    themselves, but they run Python handlers at once; so the handler writes as well.

    Parameters
    ----------
    waking
        Further signals that end a wait without asking to stop.
    """

    def __init__(self, *waking: int) -> None:
        self.reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for signum in (*STOP_SIGNALS, *waking):
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, _frame: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._writing, bytes([signum]))

    def drain(self) -> bool:
        """Wait for what comes, and tell whether a signal to stop was in it."""
        return any(signum in STOP_SIGNALS for signum in os.read(self.reading, 4096))


def stop_event(*, parent: int | None = None) -> threading.Event:
    """Return an event that is set by a signal, or by the end of file on ``parent``.

    Parameters
    ----------
    parent
        A file descriptor whose other end only the starting process holds, so that even a
        SIGKILL of that process stops this one.
    """
    stop = threading.Event()
    pipe = SignalPipe()

    def on_signal() -> None:
        while not pipe.drain():
            pass
        stop.set()

    def on_orphaned() -> None:
        assert parent is not None
        while os.read(parent, 4096):
            pass
        stop.set()
        # Nobody is left to kill a process that does not come to its end.
        time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    watchers: list[Callable[[], None]] = [on_signal]
    if parent is not None:
        watchers.append(on_orphaned)
    for watch in watchers:
        threading.Thread(target=watch, name=watch.__name__, daemon=True).start()
    return stop
