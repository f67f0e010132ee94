"""The CloudEvent that tells a pipeline what to retrain, and why."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from service.webhooks.events import cloud_event, rfc3339

RETRAIN_REQUESTED = "dev.modelwatch.retrain.requested.v1"
# Targets take some 64 kB; the evidence has them all.
MOST_SIGNALS = 50


def requested_event(
    *,
    request_id: int,
    opened_at: datetime,
    model: str,
    version: str,
    action: str,
    reason: str,
    window: tuple[datetime, datetime] | None,
    signals: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Build the event; its id is the same however often it is sent.

    The window is null where an alert of the team's own asked.

    ``evidence_url`` is a path of the service, which does not know under which name it is reached.
    """
    return cloud_event(
        RETRAIN_REQUESTED,
        event_id=f"retraining-request-{request_id}-opened",
        source=f"/monitors/{model}",
        subject=f"{model}@{version}",
        at=opened_at,
        data={
            "request": request_id,
            "model": model,
            "version": version,
            "action": action,
            "reason": reason,
            "window": None if window is None else [rfc3339(at) for at in window],
            "evidence_url": f"/v1/retraining-requests/{request_id}",
            "signals": list(signals[:MOST_SIGNALS]),
            "signals_total": len(signals),
        },
    )
