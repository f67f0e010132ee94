"""What wakes a thread that waits."""

from __future__ import annotations

import threading


class Bell:
    """Wakes one thread; it may be rung anywhere, for ringing takes no lock and never waits."""

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()
        self._heard = False

    def wait(self, seconds: float) -> None:
        """Wait until it rings, or has rung since the last time, at most so long."""
        self._heard = True
        self._silence.acquire(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX)))
        self._heard = False

    def ring(self) -> None:
        """Wake the thread, or let it not fall asleep."""
        self._heard = False
        try:
            self._silence.release()
        except RuntimeError:
            # It rings already.
            return

    def ring_if_heard(self) -> None:
        """Ring if a thread waits that was not rung for: the cheap way for those who call often."""
        if self._heard:
            self.ring()
