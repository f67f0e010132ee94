"""Records that are gone, in words and numbers; what was told once is not told again."""

from __future__ import annotations

from modelwatch.refusals import Refusals

WORDS = {
    "unserialisable": "{} hold what JSON cannot",
    "unredacted": "{} not sent: `redact` failed",
    "dropped": "{} dropped: the buffer was full",
    "errors": "{} could not be queued ({fault})",
}


class Losses:
    """What one listener has not heard of yet."""

    def __init__(self) -> None:
        self.refusals = Refusals()
        self._told: dict[str, int] = {}

    def told(self, now: dict[str, int], fault: str) -> tuple[list[str], dict[str, int]]:
        """Return clauses about what was lost since the last call, and how many of each kind."""
        fresh = {name: now[name] - self._told.get(name, 0) for name in ("rejected", *WORDS)}
        self._told = now
        lost = {name: rows for name, rows in fresh.items() if rows > 0}
        said = [
            WORDS[name].format(rows, fault=fault) for name, rows in lost.items() if name in WORDS
        ]
        refused = self.refusals.told()
        if "rejected" in lost:
            said.insert(0, refused or f"{lost['rejected']} rejected")
        return said, lost
