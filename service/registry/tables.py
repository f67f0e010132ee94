"""The catalogue: models, versions, features, references, monitors and webhooks."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, Index, LargeBinary, UniqueConstraint, false, func
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base


class Model(Base):
    """A monitored machine-learning model; rows before ``rows_since`` have been dropped."""

    __tablename__ = "model"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    task: Mapped[str]
    owner: Mapped[str] = mapped_column(default="")
    description: Mapped[str] = mapped_column(default="")
    auto_register: Mapped[bool] = mapped_column(default=False)
    rows_since: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Version(Base):
    """One version of a model; its schema is its features and classes."""

    __tablename__ = "version"
    __table_args__ = (UniqueConstraint("model_id", "name"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    name: Mapped[str]
    stage: Mapped[str] = mapped_column(default="live")
    classes: Mapped[list[Any]] = mapped_column(default=list)
    positive_class: Mapped[str | None]
    inferred: Mapped[bool] = mapped_column(default=False)
    attributions: Mapped[bool] = mapped_column(default=False, server_default=false())
    tag_policies: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Feature(Base):
    """One feature of a version, and the slot of the prediction table that holds it.

    Features of one model that share a name and a kind share the slot, so a query over
    versions reads one column.  One that is dropped before it is stored has none.
    """

    __tablename__ = "feature"
    __table_args__ = (
        UniqueConstraint("version_id", "name"),
        UniqueConstraint("version_id", "slot"),
        Index(None, "model_id"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"))
    position: Mapped[int]
    name: Mapped[str]
    kind: Mapped[str]
    slot: Mapped[str | None]
    importance: Mapped[float | None]
    minimum: Mapped[float | None]
    maximum: Mapped[float | None]
    length: Mapped[int | None]
    pii: Mapped[str] = mapped_column(default="keep", server_default="keep")


class Binning(Base):
    """The edges of a model's profiles, frozen from a reference; a new one is a new revision."""

    __tablename__ = "binning"
    __table_args__ = (UniqueConstraint("model_id", "revision"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    revision: Mapped[int]
    content: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Reference(Base):
    """What a version's windows are compared with; the highest revision is in force.

    ``segments`` are the profiles of its calendar pieces, from which chunks of any window's
    length are merged; ``sample`` is a Parquet file of at most 50,000 of its rows.
    """

    __tablename__ = "reference"
    __table_args__ = (UniqueConstraint("version_id", "revision"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"))
    revision: Mapped[int]
    binning_id: Mapped[int] = mapped_column(ForeignKey("binning.id"))
    rows: Mapped[int]
    labelled: Mapped[int]
    chunks: Mapped[int]
    warnings: Mapped[list[Any]] = mapped_column(default=list)
    segments: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    calibrator: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    sample: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Monitor(Base):
    """A revision of a model's monitor document, all defaults filled in."""

    __tablename__ = "monitor"
    __table_args__ = (UniqueConstraint("model_id", "revision"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    revision: Mapped[int]
    document: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PiiKey(Base):
    """Which key personal data is hashed under: its fingerprint, so that no other is used."""

    __tablename__ = "pii_key"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    fingerprint: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Webhook(Base):
    """Where events are delivered to.

    ``document`` is what may be shown of it; ``sealed`` holds its URL, headers and secrets under
    the service's key.  ``busy_until`` lets one delivery at a time go to it, and ends with the
    process that sends.
    """

    __tablename__ = "webhook"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    document: Mapped[dict[str, Any]]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    busy_until: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
