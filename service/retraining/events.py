"""The CloudEvent that tells a pipeline what to retrain, and why."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

RETRAIN_REQUESTED = "dev.modelwatch.retrain.requested.v1"


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def requested_event(
    *,
    request_id: int,
    opened_at: datetime,
    model: str,
    version: str,
    action: str,
    reason: str,
    window: tuple[datetime, datetime],
    signals: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Build the event; its id is the same however often it is sent.

    ``evidence_url`` is a path of the service, which does not know under which name it is reached.
    """
    return {
        "specversion": "1.0",
        "id": f"retraining-request-{request_id}-opened",
        "source": f"/monitors/{model}",
        "type": RETRAIN_REQUESTED,
        "subject": f"{model}@{version}",
        "time": _rfc3339(opened_at),
        "datacontenttype": "application/json",
        "data": {
            "request": request_id,
            "model": model,
            "version": version,
            "action": action,
            "reason": reason,
            "window": [_rfc3339(at) for at in window],
            "evidence_url": f"/v1/retraining-requests/{request_id}",
            "signals": list(signals),
        },
    }
