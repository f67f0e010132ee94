"""Profiles kept per bucket."""

from datetime import datetime

from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base


class BucketProfile(Base):
    """The profile of one bucket of one version.

    ``family`` is ``features``, ``performance``, or ``slices:`` and which slices those are.
    """

    __tablename__ = "bucket_profile"

    version_id: Mapped[int] = mapped_column(primary_key=True)
    binning_id: Mapped[int] = mapped_column(primary_key=True)
    family: Mapped[str] = mapped_column(primary_key=True)
    start: Mapped[datetime] = mapped_column(primary_key=True)
    rows: Mapped[int]
    content: Mapped[bytes] = mapped_column(LargeBinary)
