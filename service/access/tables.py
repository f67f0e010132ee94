"""Keys, and the log of what was changed and by whom."""

from datetime import datetime

from sqlalchemy import LargeBinary, Text, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base


class ApiKey(Base):
    """What is known of a key; its secret is not, only the digest of the whole key.

    ``models`` are names, not ids: a key may be bound to a model that is registered later.  None
    means all of them, today's and tomorrow's.
    """

    __tablename__ = "api_key"

    kid: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    env: Mapped[str]
    name: Mapped[str] = mapped_column(default="")
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    models: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    requests_per_minute: Mapped[int | None]
    rows_per_minute: Mapped[int | None]
    bytes_per_minute: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    replaced_by: Mapped[str | None]


class AuditEntry(Base):
    """One change.  Each entry's hash covers its content and the hash before it.

    A trigger refuses to change or delete entries.  ``details`` is the JSON text that was hashed:
    as jsonb it would come back written otherwise.
    """

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    details: Mapped[str]
    hash: Mapped[bytes] = mapped_column(LargeBinary)
