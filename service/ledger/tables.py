"""What has arrived and what is due: the only queue of the service.

A row of ``due_work`` exists exactly while something is due.  New input raises its ``mark``;
a worker that finishes deletes the row only if the mark is still the one that it claimed, so
input that came meanwhile is never lost.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Identity, Index, Text, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base


class Arrival(Base):
    """Rows or labels of one bucket have been committed; append-only for ingest.

    ``pending`` holds the ids of labels whose prediction was not yet committed: the worker looks
    for them again, after which the prediction's own arrival covers them.
    """

    __tablename__ = "arrival"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int]
    version_id: Mapped[int | None]
    bucket: Mapped[datetime | None]
    kind: Mapped[str]
    pending: Mapped[list[str] | None] = mapped_column(ARRAY(Text))


class DueWork(Base):
    """One piece of work that is due at ``due_at``; claimed with a lease that can be renewed.

    ``kind`` is bucket_rows, bucket_labels, window, maturity, evidently or report.
    """

    __tablename__ = "due_work"
    __table_args__ = (
        UniqueConstraint("kind", "model_id", "version_id", "start", "end"),
        Index(None, "kind", "due_at"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    model_id: Mapped[int]
    version_id: Mapped[int]
    start: Mapped[datetime]
    end: Mapped[datetime]
    mark: Mapped[int] = mapped_column(default=1, server_default="1")
    first_marked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_marked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    details: Mapped[dict[str, Any] | None]
    claimed_by: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    last_error: Mapped[str | None]


class WorkerHeartbeat(Base):
    """When a worker was last alive, and when its jobs last succeeded."""

    __tablename__ = "worker_heartbeat"

    worker: Mapped[str] = mapped_column(primary_key=True)
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    beat_at: Mapped[datetime] = mapped_column(server_default=func.now())
