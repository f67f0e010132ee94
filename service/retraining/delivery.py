"""Sending recorded events to the webhook, at least once, for as long as it makes sense."""

import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

import httpx
from sqlalchemy.orm import Session, sessionmaker

from service import clock, telemetry
from service.errors import ModelwatchSetupError
from service.retraining import repository
from service.retraining.repository import Delivery
from service.retraining.signature import signed_headers, signing_key
from service.settings import Settings

logger = logging.getLogger(__name__)

# Dense at first, for a restart of the target; then long enough for a weekend without anybody.
RETRY_AFTER = (
    timedelta(seconds=5),
    timedelta(minutes=1),
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

TIMEOUT_SECONDS = 15.0
# Longer than an attempt can take, so that a slow target is not sent the event twice at a time.
LEASE = timedelta(minutes=2)
MAX_REPLY_BYTES = 4096
_LONGEST_WAIT = timedelta(days=1)
_PASS = 20
_REDIRECTIONS = HTTPStatus.MULTIPLE_CHOICES


@dataclass(frozen=True, slots=True)
class Target:
    """Where events go, and the key that they are signed with."""

    name: str
    url: str
    key: bytes = field(repr=False)


def target_from(settings: Settings) -> Target | None:
    """Return the configured webhook, or None without one.

    Raises
    ------
    ModelwatchSetupError
        If its URL or its secret is unusable.
    """
    if settings.webhook_url is None:
        return None
    if not settings.webhook_url.startswith(("http://", "https://")):
        message = "MODELWATCH_WEBHOOK_URL must be an http or https address"
        raise ModelwatchSetupError(message)
    if settings.webhook_secret is None:
        message = "MODELWATCH_WEBHOOK_URL needs MODELWATCH_WEBHOOK_SECRET: events are signed"
        raise ModelwatchSetupError(message)
    key = signing_key(settings.webhook_secret.get_secret_value())
    return Target("webhook", settings.webhook_url, key)


def make_client() -> httpx.Client:
    """Build the client for deliveries: it follows no redirect and reads no proxy settings."""
    return httpx.Client(
        timeout=TIMEOUT_SECONDS,
        follow_redirects=False,
        trust_env=False,
        headers={"User-Agent": f"modelwatch/{telemetry.installed_version()}"},
    )


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one attempt: a status, or the error that took its place."""

    status: int | None
    error: str | None
    retry_after: timedelta | None = None


def deliver_due(
    sessions: sessionmaker[Session],
    target: Target,
    *,
    client: httpx.Client,
    randomness: random.Random,
    now: Callable[[], datetime] = clock.now,
    limit: int = _PASS,
) -> int:
    """Attempt the events that are due, at most ``limit``, and return how many were attempted.

    Each is claimed in a transaction of its own, sent outside any, and settled in another: a
    process that dies in between leaves an event that is due again when its lease ends.
    """
    with sessions.begin() as session:
        if not repository.has_due(session):
            return 0
        expired = repository.abandon_expired(session, HORIZON)
    if expired:
        logger.warning("gave up events that are too old to be news", extra={"events": expired})
        _count(target, "abandoned", expired)
    for attempted in range(limit):
        with sessions.begin() as session:
            delivery = repository.claim_delivery(session, LEASE)
        if delivery is None:
            return attempted
        reply = _send(client, target, delivery, now())
        _settle(sessions, target, delivery, reply, randomness)
    return limit


def retry_in(attempt: int, reply: Reply, randomness: random.Random) -> timedelta | None:
    """Return how long to wait after the failed ``attempt`` (from 1), or None to give up.

    A target that is gone (410) asked not to be told again.
    """
    if reply.status == HTTPStatus.GONE or attempt > len(RETRY_AFTER):
        return None
    wait = RETRY_AFTER[attempt - 1] * randomness.uniform(1 - JITTER, 1 + JITTER)
    asked = min(reply.retry_after or timedelta(0), _LONGEST_WAIT)
    return max(wait, asked)


def body_of(event: dict[str, Any]) -> bytes:
    """Serialise an event; the same event gives the same bytes."""
    return json.dumps(
        event, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _send(client: httpx.Client, target: Target, delivery: Delivery, at: datetime) -> Reply:
    body = body_of(delivery.event)
    headers = {
        "Content-Type": "application/cloudevents+json",
        **signed_headers(target.key, delivery.key, at, body),
    }
    try:
        with client.stream("POST", target.url, content=body, headers=headers) as response:
            text = "" if response.is_success else _beginning(response)
            return Reply(
                response.status_code,
                None if response.is_success else text or response.reason_phrase or "refused",
                _asked_to_wait(response),
            )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Its text can hold the URL, and URLs can hold tokens.
        return Reply(None, type(error).__name__)


def _beginning(response: httpx.Response) -> str:
    """Read the start of a reply, which may be endless or slow, as one printable line."""
    read = b""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    try:
        for chunk in response.iter_bytes(MAX_REPLY_BYTES):
            read += chunk
            if len(read) >= MAX_REPLY_BYTES or time.monotonic() > deadline:
                break
    except httpx.HTTPError:
        pass
    line = read[:200].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in line).strip()


def _asked_to_wait(response: httpx.Response) -> timedelta | None:
    seconds = response.headers.get("Retry-After", "")
    # At most six digits: more is not a wait but an overflow.
    if seconds.isascii() and seconds.isdigit() and len(seconds) <= len("999999"):
        return timedelta(seconds=int(seconds))
    return None


def _settle(
    sessions: sessionmaker[Session],
    target: Target,
    delivery: Delivery,
    reply: Reply,
    randomness: random.Random,
) -> None:
    delivered = reply.status is not None and HTTPStatus.OK <= reply.status < _REDIRECTIONS
    wait = None if delivered else retry_in(delivery.attempt, reply, randomness)
    with sessions.begin() as session:
        ours = repository.settle_delivery(
            session,
            delivery,
            status=reply.status,
            error=reply.error,
            retry_in=wait,
            delivered=delivered,
        )
    if delivered:
        outcome = "delivered"
    elif wait is None:
        outcome = "abandoned"
    else:
        outcome = "unreachable" if reply.status is None else "refused"
    _count(target, outcome if ours else "lost", 1)
    logger.log(
        logging.INFO if delivered else logging.WARNING,
        "event %s: %s",
        delivery.key,
        outcome,
        extra={"attempt": delivery.attempt, "status": reply.status, "retry_in": str(wait)},
    )


def _count(target: Target, outcome: str, events: int) -> None:
    telemetry.WEBHOOK_DELIVERIES.labels(target.name, outcome).inc(events)
