"""Trouble is told to people, at most once a minute."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator

WARN_SECONDS = 60.0

_logger = logging.getLogger("modelwatch")


class Complaints:
    """One warning a minute; ``gathered`` returns what else is to be told by then, once.

    They stand in somebody else's log, so each begins with whose it is.
    """

    def __init__(self, whose: str, gathered: Callable[[], list[str]] = list) -> None:
        self._whose = whose
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
            # A server's words, or a host's, make no second line, and move no cursor.
            line = (one if one.isprintable() else " " for one in f"{self._whose}: {told}")
            _log(level, "".join(line))


def _log(level: int, line: str) -> None:
    listeners = list(_listeners())
    if all(map(_hears, listeners)):
        _logger.log(level, "%s", line)
    elif _logger.isEnabledFor(level):
        record = _logger.makeRecord(_logger.name, level, __file__, 0, line, (), None)
        for one in listeners:
            if _hears(one) and level >= one.level:
                one.handle(record)


def _listeners() -> Iterator[logging.Handler]:
    logger: logging.Logger | None = _logger
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _hears(handler: logging.Handler) -> bool:
    """Say whether a handler's stream is open; if not, logging would print a traceback instead."""
    return not getattr(getattr(handler, "stream", None), "closed", False)
