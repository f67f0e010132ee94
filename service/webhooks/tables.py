"""The outbox: what is to be told, and to whom."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base


class Outbox(Base):
    """An event for one webhook, recorded with its cause and delivered at least once.

    ``dedupe_key`` is the event's id, the same for all its webhooks.  Events of releases that had
    one webhook for all have none here.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("dedupe_key", "webhook_id"),
        Index(None, "webhook_id"),
        Index(
            "ix_outbox_pending",
            "next_attempt_at",
            postgresql_where=text("delivered_at IS NULL AND NOT abandoned"),
        ),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    dedupe_key: Mapped[str]
    webhook_id: Mapped[int | None] = mapped_column(ForeignKey("webhook.id", ondelete="CASCADE"))
    request_id: Mapped[int | None] = mapped_column(ForeignKey("retraining_request.id"))
    event: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    replayed_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    delivered_at: Mapped[datetime | None]
    abandoned: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
