"""The part of a request that can be stored, and what is taken out of it again."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from service.ingest.erased import REFUSAL, PredictionKey
from service.ingest.labels import PreparedLabel
from service.ingest.letters import Letter, write_letter
from service.ingest.partitions import ModelMonth, month_of_hour
from service.ingest.rows import PreparedRow
from service.ingest.times import HOUR
from service.ingest.verdicts import Code, RowError, Verdicts


@dataclass(slots=True)
class Batch:
    """The part of a request that can be stored."""

    verdicts: Verdicts
    rows: list[PreparedRow] = field(default_factory=list)
    labels: list[PreparedLabel] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    """Rows of it that the database refuses."""
    replayed: int | None = None
    """The dead letter that holds its one row."""
    whole: bool = True
    """It is all of what its request stores."""
    undecided: "list[Batch]" = field(default_factory=list)
    """Parts of it that take long: with a row to be found that the database refuses, or of months
    to be made."""

    def __len__(self) -> int:
        return len(self.rows) + len(self.labels)

    def halves(self) -> "list[Batch]":
        """Split a batch of which the database refuses some row."""
        rows, labels = len(self.rows) // 2, len(self.labels) // 2
        return [
            Batch(
                self.verdicts,
                part_rows,
                part_labels,
                replayed=self.replayed,
                whole=False,
                undecided=self.undecided,
            )
            for part_rows, part_labels in (
                (self.rows[:rows], self.labels[:labels]),
                (self.rows[rows:], self.labels[labels:]),
            )
        ]


def prediction_key(item: PreparedRow | PreparedLabel) -> PredictionKey:
    """Return what it is erased by."""
    spec = item.layout.spec if isinstance(item, PreparedRow) else item.spec
    return spec.model_id, item.prediction_id


def refuse_erased(batches: Iterable[Batch], keys: Collection[PredictionKey]) -> None:
    """Take what has been erased out of the batches; it counts as no fault of the data."""
    for batch in batches:
        for item in _items(batch):
            if prediction_key(item) in keys:
                batch.verdicts.refuse(item.index, item.prediction_id, REFUSAL, item.model)
        batch.rows = [row for row in batch.rows if prediction_key(row) not in keys]
        batch.labels = [own for own in batch.labels if prediction_key(own) not in keys]


def _items(batch: Batch) -> list[PreparedRow | PreparedLabel]:
    return [*batch.rows, *batch.labels]


def postpone(batches: Iterable[Batch], months: Collection[ModelMonth]) -> None:
    """Leave the rows of some months undecided."""
    for batch in batches:
        rows, batch.rows = batch.rows, []
        late: list[PreparedRow] = []
        for row in rows:
            (late if _month(row) in months else batch.rows).append(row)
        if late:
            batch.whole = False
            batch.undecided.append(
                Batch(
                    batch.verdicts,
                    late,
                    replayed=batch.replayed,
                    whole=False,
                    undecided=batch.undecided,
                )
            )


def _month(row: PreparedRow) -> ModelMonth:
    return row.layout.spec.model_id, month_of_hour(row.ts // HOUR)


def refuse(batch: Batch, state: str) -> Batch:
    """Refuse what is left of a batch; the rest of it keeps the letters and counts the faults."""
    error = RowError(Code.DATABASE_REFUSED, None, "the database refuses the row")
    kept: list[Letter] = []
    for item in _items(batch):
        batch.verdicts.refuse(item.index, item.prediction_id, error, item.model)
        if batch.replayed is not None:
            continue
        fault = item.fault(error.code)
        batch.verdicts.faults[fault] += 1
        kept.append(
            write_letter(
                item.aside(item.owner.records[item.index]),
                model_id=fault.model_id,
                version_id=fault.version_id,
                model=item.model,
                kind="labels" if isinstance(item, PreparedLabel) else "predictions",
                state=state,
            )
        )
    return Batch(batch.verdicts, letters=kept, whole=False)
