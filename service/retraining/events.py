"""The CloudEvent that tells a pipeline what to retrain, and why."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.webhooks.events import cloud_event, rfc3339

RETRAIN_REQUESTED = "dev.modelwatch.retrain.requested.v1"
# Targets take some 64 kB in all; the evidence has them all.
MOST_SIGNALS, MOST_BYTES = 50, 40_000


@dataclass(frozen=True, slots=True)
class Asked:
    """The windows that asked, the judged one first, and on which data that one was judged.

    ``where`` is a sentence that says where the loss is, as far as that is known by then.
    """

    windows: Sequence[tuple[datetime, datetime]]
    rows: int
    labelled: int
    reference_revision: int | None
    monitor_revision: int
    where: str = ""


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
    asked: Asked | None = None,
) -> dict[str, Any]:
    """Build the event; its id is the same however often it is sent.

    The window is null where an alert of the team's own asked, and so is what it was judged on.

    URLs are paths of the service, which does not know under which name it is reached.
    """
    spans = [[rfc3339(at) for at in each] for each in (asked.windows if asked else ())]
    span = None if window is None else [rfc3339(at) for at in window]
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
            "reason": with_where(reason, asked.where) if asked else reason,
            "window": span,
            "windows": sorted(spans),
            "rows": asked.rows if asked else None,
            "labelled": asked.labelled if asked else None,
            "reference_revision": asked.reference_revision if asked else None,
            "monitor_revision": asked.monitor_revision if asked else None,
            "evidence_url": f"/v1/retraining-requests/{request_id}",
            "window_url": f"/v1/models/{model}/windows/{span[0]}?version={version}"
            if span
            else None,
            "signals": _first(signals),
            "signals_total": len(signals),
        },
    )


def with_where(reason: str, where: str) -> str:
    """Return a reason that says where, too, if that is known."""
    return f"{reason}; {where}" if where else reason


def _first(signals: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    kept, size = [], 0
    for signal in signals[:MOST_SIGNALS]:
        size += len(json.dumps(signal, ensure_ascii=False).encode())
        if size > MOST_BYTES:
            break
        kept.append(signal)
    return kept
