"""Replay a file as live traffic: predictions in order, each label when its time has come."""

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from service.clock import now
from service.processes.files import local_file
from service.processes.sender import Sender
from service.processes.table_files import count_rows
from service.processes.table_records import Batch, Options, Source
from service.processes.transfer import (
    FIRST_PATIENCE,
    Totals,
    find_version,
    fit_columns,
    post_records,
    progress_on,
    require_columns,
    tell,
)


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
            self._post("predictions", batch.predictions)
        if self._plan.labels:
            for ts, record in batch.labels:
                heapq.heappush(self._waiting, (ts, next(self._order), record))
            self._send_labels_until(min(batch.newest, now()))

    def _send_labels_until(self, end: datetime) -> None:
        due: list[dict[str, Any]] = []
        while self._waiting and self._waiting[0][0] <= end:
            due.append(heapq.heappop(self._waiting)[2])
            if len(due) == self._plan.options.batch:
                self._post("labels", due)
                due = []
        if due:
            self._post("labels", due)

    def _post(self, kind: str, records: list[dict[str, Any]]) -> None:
        post_records(self._sender, self._plan, kind, records, self.totals)


def run(plan: Plan) -> int:
    """Replay with a progress bar; return 1 when records were refused."""
    file = local_file(plan.path)
    source = Source(file, [plan.model, plan.version], plan.options)
    require_columns(source, predictions=plan.predictions)
    with Sender(plan.url, key=plan.key, patience=FIRST_PATIENCE) as sender:
        version = find_version(plan, sender)
        if plan.predictions:
            fit_columns(plan, source, version)
    console = Console(stderr=True)
    with Sender(plan.url, key=plan.key) as sender, progress_on(console) as progress:
        task = progress.add_task(plan.path.name, total=count_rows(file))
        began = time.monotonic()
        totals = Replay(plan, sender).run(source, lambda rows: progress.advance(task, rows))
    parts: list[tuple[str, Counter[str]]] = []
    if plan.predictions:
        parts.append(("predictions", totals.predictions))
    if plan.labels and totals.labels:
        parts.append(("labels", totals.labels))
    tell(totals.lines(parts, time.monotonic() - began))
    return 1 if totals.rejected else 0
