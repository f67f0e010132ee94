"""Leases are renewed from a thread of their own, so that long work keeps its claim."""

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from service.db.outage import DATABASE
from service.ledger.repository import Claim, beat, renew

log = logging.getLogger(__name__)

SLOW_SECONDS = 60.0
# A week of buckets, or a window, is read at some 200,000 rows a second.
LONGEST_SECONDS = 3600.0


class LeaseKeeper:
    """Renews what is held, and says that the worker is alive, three times a lease."""

    def __init__(self, sessions: sessionmaker[Session], worker: str, lease: timedelta) -> None:
        self._sessions = sessions
        self._worker = worker
        self._lease = lease
        self._held: dict[str, _Held] = {}
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
            self._held[token] = _Held(claims, time.monotonic())
        try:
            yield
        finally:
            with self._lock:
                del self._held[token]

    def _run(self) -> None:
        while True:
            try:
                self._renew()
            except SQLAlchemyError as error:
                # A lease that cannot be renewed ends; the claim is then found lost on finishing.
                DATABASE.fails("leases", error)
            except Exception:
                # Without this thread all long work would be done twice.
                log.exception("could not renew leases")
            else:
                DATABASE.works("leases")
            if self._stop.wait(self._lease.total_seconds() / 3):
                return

    def _renew(self) -> None:
        with self._lock:
            held = list(self._held.values())
        for work in held:
            _watch(work)
        with self._sessions.begin() as session:
            beat(session, self._worker)
            for work in held:
                renew(session, work.claims, self._lease)


@dataclass(slots=True)
class _Held:
    claims: Sequence[Claim]
    since: float
    is_told: bool = False


def _watch(work: _Held) -> None:
    """Tell of work that takes long; work without end is given up with the whole process.

    Nothing else ends a thread that waits inside of a library; whoever started the process starts
    it again, and the lease ends.
    """
    seconds, claim = time.monotonic() - work.since, work.claims[0]
    if seconds > SLOW_SECONDS and not work.is_told:
        work.is_told = True
        log.warning("%s of version %s is slow", claim.kind, claim.item.version_id)
    if seconds > LONGEST_SECONDS:
        log.critical("%s of version %s does not end", claim.kind, claim.item.version_id)
        faulthandler.dump_traceback(all_threads=True)
        os._exit(1)
