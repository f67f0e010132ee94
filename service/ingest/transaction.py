"""What one transaction stores: identities, rows, labels, and the marks that they leave."""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import psycopg

from service.ingest import known, letters
from service.ingest.batch import Batch, prediction_key
from service.ingest.erased import models_with_erased, require_none_erased
from service.ingest.known import Entry
from service.ingest.labels import PreparedLabel, mark_labels
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
from service.ingest.verdicts import Fault, RowError
from service.registry.privacy import Pseudonyms
from service.telemetry import INGEST_ROWS

_HOUR_SECONDS = 3_600


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
        # Without a key nothing can have been erased.
        if pseudonyms is not None:
            _look_for_erased(cursor, pseudonyms, members, labels)
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
        _mark_rows(cursor, hours)
        mark_labels(cursor, stored_labels[0])
        lossy = new_rows if any(batch.verdicts.warnings for batch in batches) else []
        conflicts: list[PreparedRow | PreparedLabel] = [*row_conflicts, *stored_labels[2]]
        _count_faults(cursor, batches, conflicts, lossy)
        letters.keep(cursor, (letter for batch in batches for letter in batch.letters))
        letters.remove(cursor, _delivered(batches, conflicts))
        known.keep(cursor, _entries(batches, [*stored_rows[1], *stored_labels[1]], conflicts))
    _tell(batches, members, stored_rows, stored_labels)
    return len(new_rows) < len(rows)


def _look_for_erased(
    cursor: psycopg.Cursor, pseudonyms: Pseudonyms, members: Members, labels: list[PreparedLabel]
) -> None:
    models = {layout.spec.model_id for layout in members} | {own.spec.model_id for own in labels}
    touched = models_with_erased(cursor, models)
    if touched:
        keys = {prediction_key(row) for rows in members.values() for row in rows}
        keys |= {prediction_key(label) for label in labels}
        require_none_erased(cursor, pseudonyms, touched, keys)


def _tell(
    batches: Iterable[Batch],
    members: Members,
    rows: Kept[PreparedRow],
    labels: Kept[PreparedLabel],
) -> None:
    """Complete the verdicts of what is committed, and count it."""
    for batch in batches:
        letters.count(batch.letters)
        batch.verdicts.accepted += len(batch)
        batch.verdicts.faults.clear()
    for layout, own_rows in members.items():
        INGEST_ROWS.labels(layout.model, "predictions", "accepted").inc(len(own_rows))
    for model, count in Counter(item.model for item in labels[0]).items():
        INGEST_ROWS.labels(model, "labels", "accepted").inc(count)
    _tell_repeats(rows, "predictions")
    _tell_repeats(labels, "labels")


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
