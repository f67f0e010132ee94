"""CloudEvents: the envelope that every event has."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

PING = "dev.modelwatch.ping.v1"


def rfc3339(at: datetime) -> str:
    """Return a time as events have it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def cloud_event(
    kind: str, *, event_id: str, source: str, subject: str, at: datetime, data: Mapping[str, Any]
) -> dict[str, Any]:
    """Build an event; its id must be the same however often it is sent."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": kind,
        "subject": subject,
        "time": rfc3339(at),
        "datacontenttype": "application/json",
        "data": dict(data),
    }


def ping_event(webhook: str, at: datetime) -> dict[str, Any]:
    """Build an event that says nothing but that it has arrived."""
    return cloud_event(
        PING,
        event_id=f"ping-{uuid.uuid4()}",
        source=f"/webhooks/{webhook}",
        subject=webhook,
        at=at,
        data={"webhook": webhook},
    )
