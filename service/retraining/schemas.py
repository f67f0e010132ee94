"""What is said of retraining requests and their deliveries."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from service.retraining.tables import Outbox

RequestState = Literal["open", "acknowledged", "retraining", "resolved", "dismissed"]
Deed = Literal["acknowledge", "start", "dismiss"]


class DeliveryDocument(BaseModel):
    """One event on its way to the webhook."""

    event_id: str
    type: str
    state: Literal["pending", "delivered", "abandoned"]
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    last_status: int | None
    last_error: str | None

    @classmethod
    def of(cls, row: Outbox) -> "DeliveryDocument":
        """Describe a row of the outbox."""
        pending = row.delivered_at is None and not row.abandoned
        done: Literal["delivered", "abandoned"] = (
            "delivered" if row.delivered_at is not None else "abandoned"
        )
        return cls(
            event_id=row.dedupe_key,
            type=row.event["type"],
            state="pending" if pending else done,
            attempts=row.attempts,
            created_at=row.created_at,
            next_attempt_at=row.next_attempt_at if pending else None,
            delivered_at=row.delivered_at,
            last_status=row.last_status,
            last_error=row.last_error,
        )
