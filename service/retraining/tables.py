"""Retraining requests, and the windows and alerts that are their evidence."""

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


class RequestAlert(Base):
    """An alert of Prometheus about the version, as Alertmanager last told of it.

    ``annotations`` is null of one that an older version of the service took.  Its ``fingerprint``
    stays when Prometheus starts again, ``starts_at`` does not.  That it is resolved may only mean
    that nothing was scraped.
    """

    __tablename__ = "request_alert"

    request_id: Mapped[int] = mapped_column(
        ForeignKey("retraining_request.id", ondelete="CASCADE"), primary_key=True
    )
    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    state: Mapped[str]
    summary: Mapped[str]
    metric_labels: Mapped[dict[str, Any]] = mapped_column("labels")
    annotations: Mapped[dict[str, Any] | None]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
