"""The part of a monitor document that tells when somebody is told."""

import re
from typing import ClassVar

from pydantic import field_validator

from service.registry.documents import Document

_K_OF_N = re.compile(r"([0-9]{1,3}) of ([0-9]{1,3})")
MOST_WINDOWS = 100


class Alert(Document):
    """How many of how many successive windows have to say ``retrain``, such as ``2 of 3``."""

    part: ClassVar[str] = "alert."
    later: ClassVar[frozenset[str]] = frozenset({"close_after", "cooldown"})

    open: str = "2 of 3"

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
