"""The parts of a monitor document that tell when somebody is told, and what for."""

import re
from datetime import timedelta
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from service.registry.documents import Document, FeatureName
from service.registry.monitor_values import Duration

_K_OF_N = re.compile(r"([0-9]{1,3}) of ([0-9]{1,3})")
MOST_WINDOWS = 100
LONGEST_COOLDOWN = timedelta(days=366)


class Alert(Document):
    """When incidents and requests open, and when incidents close.

    They open once ``k of n`` successive windows say the same; an incident closes after
    ``close_after`` windows in a row that are calm, and does not open again within ``cooldown``.
    """

    part: ClassVar[str] = "alert."

    open: str = "2 of 3"
    close_after: int = Field(default=2, ge=1, le=MOST_WINDOWS)
    cooldown: Annotated[Duration, Field(le=LONGEST_COOLDOWN)] = timedelta(days=1)

    @field_validator("open")
    @classmethod
    def _k_of_n(cls, value: str) -> str:
        found = _K_OF_N.fullmatch(value)
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= MOST_WINDOWS:
            message = f"open is 'k of n' windows, k at most n, n at most {MOST_WINDOWS}"
            raise ValueError(message)
        return value

    @property
    def k_of_n(self) -> tuple[int, int]:
        """Return both numbers."""
        k, _, n = self.open.partition(" of ")
        return int(k), int(n)


class Retraining(Document):
    """What a request for retraining takes.

    An estimated loss asks for labels while fewer than ``min_labelled_rows`` of the version are
    known.  No request opens within ``cooldown`` after one of the model was closed.  ``webhooks``
    are told of it: those of these names, or all that listen.
    """

    part: ClassVar[str] = "retraining."
    min_labelled_rows: int = Field(default=1000, ge=0, le=1_000_000_000)
    cooldown: Annotated[Duration, Field(le=LONGEST_COOLDOWN)] = timedelta(days=7)
    webhooks: tuple[FeatureName, ...] | None = None
