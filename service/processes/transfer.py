"""What replaying and importing share: counts, patience with sizes, and what is told in the end."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.processes.files import SourceError
from service.processes.sender import (
    AllRejectedError,
    ForbiddenError,
    RefusedError,
    Sender,
    TooLargeError,
)
from service.processes.table_records import Source

# A server that was never there is said so at once; one that goes away meanwhile is waited for.
FIRST_PATIENCE = 2.0
MOST_NAMES = 5
OUTCOMES = ("accepted", "duplicates", "rejected")
_IN_WORDS = {
    "conflicting-duplicate": (
        "another row with that id is stored already, with another time or other values"
    ),
    "conflicting-label": "another label of that id and of the same time is stored already",
}


class Target(Protocol):
    """A version of a model at an address, as a plan has it."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def version(self) -> str:
        """The version's name."""

    @property
    def url(self) -> str:
        """Where the API is."""


@dataclass
class Totals:
    """What became of the records."""

    predictions: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    not_due: int = 0
    warnings: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, counter: Counter[str], answer: dict[str, Any], sent: int) -> None:
        """Count one answer."""
        counter["accepted"] += answer["accepted"]
        counter["duplicates"] += answer["duplicates"]
        counter["rejected"] += sent - answer["accepted"] - answer["duplicates"]
        self.warnings += len(answer.get("warnings", []))
        for fault in answer.get("rejected", []):
            self.codes[fault["code"]] += 1
            self.examples.setdefault(fault["code"], fault)

    def add_rows(self, rows: dict[str, Any]) -> None:
        """Count the rows that events came to; refused ones are counted with their events."""
        for outcome in OUTCOMES:
            self.predictions[outcome] += rows[outcome]

    @property
    def rejected(self) -> int:
        """How many records were refused."""
        counters = (self.predictions, self.labels, self.events)
        return sum(counter["rejected"] for counter in counters)

    @property
    def sent(self) -> int:
        """How many records were sent."""
        return sum((self.predictions + self.labels + self.events).values())

    def refusals(self) -> list[str]:
        """Return a line for each reason for which records were refused, the most frequent first."""
        lines = []
        for code, count in self.codes.most_common():
            example = self.examples[code]
            named = example.get("prediction_id")
            text = _IN_WORDS.get(code) or example.get("detail") or code
            lines.append(f"  {count} {code}: {text}" + (f"; for example {named}" if named else ""))
        unnamed = self.rejected - self.codes.total()
        if unnamed > 0:
            lines.append(f"  {unnamed} more, for which the server's answer had no room")
        return lines

    def lines(self, parts: Sequence[tuple[str, Counter[str]]], seconds: float) -> list[str]:
        """Return what is told in the end."""
        told = [
            f"{name}: " + ", ".join(f"{counter[key]} {key}" for key in OUTCOMES)
            for name, counter in parts
        ]
        if self.not_due:
            told.append(f"{self.not_due} labels are known only in the future and were not sent")
        if self.warnings:
            told.append(f"{self.warnings} warnings")
        if self.rejected:
            told += [f"{self.rejected} records were refused:", *self.refusals()]
        return [*told, f"{self.sent} records in {seconds:.1f} s"]


def post_records(
    sender: Sender, target: Target, kind: str, records: list[dict[str, Any]], totals: Totals
) -> None:
    """Send predictions or labels; what is too large for one request goes in two."""
    envelope: dict[str, Any] = {"model": target.model, "records": records}
    if kind == "predictions":
        envelope["version"] = target.version
    try:
        answer = sender.send("POST", f"/v1/{kind}", envelope)
    except AllRejectedError as fault:
        # As good an answer as any: the next batch may hold better rows.
        answer = {"accepted": 0, "duplicates": 0, "rejected": fault.rejected}
    except TooLargeError:
        middle = len(records) // 2
        if middle == 0:
            raise
        for half in (records[:middle], records[middle:]):
            post_records(sender, target, kind, half, totals)
        return
    totals.add(totals.predictions if kind == "predictions" else totals.labels, answer, len(records))


def find_version(target: Target, sender: Sender) -> Any:
    """Return the version as the server knows it, or ``None`` if it is yet to be registered.

    A key that is only for sending cannot ask: what does not fit will be refused row by row.
    """
    model = f"/v1/models/{target.model}"
    try:
        found = sender.get(model)
    except ForbiddenError:
        return None
    if found is None:
        how = _registering(f"{target.url}{model}", '{"task":"binary"}')
        message = f"{target.url} has no model {target.model!r}; register it first: {how}"
        raise RefusedError(message)
    path = f"{model}/versions/{target.version}"
    version = sender.get(path)
    if version is None and not found["auto_register"]:
        how = _registering(f"{target.url}{path}", '{"stage":"live"}')
        message = f"{target.model!r} has no version {target.version!r}; register it first: {how}"
        raise RefusedError(message)
    return version


def _registering(address: str, document: str) -> str:
    return f"curl -X PUT {address} -H 'Content-Type: application/json' -d '{document}'"


def fit_columns(target: Target, source: Source, version: Any) -> None:
    """Warn of features that a file lacks, and raise if it has others than the version."""
    # A version that has no features yet takes them from its first rows or its reference.
    if version is None or not version["features"]:
        return
    declared = [feature["name"] for feature in version["features"]]
    source.times = frozenset(
        feature["name"] for feature in version["features"] if feature["kind"] == "datetime"
    )
    warning = compare_columns(target, source.address, source.features, declared)
    if warning:
        sys.stderr.write(f"Warning: {warning}\n")


def compare_columns(
    target: Target, address: str, sent: Sequence[str], declared: Sequence[str]
) -> str | None:
    """Return a warning about features that the file lacks.

    Raises
    ------
    SourceError
        If it has columns that the version lacks: every one of its rows would be refused.
    """
    version = f"{target.model} {target.version}"
    if unknown := [name for name in sent if name not in set(declared)]:
        message = (
            f"{address} has columns that are no features of {version}: {_some(unknown)};"
            " leave each out with --ignore COLUMN, or say with --id-column COLUMN"
            " or --map ROLE=COLUMN what it is"
        )
        raise SourceError(message)
    missing = [name for name in declared if name not in set(sent)]
    if not missing:
        return None
    return f"{address} lacks features of {version}, which will count as missing: {_some(missing)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def require_columns(source: Source, *, predictions: bool) -> None:
    """Raise if a file lacks what the records to be sent are made of."""
    if predictions and not source.has_predictions:
        message = (
            f"{source.address} needs columns for `ts` and `prediction` or `score`:"
            " --map ts=COLUMN --map prediction=COLUMN (or --labels-only)"
        )
        raise SourceError(message)
    if not predictions and not source.has_labels:
        message = (
            f"{source.address} has no column `label`; name the one that holds it: --map label=…"
        )
        raise SourceError(message)


def progress_on(console: Console, unit: str = "rows") -> Progress:
    """Return a progress bar, which is seen where somebody looks."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def tell(lines: Sequence[str]) -> None:
    """Write the report."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
