"""Halves of inferences whose other half has not come yet."""

from datetime import datetime

from sqlalchemy import Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base


class PendingPair(Base):
    """A request and a response of one inference, as far as they have come.

    One row for both: its key makes the two halves wait for each other, whichever process takes
    them.  ``pair`` is a digest of source and correlation.  A half is kept decoded, and so is only
    what a row will hold; once the rows are stored (``stored_at``) the halves go, and their hashes
    stay to tell a half that is sent again from another one of the same id.  A token says which
    delivery of a half was the first.
    """

    __tablename__ = "pending_pair"
    __table_args__ = (
        Index(None, "received_at"),
        # Of the many only few are still waiting, and those are looked for all the time.
        Index("ix_pending_pair_waiting", "received_at", postgresql_where=text("stored_at IS NULL")),
    )

    model_id: Mapped[int] = mapped_column(primary_key=True)
    pair: Mapped[bytes] = mapped_column(primary_key=True)
    version: Mapped[str]
    correlation: Mapped[str]
    subject: Mapped[str | None]
    request: Mapped[bytes | None]
    request_hash: Mapped[int | None]
    request_token: Mapped[int | None]
    response: Mapped[bytes | None]
    response_hash: Mapped[int | None]
    response_token: Mapped[int | None]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    stored_at: Mapped[datetime | None]
