"""Taking over from Alertmanager what it did not tell, or told too early."""

import logging
import threading
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from service.db.outage import DATABASE
from service.retraining.polling import NO_ANSWER, SECONDS, firing_alerts
from service.retraining.receiving import audit_opened, receive_alerts
from service.retraining.repository import end_forgotten_alerts, read_clock
from service.settings import Settings
from service.telemetry import JOB_INTERVAL, JOB_LAST_SUCCESS, JOB_RUNS

log = logging.getLogger(__name__)

JOB = "reconcile"
INTERVAL_SECONDS = 60.0
# An Alertmanager that has just started knows of nothing for a while.
FORGOTTEN_AFTER = timedelta(minutes=5)


class Reconciler:
    """Makes the evidence agree with Alertmanager, now and then.

    Alertmanager does not tell of an alert that ends while it is inhibited, nor again of one that
    it told of before the request was opened.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        url: str,
        *,
        interval: float = INTERVAL_SECONDS,
        seconds: float = SECONDS,
    ) -> None:
        self._sessions = sessions
        self._url = url
        self._interval = interval
        self._seconds = seconds
        self._failure: type[Exception] | None = None

    def run(self, stop: threading.Event) -> None:
        """Reconcile until ``stop`` is set."""
        JOB_INTERVAL.labels(JOB).set(self._interval)
        # An Alertmanager that never answers has never answered well.
        JOB_LAST_SUCCESS.labels(JOB)
        while not stop.is_set():
            self._reconcile_or_tell()
            stop.wait(self._interval)

    def reconcile(self) -> None:
        """Take over which alerts fire now; ``firing_alerts`` says what it raises."""
        with self._sessions() as session:
            as_of = read_clock(session)
        alerts = firing_alerts(self._url, as_of, seconds=self._seconds)
        with self._sessions.begin() as session:
            received = receive_alerts(session, alerts)
            end_forgotten_alerts(session, FORGOTTEN_AFTER)
            audit_opened(session, "reconciler", received)

    def _reconcile_or_tell(self) -> None:
        try:
            self.reconcile()
        except SQLAlchemyError as error:
            self._count_failure()
            DATABASE.fails(JOB, error)
        except (*NO_ANSWER, ValueError) as error:
            if self._is_news(error):
                log.warning("alerts cannot be reconciled: %s", type(error).__name__)
        except Exception as error:
            # The job's boundary: the thread must outlive what nobody has thought of.
            if self._is_news(error):
                log.exception("alerts cannot be reconciled")
        else:
            DATABASE.works(JOB)
            if self._failure is not None:
                log.warning("alerts are reconciled again")
            self._failure = None
            JOB_RUNS.labels(JOB, "done").inc()
            JOB_LAST_SUCCESS.labels(JOB).set_to_current_time()

    def _is_news(self, error: Exception) -> bool:
        """Count a failure, and say whether it is another than the last: once is enough."""
        self._count_failure()
        before, self._failure = self._failure, type(error)
        return before is not type(error)

    def _count_failure(self) -> None:
        JOB_RUNS.labels(JOB, "error").inc()


def reconcile_until(
    stop: threading.Event, sessions: sessionmaker[Session], settings: Settings
) -> None:
    """Reconcile with the Alertmanager of the settings, if they name one."""
    if settings.alertmanager_url is not None:
        Reconciler(sessions, settings.alertmanager_url.get_secret_value()).run(stop)
