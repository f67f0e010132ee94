"""Incidents, and what each window said about their causes."""

from datetime import datetime

from sqlalchemy import Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base


class Signal(Base):
    """What a window said about one cause, unless it was calm: alert, raised or unknown.

    It is of the window's latest revision that was judged aloud.  Parts of a cause that do not
    apply are empty.
    """

    __tablename__ = "signal"

    version_id: Mapped[int] = mapped_column(primary_key=True)
    cause: Mapped[str] = mapped_column(primary_key=True)
    start: Mapped[datetime] = mapped_column(primary_key=True)
    end: Mapped[datetime] = mapped_column(primary_key=True)
    kind: Mapped[str]
    metric: Mapped[str]
    subject: Mapped[str]
    slice: Mapped[str]
    state: Mapped[str]
    severity: Mapped[str]
    action: Mapped[str]
    reason: Mapped[str]


class Incident(Base):
    """An open or past problem with one cause, as the windows tell it.

    It alerts from the window ``since`` on, was confirmed by the window ``opened_start``; windows
    or somebody closed it at ``closed_start``.  ``state`` is what people see; a dismissed incident
    is closed for them though it goes on, so that it does not come back before it has gone away.
    ``outcome`` is recovered, resolved, dismissed or withdrawn: late data showed that it never was.
    ``announcements`` counts how often webhooks were told that it is open, that it is closed ...
    """

    __tablename__ = "incident"
    __table_args__ = (
        Index(None, "version_id", "cause", "opened_start"),
        Index(None, "model_id"),
        Index(
            "one_open_incident",
            "version_id",
            "cause",
            unique=True,
            postgresql_where=text("state IN ('open', 'acknowledged')"),
        ),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int]
    version_id: Mapped[int]
    cause: Mapped[str]
    kind: Mapped[str]
    metric: Mapped[str]
    subject: Mapped[str]
    slice: Mapped[str]
    state: Mapped[str] = mapped_column(default="open")
    outcome: Mapped[str | None]
    severity: Mapped[str]
    action: Mapped[str]
    reason: Mapped[str]
    since: Mapped[datetime]
    opened_start: Mapped[datetime]
    opened_end: Mapped[datetime]
    closed_start: Mapped[datetime | None]
    closed_end: Mapped[datetime | None]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())
    acknowledged_by: Mapped[str | None]
    acknowledged_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]
    ended_at: Mapped[datetime | None]
    note: Mapped[str | None]
    announcements: Mapped[int] = mapped_column(default=0, server_default="0")
