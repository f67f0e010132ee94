"""What one transaction stores: identities, rows, labels, and the marks that they leave."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
import psycopg

from service.ingest import known, letters
from service.ingest.erased import REFUSAL, PredictionKey, models_with_erased, require_none_erased
from service.ingest.known import Entry
from service.ingest.labels import PreparedLabel, mark_labels
from service.ingest.letters import Letter, write_letter
from service.ingest.partitions import Partitions, month_of_hour
from service.ingest.rows import Layout, PreparedRow
from service.ingest.staging import (
    IDENTITY,
    LABEL,
    Item,
    Target,
    copy_into,
    copy_keys,
    in_order,
    stage_keys,
)
from service.ingest.times import HOUR
from service.ingest.verdicts import Code, Fault, RowError, Verdicts
from service.registry.privacy import Pseudonyms
from service.telemetry import INGEST_ROWS

_HOUR_SECONDS = 3_600


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
    """Parts of it with a row that the database refuses, which has not been found yet."""

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


Kept = tuple[list[Item], list[Item], list[Item]]
"""What is new, what says again what is stored, what contradicts it."""
Members = dict[Layout, list[PreparedRow]]
"""Rows by the columns that they fill, in the order of their arrival."""


def write(
    connection: psycopg.Connection,
    partitions: Partitions,
    batches: Sequence[Batch],
    *,
    staged: bool,
    pseudonyms: Pseudonyms | None = None,
) -> bool:
    """Store batches, complete their verdicts, and return whether some keys were there before.

    Unless ``staged``, such keys end the attempt with a ``UniqueViolation``, for the price of
    looking for them first is half of the throughput.
    """
    rows = [row for batch in batches for row in batch.rows]
    ordered, twice = in_order(rows)
    labels, _ = in_order(label for batch in batches for label in batch.labels)
    members = _by_layout(rows)
    hours = _hours_of(members)
    partitions.ensure(
        connection, {(layout.spec.model_id, month_of_hour(hour)) for layout, hour in hours}
    )
    with connection.transaction(), connection.cursor() as cursor:
        if pseudonyms is not None:
            # Without a key nothing can have been erased.
            models = {layout.spec.model_id for layout in members}
            touched = models_with_erased(cursor, models | {own.spec.model_id for own in labels})
            if touched:
                keys = {*map(_prediction_key, rows), *map(_prediction_key, labels)}
                require_none_erased(cursor, pseudonyms, touched, keys)
        if staged or twice:
            stored_rows = _store_keys(cursor, IDENTITY, ordered)
        else:
            if rows:
                copy_keys(cursor, IDENTITY, ordered)
            stored_rows = (rows, [], [])
        new_rows, _, row_conflicts = stored_rows
        if new_rows is not rows:
            members = _by_layout(new_rows)
            hours = _hours_of(members)
        for layout, own_rows in members.items():
            copy_into(cursor, "prediction", layout.columns, [row.cells for row in own_rows])
        stored_labels = _store_keys(cursor, LABEL, labels)
        new_labels, _, label_conflicts = stored_labels
        _mark_rows(cursor, hours)
        mark_labels(cursor, new_labels)
        lossy = new_rows if any(batch.verdicts.warnings for batch in batches) else []
        conflicts: list[PreparedRow | PreparedLabel] = [*row_conflicts, *label_conflicts]
        _count_faults(cursor, batches, conflicts, lossy)
        letters.keep(cursor, (letter for batch in batches for letter in batch.letters))
        letters.remove(cursor, _delivered(batches, conflicts))
        known.keep(cursor, _entries(batches, [*stored_rows[1], *stored_labels[1]], conflicts))
    for batch in batches:
        letters.count(batch.letters)
        batch.verdicts.accepted += len(batch)
        batch.verdicts.faults.clear()
    for layout, own_rows in members.items():
        INGEST_ROWS.labels(layout.model, "predictions", "accepted").inc(len(own_rows))
    for model, count in Counter(item.model for item in new_labels).items():
        INGEST_ROWS.labels(model, "labels", "accepted").inc(count)
    _tell_repeats(stored_rows, "predictions")
    _tell_repeats(stored_labels, "labels")
    return len(new_rows) < len(rows)


def _entries(
    batches: Iterable[Batch],
    repeats: Iterable[PreparedRow | PreparedLabel],
    conflicts: Iterable[PreparedRow | PreparedLabel],
) -> list[Entry]:
    """Return what the clients of keyed batches will be told; where nothing is kept, nothing."""
    keyed = [(b, b.verdicts.key) for b in batches if b.verdicts.key is not None and b.whole]
    if not keyed:
        return []
    again = Counter(id(item.owner) for item in repeats)
    refused: dict[int, list[tuple[int, RowError]]] = {}
    for item in conflicts:
        refused.setdefault(id(item.owner), []).append((item.index, item.conflict))
    entries = []
    for batch, key in keyed:
        owner = id(batch.verdicts)
        duplicates, bad = again[owner], refused.get(owner, [])
        accepted = len(batch) - duplicates - len(bad)
        if accepted + duplicates:
            document = batch.verdicts.foretold(accepted, duplicates, bad)
            entries.append(Entry(key, msgspec.json.encode(document)))
    return entries


def _store_keys(cursor: psycopg.Cursor, target: Target, items: list[Item]) -> Kept[Item]:
    if not items:
        return [], [], []
    new, same = stage_keys(cursor, target, items)
    known = new | same
    return (
        [items[n] for n in sorted(new)],
        [items[n] for n in sorted(same)],
        [item for n, item in enumerate(items) if n not in known],
    )


def _by_layout(rows: Iterable[PreparedRow]) -> Members:
    members: Members = {}
    for row in rows:
        members.setdefault(row.layout, []).append(row)
    return members


def _hours_of(members: Members) -> set[tuple[Layout, int]]:
    """Return every hour since 1970 that rows of a layout are in."""
    return {
        (layout, hour)
        for layout, rows in members.items()
        for hour in {row.ts // HOUR for row in rows}
    }


def _mark_rows(cursor: psycopg.Cursor, hours: Iterable[tuple[Layout, int]]) -> None:
    """Say which hours of which versions have new rows."""
    marks = {(own.spec.model_id, own.spec.version_id, hour) for own, hour in hours}
    if not marks:
        return
    models, versions, hours = zip(*sorted(marks), strict=True)
    cursor.execute(
        "INSERT INTO arrival (model_id, version_id, bucket, kind) "
        "SELECT m, v, to_timestamp(h), 'rows' "
        "FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS marks (m, v, h)",
        (list(models), list(versions), [hour * _HOUR_SECONDS for hour in hours]),
    )


def _count_faults(
    cursor: psycopg.Cursor,
    batches: Iterable[Batch],
    conflicts: Iterable[PreparedRow | PreparedLabel],
    lossy: Iterable[PreparedRow],
) -> None:
    """Count what was wrong with rows, per version and hour.

    A row that is sent again lost its features when it was stored: only new ones count.
    """
    faults: Counter[Fault] = Counter()
    for batch in batches:
        faults.update(batch.verdicts.faults)
    faults.update(item.fault(item.conflict.code) for item in conflicts)
    for row in lossy:
        faults.update(row.layout.fault(row.ts, name, "wrong-type") for name in row.wrong)
    if not faults:
        return
    models, versions, hours, fields, codes = zip(*faults, strict=True)
    cursor.execute(
        "INSERT INTO ingest_fault (model_id, version_id, bucket, field, code, rows) "
        "SELECT m, v, to_timestamp(h), f, c, n FROM unnest(%s::bigint[], %s::bigint[], "
        "%s::bigint[], %s::text[], %s::text[], %s::bigint[]) AS faults (m, v, h, f, c, n)",
        (
            list(models),
            list(versions),
            [hour * _HOUR_SECONDS for hour in hours],
            list(fields),
            list(codes),
            list(faults.values()),
        ),
    )


def _tell_repeats(kept: Kept[PreparedRow] | Kept[PreparedLabel], kind: str) -> None:
    """Correct the verdicts of requests that repeated something."""
    _, repeats, conflicts = kept
    for model, count in Counter(item.model for item in repeats).items():
        INGEST_ROWS.labels(model, kind, "duplicate").inc(count)
    for item in repeats:
        item.owner.accepted -= 1
        item.owner.duplicates += 1
    for item in conflicts:
        item.owner.accepted -= 1
        item.owner.refuse(item.index, item.prediction_id, item.conflict, item.model)


def _delivered(
    batches: Iterable[Batch], conflicts: Iterable[PreparedRow | PreparedLabel]
) -> set[int]:
    """Return the dead letters whose rows are stored now, or were stored before."""
    refused = {id(item.owner) for item in conflicts}
    return {
        batch.replayed
        for batch in batches
        if batch.replayed is not None and len(batch) and id(batch.verdicts) not in refused
    }


def _prediction_key(item: PreparedRow | PreparedLabel) -> PredictionKey:
    spec = item.layout.spec if isinstance(item, PreparedRow) else item.spec
    return spec.model_id, item.prediction_id


def refuse_erased(batches: Iterable[Batch], keys: Collection[PredictionKey]) -> None:
    """Take what has been erased out of the batches; it counts as no fault of the data."""
    for batch in batches:
        for item in _items(batch):
            if _prediction_key(item) in keys:
                batch.verdicts.refuse(item.index, item.prediction_id, REFUSAL, item.model)
        batch.rows = [row for row in batch.rows if _prediction_key(row) not in keys]
        batch.labels = [own for own in batch.labels if _prediction_key(own) not in keys]


def _items(batch: Batch) -> list[PreparedRow | PreparedLabel]:
    return [*batch.rows, *batch.labels]


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
