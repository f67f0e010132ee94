"""Leases are renewed from a thread of their own, so that long work keeps its claim."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from service.ledger.repository import Claim, beat, renew

log = logging.getLogger(__name__)


class LeaseKeeper:
    """Renews what is held, and says that the worker is alive, three times a lease."""

    def __init__(self, sessions: sessionmaker[Session], worker: str, lease: timedelta) -> None:
        self._sessions = sessions
        self._worker = worker
        self._lease = lease
        self._held: dict[str, Sequence[Claim]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stop.set()
        self._thread.join()

    @contextmanager
    def hold(self, claims: Sequence[Claim]) -> Iterator[None]:
        """Keep the claims renewed for as long as the block runs."""
        token = claims[0].token
        with self._lock:
            self._held[token] = claims
        try:
            yield
        finally:
            with self._lock:
                del self._held[token]

    def _run(self) -> None:
        while True:
            try:
                self._renew()
            except SQLAlchemyError:
                # A lease that cannot be renewed ends; the claim is then found lost on finishing.
                log.warning("could not renew leases: the database is away")
            if self._stop.wait(self._lease.total_seconds() / 3):
                return

    def _renew(self) -> None:
        with self._lock:
            held = list(self._held.values())
        with self._sessions.begin() as session:
            beat(session, self._worker)
            for claims in held:
                renew(session, claims, self._lease)
