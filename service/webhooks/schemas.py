"""Webhooks and their deliveries: what is put, and what is answered."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, field_validator, model_validator

from service.registry.documents import Document
from service.registry.repository import is_name
from service.registry.tables import Webhook
from service.webhooks.addresses import read_url
from service.webhooks.presets import PRESETS
from service.webhooks.signature import signing_key
from service.webhooks.tables import Outbox

EventKind = Literal["retraining.requested", "incident.opened", "incident.closed"]
PresetName = Literal[
    "cloudevent", "github", "gitlab", "airflow3", "argo", "kfp", "prefect", "dagster"
]
DeliveryState = Literal["pending", "delivered", "abandoned"]

GENERATE = "generate"
MOST_HEADERS = 20
MOST_MODELS = 1000
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# What frames the request, what we sign with, and what would lead it elsewhere.
_OWN_HEADERS = frozenset(
    {
        *("connection", "content-encoding", "content-length", "content-type", "expect", "host"),
        *("keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "user-agent"),
        *("proxy-authorization", "proxy-connection"),
    }
)
# Printable and ASCII: a line's end would begin another header.
_HeaderValue = Annotated[str, StringConstraints(max_length=4000, pattern=r"^[\x20-\x7e]*$")]
_Option = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[!-~]+$")]


class WebhookDocument(Document):
    """Where events go, which, and in what form.

    Without ``secret`` a new webhook gets one, and a known one keeps its own; ``generate`` makes
    another.  A replaced secret signs beside the new one for a day.
    """

    url: str = Field(max_length=2000)
    secret: str | None = Field(default=None, max_length=200, description="whsec_… or `generate`")
    events: tuple[EventKind, ...] = Field(default=("retraining.requested",), min_length=1)
    models: tuple[str, ...] | None = Field(
        default=None, max_length=MOST_MODELS, description="only of these models; of all when null"
    )
    preset: PresetName = "cloudevent"
    headers: dict[str, _HeaderValue] = Field(default_factory=dict, max_length=MOST_HEADERS)
    options: dict[str, _Option] = Field(
        default_factory=dict, max_length=10, description="what the preset asks for"
    )

    @field_validator("url")
    @classmethod
    def _one_reading(cls, value: str) -> str:
        read_url(value)
        return value

    @field_validator("secret")
    @classmethod
    def _is_secret(cls, value: str | None) -> str | None:
        if value not in (None, GENERATE):
            signing_key(value)
        return value

    @field_validator("models")
    @classmethod
    def _are_names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if not all(is_name(name) for name in value or ()):
            message = "are names of models"
            raise ValueError(message)
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, str]) -> dict[str, str]:
        lower = [name.lower() for name in value]
        if len(set(lower)) != len(lower) or not all(map(_HEADER_NAME.fullmatch, lower)):
            message = "are different names of letters, digits and hyphens"
            raise ValueError(message)
        if any(name in _OWN_HEADERS or name.startswith("webhook-") for name in lower):
            message = "one of them is the service's own to set"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _options_are_the_presets(self) -> Self:
        preset = PRESETS[self.preset]
        known = preset.required | preset.optional
        if not preset.required <= self.options.keys() <= known:
            takes = ", ".join(sorted(known)) or "none"
            message = f"options: the preset {self.preset} takes {takes}"
            if preset.required:
                message += f", and needs {', '.join(sorted(preset.required))}"
            raise ValueError(message)
        return self


class WebhookAnswer(BaseModel):
    """A webhook as it is shown: of secrets only their ends, of headers only their names.

    ``secret`` is there once, in the answer to the request that had it made.
    """

    name: str
    url: str
    events: list[EventKind]
    models: list[str] | None
    preset: str
    headers: list[str]
    options: dict[str, str]
    secret: str | None = None
    secret_ends: str
    rotating_until: datetime | None
    disabled_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Webhook, secret: str | None = None) -> "WebhookAnswer":
        """Describe a webhook."""
        return cls(
            **row.document,
            name=row.name,
            secret=secret,
            disabled_at=row.disabled_at,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


class WebhookList(BaseModel):
    """All webhooks."""

    webhooks: list[WebhookAnswer]


class DeliveryDocument(BaseModel):
    """One event on its way to one webhook."""

    id: int
    webhook: str
    event_id: str
    type: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    replayed_at: datetime | None
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    last_status: int | None
    last_error: str | None

    @classmethod
    def of(cls, row: Outbox, webhook: str) -> "DeliveryDocument":
        """Describe a row of the outbox."""
        pending = row.delivered_at is None and not row.abandoned
        done: DeliveryState = "delivered" if row.delivered_at is not None else "abandoned"
        return cls(
            id=row.id,
            webhook=webhook,
            event_id=row.dedupe_key,
            type=row.event["type"],
            state="pending" if pending else done,
            attempts=row.attempts,
            created_at=row.created_at,
            replayed_at=row.replayed_at,
            next_attempt_at=row.next_attempt_at if pending else None,
            delivered_at=row.delivered_at,
            last_status=row.last_status,
            last_error=row.last_error,
        )


class DeliveryList(BaseModel):
    """A page of deliveries, newest first; ``next`` is the cursor of the page that follows."""

    deliveries: list[DeliveryDocument]
    next: str | None

    @classmethod
    def page(cls, rows: Sequence[Outbox], webhook: str, limit: int) -> "DeliveryList":
        """Describe at most ``limit`` rows of one more."""
        following = str(rows[limit - 1].id) if len(rows) > limit else None
        shown = [DeliveryDocument.of(row, webhook) for row in rows[:limit]]
        return cls(deliveries=shown, next=following)
