"""A thread that keeps the exposition fresh, so that a scrape never waits for the database."""

import logging
import threading
import time

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from service.exporter.collector import BUDGET, read_results, render_results

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0
# A large fleet is read less often: at most a fifth of the time.
REST = 4.0


class ResultsRefresher:
    """Renders ``/metrics/models`` at once after ``start``, and again every few seconds."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        *,
        interval: float = INTERVAL_SECONDS,
        budget: int = BUDGET,
    ) -> None:
        self._sessions = sessions
        self._interval = interval
        self._budget = budget
        self._content: bytes | None = None
        self._failing = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def content(self) -> bytes | None:
        """Return the newest exposition, or None before the first."""
        return self._content

    def start(self) -> None:
        """Start the thread; the first rendering does not hold up the caller."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="export-refresh", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, within what one refresh takes."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=self._interval)
            self._thread = None

    def refresh(self) -> None:
        """Render once, now; what was rendered before stays if that fails."""
        try:
            with self._sessions() as session:
                session.execute(text("SET TRANSACTION READ ONLY"))
                session.execute(text("SET LOCAL statement_timeout = '30s'"))
                results = read_results(session)
            # The database waits for no rendering.
            self._content = render_results(results, budget=self._budget)
        except SQLAlchemyError as error:
            # Said once: the log of an outage should not be a line every few seconds.
            if not self._failing:
                logger.warning("results cannot be exported: %s", type(error).__name__)
            self._failing = True
        else:
            self._failing = False

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self.refresh()
            except Exception:
                # The thread must outlive what it did not expect; the timestamp shows its age.
                logger.exception("results cannot be exported")
            taken = time.monotonic() - began
            self._stopping.wait(max(self._interval, REST * taken))
