"""Asking Alertmanager which alerts fire, for what it did not tell or told too early."""

import logging
import threading
from datetime import timedelta

import httpx
import orjson
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from service.retraining.alertmanager import Alert, polled
from service.retraining.receiving import receive_alerts
from service.retraining.repository import end_forgotten_alerts
from service.settings import Settings

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 60.0
TIMEOUT_SECONDS = 10.0
MOST_BYTES = 16 << 20
# An Alertmanager that has just started knows of nothing for a while.
FORGOTTEN_AFTER = timedelta(minutes=5)


class Reconciler:
    """Makes the evidence agree with Alertmanager, now and then.

    Alertmanager does not tell of an alert that ends while it is inhibited, nor again of one that
    it told of before the request was opened.
    """

    def __init__(
        self, sessions: sessionmaker[Session], url: str, *, interval: float = INTERVAL_SECONDS
    ) -> None:
        self._sessions = sessions
        self._url = url.rstrip("/") + "/api/v2/alerts"
        self._interval = interval
        self._failing = False

    def run(self, stop: threading.Event) -> None:
        """Reconcile until ``stop`` is set."""
        while not stop.is_set():
            try:
                self.reconcile()
            except (httpx.HTTPError, ValueError, TypeError, SQLAlchemyError) as error:
                # Said once: the log of an outage should not be a line every minute.
                if not self._failing:
                    log.warning("alerts cannot be reconciled: %s", type(error).__name__)
                self._failing = True
            else:
                self._failing = False
            stop.wait(self._interval)

    def reconcile(self) -> None:
        """Take over which alerts fire now.

        Raises
        ------
        httpx.HTTPError
            If Alertmanager does not answer well.
        ValueError
            If its answer is no list of alerts.
        """
        alerts = self._firing()
        with self._sessions.begin() as session:
            receive_alerts(session, alerts)
            end_forgotten_alerts(session, FORGOTTEN_AFTER)

    def _firing(self) -> list[Alert]:
        body = bytearray()
        with httpx.stream("GET", self._url, timeout=TIMEOUT_SECONDS) as answer:
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > MOST_BYTES:
                    message = "the answer is too long"
                    raise ValueError(message)
        found = orjson.loads(body)
        if not isinstance(found, list):
            message = "the answer is no list"
            raise TypeError(message)
        alerts = [polled(each) for each in found]
        return [alert for alert in alerts if alert is not None and alert.model and alert.version]


def reconcile_until(
    stop: threading.Event, sessions: sessionmaker[Session], settings: Settings
) -> None:
    """Reconcile with the Alertmanager of the settings, if they name one."""
    if settings.alertmanager_url is not None:
        Reconciler(sessions, settings.alertmanager_url.get_secret_value()).run(stop)
