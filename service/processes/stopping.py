"""One event that says stop: a signal came, or the process that started this one is gone."""

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

    A handler that set a ``threading.Event`` itself could run while the main thread holds that
    event's lock, and wait for itself for ever; writing a byte cannot.
    """

    def __init__(self) -> None:
        self.reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        for signum in STOP_SIGNALS:
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, _frame: object) -> None:
        try:
            os.write(self._writing, bytes([signum]))
        except BlockingIOError:
            return

    def wake(self) -> None:
        """Make the pipe readable without asking to stop (used for the end of a child)."""
        self._handle(0, None)

    def drain(self) -> bool:
        """Read what has come, and tell whether a signal to stop was in it."""
        return any(os.read(self.reading, 4096))


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
