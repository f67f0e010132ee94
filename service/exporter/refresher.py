"""The newest exposition, kept fresh by a process of its own.

A scrape never waits for the database, and ingest never for the interpreter: rendering a large
fleet takes most of a second of it.
"""

import asyncio
import logging
import threading
import time

from service.exporter.exposition import Exposition
from service.exporter.rendering import RENDER, Asked, Told, encode, told_by
from service.isolation.process import IsolatedProcess, ProcessDiedError, ProcessLateError

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0
# A large fleet is read less often: at most a fifth of the time.
REST = 4.0
# Prometheus waits for ten seconds unless it is told otherwise.
FIRST_SECONDS = 8.0
_LOOK_SECONDS = 0.05


class ResultsRefresher:
    """Renders ``/metrics/models`` as soon as somebody wants it, and then every few seconds.

    Its thread waits for the process; an event loop that wants the first one looks now and then.
    """

    def __init__(self, url: str, *, interval: float = INTERVAL_SECONDS) -> None:
        self._request = encode(Asked(url))
        self._interval = interval
        self._renderer = IsolatedProcess(RENDER)
        self.newest: Exposition | None = None
        self.failing = False
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    async def exposition(self) -> Exposition | None:
        """Return the newest exposition; the first one is waited for, and None if there is none."""
        self.start()
        until = time.monotonic() + FIRST_SECONDS
        while not (self.newest or self.failing or time.monotonic() > until):  # noqa: ASYNC110  as said
            await asyncio.sleep(_LOOK_SECONDS)
        return self.newest

    def start(self) -> None:
        """Start to render, unless that has been done: who is not scraped has no such process."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="export-refresh", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread and its process."""
        self._closing.set()
        self._renderer.kill()
        if self._thread is not None:
            self._thread.join()
        self._renderer.close()

    def refresh(self) -> None:
        """Render once, now; what was rendered before stays if that fails."""
        try:
            told = told_by(self._renderer.ask(self._request))
        except (ProcessDiedError, ProcessLateError) as error:
            told = Told(error=type(error).__name__)
        before, self.failing = self.failing, told.exposition is None
        if told.exposition is not None:
            self.newest = told.exposition
        # Said once: the log of an outage should not be a line every few seconds.
        if self.failing and not before and not self._closing.is_set():
            logger.warning("results cannot be exported: %s", told.error)
        elif before and not self.failing:
            logger.warning("results are exported again")

    def _run(self) -> None:
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self.refresh()
            except Exception:
                # The thread must outlive what it did not expect; the timestamp shows its age.
                logger.exception("results cannot be exported")
            taken = time.monotonic() - began
            self._closing.wait(max(self._interval, REST * taken))
