"""Retraining requests, the windows that are their evidence, and the outbox."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base

LIVE_STATES = ("open", "acknowledged", "retraining")


class RetrainingRequest(Base):
    """A ticket that a team works on; a version has at most one that is live."""

    __tablename__ = "retraining_request"
    __table_args__ = (
        Index(
            "one_live_request",
            "version_id",
            unique=True,
            postgresql_where=text("state IN ('open', 'acknowledged', 'retraining')"),
        ),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int]
    version_id: Mapped[int]
    state: Mapped[str] = mapped_column(default="open")
    action: Mapped[str]
    reason: Mapped[str]
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    handled_by: Mapped[str | None]
    note: Mapped[str | None]
    closed_at: Mapped[datetime | None]


class RequestWindow(Base):
    """A window that asked for the retraining; its latest revision is the evidence."""

    __tablename__ = "request_window"

    request_id: Mapped[int] = mapped_column(
        ForeignKey("retraining_request.id", ondelete="CASCADE"), primary_key=True
    )
    start: Mapped[datetime] = mapped_column(primary_key=True)
    end: Mapped[datetime] = mapped_column(primary_key=True)


class Outbox(Base):
    """An event that was recorded with its cause and is delivered at least once."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index(
            "ix_outbox_pending",
            "next_attempt_at",
            postgresql_where=text("delivered_at IS NULL AND NOT abandoned"),
        ),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    dedupe_key: Mapped[str] = mapped_column(unique=True)
    request_id: Mapped[int | None] = mapped_column(ForeignKey("retraining_request.id"))
    event: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    delivered_at: Mapped[datetime | None]
    abandoned: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
