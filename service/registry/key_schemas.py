"""Keys as they are asked for and answered."""

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.access.grants import Scope
from service.access.service import Wish
from service.access.tokens import ENV
from service.registry.documents import PRINTABLE, Document
from service.registry.repository import NAME

_MOST_MODELS = 1_000
_LONGEST_DAYS = 3_650

ModelName = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]
Limit = Annotated[int, Field(ge=1, le=2**53)]


class KeyDocument(Document):
    """A key that is wanted: its scopes, and the models it is bound to (none: all of them)."""

    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=len(Scope))]
    models: (
        Annotated[tuple[ModelName, ...], Field(min_length=1, max_length=_MOST_MODELS)] | None
    ) = None
    name: Annotated[str, StringConstraints(max_length=200, pattern=PRINTABLE)] = ""
    env: Annotated[str, StringConstraints(pattern=f"^{ENV.pattern}$")] = "live"
    expires_in_days: Annotated[float, Field(gt=0, le=_LONGEST_DAYS)] | None = None
    requests_per_minute: Limit | None = None
    rows_per_minute: Limit | None = None
    bytes_per_minute: Limit | None = None

    def wish(self) -> Wish:
        """Return it as the service takes it."""
        days = self.expires_in_days
        return Wish(
            scopes=self.scopes,
            models=self.models,
            name=self.name,
            env=self.env,
            expires_in=None if days is None else timedelta(days=days),
            requests_per_minute=self.requests_per_minute,
            rows_per_minute=self.rows_per_minute,
            bytes_per_minute=self.bytes_per_minute,
        )


class RotationDocument(Document):
    """How long the old key goes on beside the new one."""

    grace_hours: Annotated[float, Field(ge=0, le=24 * 90)] = 24.0


class KeyAnswer(BaseModel):
    """What is known of a key; never its secret."""

    model_config = ConfigDict(from_attributes=True)

    kid: str
    name: str
    env: str
    scopes: list[str]
    models: list[str] | None
    requests_per_minute: int | None
    rows_per_minute: int | None
    bytes_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    replaced_by: str | None


class KeyList(BaseModel):
    """All keys that were ever made, oldest first."""

    keys: list[KeyAnswer]


class NewKeyAnswer(KeyAnswer):
    """A new key; ``key`` is shown this once."""

    key: str


class AuditEntryAnswer(BaseModel):
    """One change."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, object]
    hash: str


class AuditList(BaseModel):
    """Changes, newest first; ``next`` is the cursor of the page before them in time."""

    entries: list[AuditEntryAnswer]
    next: str | None


class VerificationAnswer(BaseModel):
    """Whether every entry fits the one before it; ``head`` is the newest hash that does."""

    model_config = ConfigDict(from_attributes=True)

    entries: int
    head: str
    broken_at: int | None
