"""Import files that are there already: tables, and what SageMaker and Azure have captured."""

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID

from service.clock import now
from service.processes.checkpoint import Checkpoint
from service.processes.files import File, SourceError, find_files
from service.processes.line_files import (
    Parcel,
    by_hour,
    detect,
    head_of,
    hour_of,
    in_turns,
    parcels,
)
from service.processes.sender import AllRejectedError, Sender, TooLargeError
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

# An import may take hours; a server that is away for some minutes is no reason to end it.
PATIENCE = 600.0
NDJSON = "application/x-ndjson"
_ROUTES = {"azure": "/v1/cloudevents", "sagemaker": "/v1/import/sagemaker"}
# Azure's files of an hour are read together.
_MOST_OPEN = 64
_MOST_WAITING = 50_000


@dataclass(frozen=True)
class Plan:
    """What is imported, to whom, and where it is written down how far that has come.

    ``parameters`` are what lines cannot say: which output is what, the time of ground truth.
    """

    addresses: Sequence[str]
    model: str
    version: str
    url: str
    options: Options
    checkpoint: Path
    key: str | None = field(default=None, repr=False)
    form: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    predictions: bool = True
    labels: bool = True


class Import:
    """One pass over all files."""

    def __init__(self, plan: Plan, sender: Sender, checkpoint: Checkpoint, bar: Progress) -> None:
        self._plan = plan
        self._sender = sender
        self._checkpoint = checkpoint
        self._bar = bar
        self.totals = Totals()

    def run(self, files: Sequence[File], version: Any) -> Totals:
        """Send it all, file after file."""
        forms: dict[str, list[File]] = {}
        for file in files:
            forms.setdefault(self._plan.form or detect(file), []).append(file)
        task = self._bar.add_task("files", total=len(files))
        for file in forms.pop("table", []):
            self._table(file, version)
            self._bar.advance(task)
        for form, own in forms.items():
            for group in by_hour(own):
                for start in range(0, len(group), _MOST_OPEN):
                    self._lines(form, group[start : start + _MOST_OPEN])
                self._bar.advance(task, len(group))
        return self.totals

    def _table(self, file: File, version: Any) -> None:
        plan = self._plan
        source = Source(file, [plan.model, plan.version], plan.options)
        require_columns(source, predictions=plan.predictions)
        if plan.predictions:
            fit_columns(plan, source, version)
        position = self._checkpoint.position(file.address, source.fingerprint)
        task = self._bar.add_task(file.name, total=count_rows(file), completed=position)
        for batch in source.batches(position):
            self._send(batch)
            position += len(batch)
            self._checkpoint.save(file.address, source.fingerprint, position)
            self._bar.advance(task, len(batch))
        self._bar.remove_task(task)

    def _send(self, batch: Batch) -> None:
        if self._plan.predictions:
            post_records(self._sender, self._plan, "predictions", batch.predictions, self.totals)
        if self._plan.labels:
            known = now()
            due = [record for ts, record in batch.labels if ts <= known]
            self.totals.not_due += len(batch.labels) - len(due)
            if due:
                post_records(self._sender, self._plan, "labels", due, self.totals)

    def _lines(self, form: str, files: Sequence[File]) -> None:
        heads = {file.address: head_of(file) for file in files}
        tasks: dict[str, TaskID] = {}
        streams: list[Iterator[Parcel]] = []
        most = self._plan.options.batch
        if form == "azure":
            # Of all files that are read in turns so much may wait for its other half.
            most = min(most, max(1, _MOST_WAITING // len(files)))
        for file in files:
            position = self._checkpoint.position(file.address, heads[file.address])
            tasks[file.address] = self._bar.add_task(
                f"{file.name} (bytes)", total=file.size, completed=position
            )
            streams.append(parcels(file, position, most))
        for parcel in in_turns(streams):
            address = parcel.file.address
            self._post_lines(form, parcel.file, parcel.lines)
            self._checkpoint.save(address, heads[address], parcel.position)
            self._bar.update(tasks[address], completed=parcel.position)
        for task in tasks.values():
            self._bar.remove_task(task)

    def _post_lines(self, form: str, file: File, lines: list[bytes]) -> None:
        """Send lines; those that are too many for one request go in two."""
        path, parameters = self._address(form, file, lines[0])
        try:
            answer = self._sender.send_bytes("POST", path, b"\n".join(lines), NDJSON, parameters)
        except AllRejectedError as fault:
            answer = {"accepted": 0, "duplicates": 0, "rejected": fault.rejected}
        except TooLargeError:
            middle = len(lines) // 2
            if middle == 0:
                raise
            self._post_lines(form, file, lines[:middle])
            self._post_lines(form, file, lines[middle:])
            return
        self.totals.add(self.totals.events, answer, len(lines))
        if "rows" in answer:
            self.totals.add_rows(answer["rows"])

    def _address(self, form: str, file: File, first: bytes) -> tuple[str, dict[str, str]]:
        """Return where lines are sent, and what they cannot say themselves."""
        plan = self._plan
        target = {"model": plan.model, "version": plan.version}
        if form == "records":
            # One file has one kind of record.
            is_label = b'"label_ts"' in first
            return (
                ("/v1/labels", {"model": plan.model}) if is_label else ("/v1/predictions", target)
            )
        said = dict(plan.parameters)
        known = said.pop("label_ts", None) or hour_of(file)
        if form == "sagemaker" and known:
            said["label_ts"] = known
        return _ROUTES[form], {**target, **said}


def run(plan: Plan) -> int:
    """Import with a progress bar; return 1 when records were refused."""
    files = list(itertools.chain.from_iterable(map(find_files, plan.addresses)))
    twice = [name for name, count in Counter(file.address for file in files).items() if count > 1]
    if twice:
        message = f"{twice[0]} is named twice"
        raise SourceError(message)
    with Sender(plan.url, key=plan.key, patience=FIRST_PATIENCE) as sender:
        version = find_version(plan, sender)
    console = Console(stderr=True)
    began = time.monotonic()
    with (
        Checkpoint(plan.checkpoint) as checkpoint,
        Sender(plan.url, key=plan.key, patience=PATIENCE) as sender,
        progress_on(console, "") as bar,
    ):
        totals = Import(plan, sender, checkpoint, bar).run(files, version)
    parts = [
        (name, counter)
        for name, counter in (
            ("lines", totals.events),
            ("predictions", totals.predictions),
            ("labels", totals.labels),
        )
        if counter
    ]
    tell(totals.lines(parts, time.monotonic() - began))
    return 1 if totals.rejected else 0
