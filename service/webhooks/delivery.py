"""Delivering recorded events, at least once, for as long as it makes sense."""

import logging
import random
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from service import clock, telemetry
from service.db.outage import DATABASE, pause_after
from service.webhooks import repository
from service.webhooks.addresses import Destination, read_url
from service.webhooks.presets import PRESETS
from service.webhooks.repository import Delivery
from service.webhooks.sealing import UnreadableSealError, unseal
from service.webhooks.sending import Reply
from service.webhooks.signature import signed_headers, signing_key

logger = logging.getLogger(__name__)

# The schedule of the Standard Webhooks: dense at first, then long enough for a weekend.
RETRY_AFTER = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
JITTER = 0.1
HORIZON = timedelta(days=4)
# Longer than an attempt can take, so that a slow target is not sent the event twice at a time.
LEASE = timedelta(minutes=1)
SLOTS = 8
IDLE_SECONDS = 1.0
STOP_SECONDS = 2.0
_LONGEST_WAIT = timedelta(days=1)
_REDIRECTIONS = HTTPStatus.MULTIPLE_CHOICES


class Posts(Protocol):
    """What sends a request."""

    def post(self, destination: Destination, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send the request and return what came of it."""


def retry_in(attempt: int, reply: Reply, randomness: random.Random) -> timedelta | None:
    """Return how long to wait after the failed ``attempt`` (from 1), or None to give up.

    A target that is gone (410) asked not to be told again.
    """
    if reply.status == HTTPStatus.GONE or attempt > len(RETRY_AFTER):
        return None
    wait = RETRY_AFTER[attempt - 1] * randomness.uniform(1 - JITTER, 1 + JITTER)
    asked = min(reply.retry_after or timedelta(0), _LONGEST_WAIT)
    return max(wait, asked)


class Courier:
    """Delivers what is due: one event at a time to a webhook, to several webhooks at once."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        sender: Posts,
        key: bytes,
        *,
        lease: timedelta = LEASE,
        slots: int = SLOTS,
        randomness: random.Random | None = None,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._sessions = sessions
        self._sender = sender
        self._key = key
        self._lease = lease
        self._slots = slots
        self._free = threading.Semaphore(slots)
        self._randomness = randomness or random.Random()  # noqa: S311  it spreads retries
        self._now = now

    def run(self, stop: threading.Event) -> None:
        """Deliver until ``stop`` is set; what is being sent then is left to its lease."""
        failures = 0
        while not stop.is_set():
            if not self._free.acquire(timeout=IDLE_SECONDS):
                continue
            try:
                delivery = self._claim()
            except Exception as error:  # noqa: BLE001  the job's boundary: the thread must outlive it
                # What is due stays due; the database may be away for a while.
                self._free.release()
                _tell(error, "no delivery could be claimed")
                failures += 1
                stop.wait(pause_after(failures))
                continue
            failures = 0
            DATABASE.works("delivery")
            if delivery is None:
                self._free.release()
                stop.wait(IDLE_SECONDS)
                continue
            # A daemon: whoever keeps us waiting does not keep the process from its end.
            threading.Thread(
                target=self._occupied, args=(delivery,), name="webhook", daemon=True
            ).start()
        for _ in range(self._slots):
            self._free.acquire(timeout=STOP_SECONDS / self._slots)

    def deliver_one(self) -> bool:
        """Attempt the event that is due first, and say whether there was one."""
        delivery = self._claim()
        if delivery is not None:
            self._attempt(delivery)
        return delivery is not None

    def _occupied(self, delivery: Delivery) -> None:
        try:
            self._attempt(delivery)
        except Exception as error:  # noqa: BLE001  the job's boundary
            # An event that cannot be sent, or settled, is due again after its lease.
            _tell(error, "a delivery failed")
        finally:
            self._free.release()

    def _claim(self) -> Delivery | None:
        with self._sessions.begin() as session:
            expired = repository.abandon_expired(session, HORIZON)
        for name, events in expired.items():
            logger.warning("gave up events that are too old to be news", extra={"events": events})
            _count(name, "abandoned", events)
        with self._sessions.begin() as session:
            return repository.claim_delivery(session, self._lease)

    def _attempt(self, delivery: Delivery) -> None:
        """Send outside any transaction, and settle in one."""
        reply = self._send(delivery)
        preset = PRESETS[delivery.document["preset"]]
        delivered = reply.status is not None and (
            HTTPStatus.OK <= reply.status < _REDIRECTIONS or reply.status in preset.done
        )
        wait = None if delivered else retry_in(delivery.attempt, reply, self._randomness)
        with self._sessions.begin() as session:
            ours = repository.settle_delivery(
                session,
                delivery,
                status=reply.status,
                error=None if delivered else reply.error,
                retry_in=wait,
                delivered=delivered,
            )
            if ours and reply.status == HTTPStatus.GONE:
                repository.disable(session, delivery.webhook_id)
        outcome = _outcome(reply, delivered=delivered, last=wait is None) if ours else "lost"
        _count(delivery.webhook, outcome, 1)
        logger.log(
            logging.INFO if delivered else logging.WARNING,
            "event %s to webhook %s: %s",
            delivery.key,
            delivery.webhook,
            outcome,
            extra={"attempt": delivery.attempt, "status": reply.status, "retry_in": str(wait)},
        )

    def _send(self, delivery: Delivery) -> Reply:
        try:
            opened = unseal(self._key, delivery.webhook, delivery.sealed)
        except UnreadableSealError:
            return Reply(None, "unreadable-secret")
        preset = PRESETS[delivery.document["preset"]]
        body = preset.render(delivery.event, delivery.document["options"])
        now = self._now()
        headers = {
            "Content-Type": preset.content_type,
            "User-Agent": f"modelwatch/{telemetry.installed_version()}",
            **preset.headers,
            **signed_headers(_keys(opened, now), delivery.key, now, body),
        }
        given = {name.lower() for name in opened["headers"]}
        kept = {name: value for name, value in headers.items() if name.lower() not in given}
        return self._sender.post(read_url(opened["url"]), kept | opened["headers"], body)


def _keys(opened: Mapping[str, Any], now: datetime) -> list[bytes]:
    return [
        signing_key(each["secret"])
        for each in opened["secrets"]
        if each["until"] is None or datetime.fromisoformat(each["until"]) > now
    ]


def _outcome(reply: Reply, *, delivered: bool, last: bool) -> str:
    if delivered:
        return "delivered"
    if last:
        return "abandoned"
    if reply.error in ("forbidden-address", "unreadable-secret"):
        return "forbidden"
    return "unreachable" if reply.status is None else "refused"


def _count(webhook: str, outcome: str, events: int) -> None:
    telemetry.WEBHOOK_DELIVERIES.labels(webhook, outcome).inc(events)


def _tell(error: Exception, what: str) -> None:
    if isinstance(error, SQLAlchemyError):
        DATABASE.fails("delivery", error)
    else:
        logger.error(what, exc_info=error)
