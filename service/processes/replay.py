"""Replay a file as live traffic: predictions in order, each label when its time has come."""

import heapq
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.clock import now
from service.processes.replay_file import SourceError, count_rows
from service.processes.replay_source import Batch, Options, Source
from service.processes.sender import AllRejectedError, RefusedError, Sender

# A server that was never there is said so at once; one that goes away meanwhile is waited for.
FIRST_PATIENCE = 2.0
MOST_NAMES = 5
_IN_WORDS = {
    "conflicting-duplicate": (
        "another row with that id is stored already, with another time or other values"
    ),
    "conflicting-label": "another label of that id and of the same time is stored already",
}


@dataclass(frozen=True)
class Plan:
    """What is replayed, to whom, and how fast; ``speed`` 0 is as fast as it goes."""

    path: Path
    model: str
    version: str
    url: str
    options: Options
    key: str | None = field(default=None, repr=False)
    predictions: bool = True
    labels: bool = True
    speed: float = 0.0


@dataclass
class Totals:
    """What became of the records."""

    predictions: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
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

    @property
    def rejected(self) -> int:
        """How many records were refused."""
        return self.predictions["rejected"] + self.labels["rejected"]

    def refusals(self) -> list[str]:
        """Return a line for each reason for which records were refused, the most frequent first."""
        lines = []
        for code, count in self.codes.most_common():
            example = self.examples[code]
            named = example.get("prediction_id")
            text = _IN_WORDS.get(code) or example.get("detail") or code
            lines.append(f"  {count} {code}: {text}" + (f"; for example {named}" if named else ""))
        if unnamed := self.rejected - self.codes.total():
            lines.append(f"  {unnamed} more, for which the server's answer had no room")
        return lines


class Pace:
    """Waits until the recorded time, sped up by a factor, has passed in the real world."""

    def __init__(self, speed: float, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._speed = speed
        self._sleep = sleep
        self._began: tuple[datetime, float] | None = None

    def wait_for(self, ts: datetime) -> None:
        """Return when a row of time ``ts`` is due."""
        if self._speed <= 0:
            return
        if self._began is None:
            self._began = (ts, time.monotonic())
        first, began = self._began
        ahead = (ts - first).total_seconds() / self._speed - (time.monotonic() - began)
        if ahead > 0:
            self._sleep(ahead)


class Replay:
    """One pass over the file."""

    def __init__(self, plan: Plan, sender: Sender) -> None:
        self._plan = plan
        self._sender = sender
        self._waiting: list[tuple[datetime, int, dict[str, Any]]] = []
        self._order = itertools.count()
        self.totals = Totals()

    def run(self, source: Source, advance: Callable[[int], None]) -> Totals:
        """Send it all; ``advance`` hears of each batch."""
        pace = Pace(self._plan.speed)
        for batch in source.batches():
            pace.wait_for(batch.newest)
            self._send_batch(batch)
            advance(len(batch))
        # The file's own time is over: what is still waiting is sent if its time is past at all.
        self._send_labels_until(now())
        self.totals.not_due = len(self._waiting)
        return self.totals

    def _send_batch(self, batch: Batch) -> None:
        if self._plan.predictions:
            self._post("predictions", batch.predictions, self.totals.predictions)
        if self._plan.labels:
            for ts, record in batch.labels:
                heapq.heappush(self._waiting, (ts, next(self._order), record))
            self._send_labels_until(min(batch.newest, now()))

    def _send_labels_until(self, end: datetime) -> None:
        due: list[dict[str, Any]] = []
        while self._waiting and self._waiting[0][0] <= end:
            due.append(heapq.heappop(self._waiting)[2])
            if len(due) == self._plan.options.batch:
                self._post("labels", due, self.totals.labels)
                due = []
        if due:
            self._post("labels", due, self.totals.labels)

    def _post(self, kind: str, records: list[dict[str, Any]], counter: Counter[str]) -> None:
        envelope: dict[str, Any] = {"model": self._plan.model, "records": records}
        if kind == "predictions":
            envelope["version"] = self._plan.version
        try:
            answer = self._sender.send("POST", f"/v1/{kind}", envelope)
        except AllRejectedError as fault:
            # As good an answer as any: the next batch may hold better rows.
            answer = {"accepted": 0, "duplicates": 0, "rejected": fault.rejected}
        self.totals.add(counter, answer, len(records))


def run(plan: Plan) -> int:
    """Replay with a progress bar; return 1 when records were refused."""
    source = Source(plan.path, [plan.model, plan.version], plan.options)
    _check(plan, source)
    with Sender(plan.url, key=plan.key, patience=FIRST_PATIENCE) as sender:
        _check_version(plan, sender, source)
    console = Console(stderr=True)
    with Sender(plan.url, key=plan.key) as sender, _progress(console) as progress:
        task = progress.add_task(plan.path.name, total=count_rows(plan.path))
        began = time.monotonic()
        totals = Replay(plan, sender).run(source, lambda rows: progress.advance(task, rows))
    _report(plan, totals, time.monotonic() - began)
    return 1 if totals.rejected else 0


def _check(plan: Plan, source: Source) -> None:
    if plan.predictions and not source.has_predictions:
        message = (
            f"{plan.path} needs columns for `ts` and `prediction`: --map ts=COLUMN"
            " --map prediction=COLUMN (or --labels-only)"
        )
        raise SourceError(message)
    if not plan.predictions and not source.has_labels:
        message = f"{plan.path} has no column `label`; name the one that holds it: --map label=…"
        raise SourceError(message)


def _check_version(plan: Plan, sender: Sender, source: Source) -> None:
    model = f"/v1/models/{plan.model}"
    found = sender.get(model)
    if found is None:
        message = f"{plan.url} has no model {plan.model!r}; register it first: PUT {model}"
        raise RefusedError(message)
    path = f"{model}/versions/{plan.version}"
    version = sender.get(path)
    if version is None and not found["auto_register"]:
        message = f"{plan.model!r} has no version {plan.version!r}; register it first: PUT {path}"
        raise RefusedError(message)
    # A version that has no features yet takes them from its first rows or its reference.
    if plan.predictions and version is not None and version["features"]:
        declared = [feature["name"] for feature in version["features"]]
        source.times = frozenset(
            feature["name"] for feature in version["features"] if feature["kind"] == "datetime"
        )
        warning = compare_columns(plan, source.features, declared)
        if warning:
            sys.stderr.write(f"Warning: {warning}\n")


def compare_columns(plan: Plan, sent: Sequence[str], declared: Sequence[str]) -> str | None:
    """Return a warning about features that the file lacks.

    Raises
    ------
    SourceError
        If it has columns that the version lacks: every one of its rows would be refused.
    """
    version = f"{plan.model} {plan.version}"
    if unknown := [name for name in sent if name not in set(declared)]:
        message = (
            f"{plan.path} has columns that are no features of {version}: {_some(unknown)};"
            " leave each out with --ignore COLUMN, or say with --id-column COLUMN"
            " or --map ROLE=COLUMN what it is"
        )
        raise SourceError(message)
    missing = [name for name in declared if name not in set(sent)]
    if not missing:
        return None
    return f"{plan.path} lacks features of {version}, which will count as missing: {_some(missing)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _report(plan: Plan, totals: Totals, seconds: float) -> None:
    lines: list[str] = []
    parts: Sequence[tuple[str, Counter[str], bool]] = (
        ("predictions", totals.predictions, plan.predictions),
        ("labels", totals.labels, plan.labels and bool(totals.labels)),
    )
    for name, counter, wanted in parts:
        if wanted:
            counts = ", ".join(f"{counter[key]} {key}" for key in _OUTCOMES)
            lines.append(f"{name}: {counts}")
    if totals.not_due:
        lines.append(f"{totals.not_due} labels are known only in the future and were not sent")
    if totals.warnings:
        lines.append(f"{totals.warnings} warnings")
    if totals.rejected:
        lines += [f"{totals.rejected} records were refused:", *totals.refusals()]
    sent = sum(totals.predictions.values()) + sum(totals.labels.values())
    lines.append(f"{sent} records in {seconds:.1f} s")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


_OUTCOMES = ("accepted", "duplicates", "rejected")
