"""What became of the events of one request, and of the rows that they came to."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from service.formats.trouble import PayloadError
from service.ingest.limits import MAX_PROBLEM_ROWS, MAX_WARNINGS
from service.ingest.verdicts import RowError, Verdicts

Fault = PayloadError | RowError
MAX_LISTED = 1_000


@dataclass(slots=True)
class Answer:
    """The answer while it is being made; accepted, duplicates and rejected add up to ``sent``."""

    sent: int
    duplicates: set[int] = field(default_factory=set)
    rejected: dict[int, dict[str, Any]] = field(default_factory=dict)
    stored: Counter[str] = field(default_factory=Counter)
    rows: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    first: dict[int, dict[str, Any]] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)

    def refuse(self, index: int, fault: Fault, name: str | None = None) -> None:
        """List an event that is not taken."""
        self.rejected.setdefault(index, _entry(index, name, fault.field, fault.code, fault.detail))

    def add_rows(self, verdicts: Verdicts, events: list[int], of_event: Counter[int]) -> None:
        """Add what became of rows; ``events`` says of which event each is.

        An event of which no row was stored is refused for the reason of its first row;
        ``of_event`` says how many it has, here and in other batches.
        """
        self.stored["accepted"] += verdicts.accepted
        self.stored["duplicates"] += verdicts.duplicates
        self.stored["rejected"] += len(verdicts.refusals)
        for refusal in sorted(verdicts.refusals, key=lambda each: each.at):
            event = events[refusal.at]
            named = refusal.prediction_id
            entry = _entry(event, named, refusal.field, refusal.code, refusal.detail)
            if len(self.rows) < MAX_LISTED:
                self.rows.append(entry)
            self.first.setdefault(event, entry)
            self.refused[event] += 1
            if self.refused[event] == of_event[event]:
                self.rejected.setdefault(event, self.first[event])
        for each in verdicts.warnings:
            if len(self.warnings) < MAX_WARNINGS:
                self.warnings.append({**each, "index": events[each["index"]]})

    def problem_rows(self) -> list[dict[str, Any]]:
        """Return the first refusals, for a request of which nothing was taken."""
        return [self.rejected[index] for index in sorted(self.rejected)][:MAX_PROBLEM_ROWS]

    def document(self) -> dict[str, Any]:
        """Return the answer."""
        duplicates = len(self.duplicates - self.rejected.keys())
        return {
            "accepted": self.sent - duplicates - len(self.rejected),
            "duplicates": duplicates,
            "rejected": [self.rejected[index] for index in sorted(self.rejected)],
            "warnings": self.warnings,
            "rows": {
                **{name: self.stored[name] for name in ("accepted", "duplicates", "rejected")},
                "reasons": self.rows,
            },
        }


def _entry(
    index: int, name: str | None, field: str | None, code: str, detail: str
) -> dict[str, Any]:
    return {
        "index": index, "prediction_id": name, "field": field, "code": code, "detail": detail
    }  # fmt: skip
