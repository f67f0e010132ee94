"""What an explicit ``flush`` raises, and an explicit ``log(durable=True)``."""

from __future__ import annotations


class LostRecordsError(Exception):
    """Records were lost since the last flush; ``counts`` has how many of them, and how."""

    def __init__(self, message: str, counts: dict[str, int]) -> None:
        super().__init__(message)
        self.counts = counts


class NotStoredError(Exception):
    """A record that was to be durable is not known to be on the disk."""
