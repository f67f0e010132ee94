"""Predictions in typed slots, their identities, labels, and what was wrong with rows."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Float,
    Identity,
    Index,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base

NUMERIC_SLOTS = tuple(f"n{i}" for i in range(1, 257))
TEXT_SLOTS = tuple(f"c{i}" for i in range(1, 65))
VECTOR_SLOTS = tuple(f"v{i}" for i in range(1, 5))

# Partitioned by LIST (model_id), each partition by RANGE (ts) in months.  It has no key of its
# own: a unique key of a partitioned table would have to hold ts; `identity` is the key.
prediction = Table(
    "prediction",
    Base.metadata,
    Column("model_id", BigInteger, nullable=False),
    Column("version_id", BigInteger, nullable=False),
    Column("prediction_id", Text, nullable=False),
    Column("ts", DateTime(timezone=True), nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("prediction", Text),
    Column("predicted_value", Float),
    Column("score", Float),
    Column("scores", ARRAY(Float)),
    Column("weight", Float),
    Column("subject", Text),
    Column("tags", JSONB),
    *(Column(slot, Float) for slot in NUMERIC_SLOTS),
    *(Column(slot, Text) for slot in TEXT_SLOTS),
    *(Column(slot, ARRAY(REAL)) for slot in VECTOR_SLOTS),
    Index("ix_prediction_version_id_ts", "version_id", "ts"),
    # Most rows have no subject, and cost nothing here.
    Index("ix_prediction_subject", "subject", postgresql_where=text("subject IS NOT NULL")),
    postgresql_partition_by="LIST (model_id)",
)


class PredictionIdentity(Base):
    """The key of a prediction: where its row is, and a hash of what it said."""

    __tablename__ = "prediction_identity"

    model_id: Mapped[int] = mapped_column(primary_key=True)
    prediction_id: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(primary_key=True)
    ts: Mapped[datetime]
    content_hash: Mapped[int]


class Label(Base):
    """Ground truth, append-only; of one prediction's labels the newest ``label_ts`` counts."""

    __tablename__ = "label"

    model_id: Mapped[int] = mapped_column(primary_key=True)
    prediction_id: Mapped[str] = mapped_column(primary_key=True)
    label_ts: Mapped[datetime] = mapped_column(primary_key=True)
    label: Mapped[str | None]
    label_value: Mapped[float | None]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PendingLabel(Base):
    """The prediction of a label had not come when the label did; some have by now."""

    __tablename__ = "pending_label"

    model_id: Mapped[int] = mapped_column(primary_key=True)
    prediction_id: Mapped[str] = mapped_column(primary_key=True)
    received_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


OTHERS = "\t"


class IngestFault(Base):
    """How many rows of a bucket were refused, or lost a feature, and why; append-only.

    ``field`` is empty for a refused row; a row that was refused for features which the schema lacks
    is counted under each of their names as well, or, for each that is not kept, under ``OTHERS``;
    no feature can be called so.  ``bucket`` is the hour of arrival where a row has
    no usable time of its own.  A worker adds up the rows of a bucket when it profiles it.
    """

    __tablename__ = "ingest_fault"
    __table_args__ = (Index(None, "model_id", "bucket"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int]
    version_id: Mapped[int | None]
    bucket: Mapped[datetime]
    field: Mapped[str]
    code: Mapped[str]
    rows: Mapped[int]


class DeadLetter(Base):
    """A row that only the database refused, as the JSON of its record, until it is replayed.

    ``state`` is the SQLSTATE of the refusal.  ``prediction_id`` and ``subject`` are what erasure
    looks for; a NUL in them is replaced.  ``digest`` keeps a row that is sent again from being
    kept twice.
    """

    __tablename__ = "dead_letter"
    __table_args__ = (UniqueConstraint("model_id", "digest"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int]
    version_id: Mapped[int | None]
    kind: Mapped[str]
    prediction_id: Mapped[str | None]
    subject: Mapped[str | None]
    state: Mapped[str]
    record: Mapped[bytes]
    digest: Mapped[bytes]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ErasedPrediction(Base):
    """A prediction that was erased, by a keyed hash of its id: a late retry must not bring it back.

    ``ts`` is when it was made: once rows of that time are refused, nothing needs to be remembered.
    """

    __tablename__ = "erased_prediction"

    model_id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    ts: Mapped[datetime | None]


class KnownBatch(Base):
    """The answer to a batch with an ``Idempotency-Key``, for a retry of it.

    ``name`` is a digest of the key and of who sent it, ``content`` one of what was sent.
    """

    __tablename__ = "known_batch"

    name: Mapped[bytes] = mapped_column(primary_key=True)
    content: Mapped[bytes]
    answer: Mapped[bytes]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
