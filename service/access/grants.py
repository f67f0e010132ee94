"""What a request may do, and for which models."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from service.access.quotas import Meter


class Scope(StrEnum):
    """What a key is for; ``admin`` includes the others."""

    INGEST = "ingest"
    READ = "read"
    ALERTS = "alerts"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Grant:
    """Who asks, and what they may do; ``models`` None is every model."""

    actor: str
    scopes: frozenset[Scope]
    models: frozenset[str] | None = None
    meter: Meter | None = field(default=None, compare=False)

    def may(self, scope: Scope) -> bool:
        """Say whether the scopes include one."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


LOCAL: Final = Grant("local", frozenset({Scope.ADMIN}))
"""Of ``modelwatch up`` on loopback, where whoever reaches the port owns the data anyway."""
