"""Trouble is told to people, at most once a minute."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable

WARN_SECONDS = 60.0

_logger = logging.getLogger("modelwatch")


class Complaints:
    """One warning a minute; ``gathered`` returns what else is to be told by then, once."""

    def __init__(self, gathered: Callable[[], list[str]] = list) -> None:
        self._gathered = gathered
        self._speaking = threading.Lock()
        self._said = float("-inf")

    def say(self, text: str = "", level: int = logging.WARNING) -> None:
        """Log a text and what was gathered, unless the last warning is less than a minute ago."""
        if not self._speaking.acquire(blocking=False):
            return
        try:
            if time.monotonic() - self._said >= WARN_SECONDS:
                self._say([text, *self._gathered()], level)
        except Exception:  # noqa: BLE001 - a host's handler may raise, and nobody is left to tell
            return
        finally:
            self._speaking.release()

    def say_last(self, text: str) -> None:
        """Say this, and nothing more.

        A thread that is in the middle of a line when the interpreter ends would take it down.
        """
        self._said = float("-inf")
        if text:
            self.say(text)
        self._said = float("inf")

    def _say(self, parts: list[str], level: int) -> None:
        told = "; ".join(part for part in parts if part)
        if told:
            self._said = time.monotonic()
            _logger.log(level, "%s", told)
