"""What an explicit ``flush`` raises."""

from __future__ import annotations


class LostRecordsError(Exception):
    """Records were lost since the last flush; ``counts`` has how many of them, and how."""

    def __init__(self, message: str, counts: dict[str, int]) -> None:
        super().__init__(message)
        self.counts = counts
