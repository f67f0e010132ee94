"""The rows of a subject, wherever they are kept, and what they said."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from service.foreign.tables import PendingPair
from service.ingest.erased import ErasedKey
from service.ingest.tables import (
    DeadLetter,
    Label,
    PendingLabel,
    PredictionIdentity,
    prediction,
)
from service.ledger.calendar import BUCKET, bucket_start
from service.ledger.marks import Item
from service.registry.privacy import SUBJECT, Pseudonyms, is_hash

_NOT_PENDING = text(
    "UPDATE arrival SET pending = ARRAY(SELECT p FROM unnest(pending) AS p WHERE p <> ALL(:ids)) "
    "WHERE model_id = :model AND pending && CAST(:ids AS text[])"
)

# An answer names the predictions that it refused.
_KNOWN = text(
    "DELETE FROM known_batch WHERE EXISTS (SELECT FROM unnest(CAST(:ids AS text[])) AS i "
    "WHERE position(convert_to(to_json(i)::text, 'UTF8') IN answer) > 0)"
)

COUNTED = (
    *("rows", "labels", "pending_labels", "identities", "known_batches", "dead_letters"),
    *("pending_pairs", "reference_rows", "edges", "reports", "mentions", "buckets"),
)
"""What a receipt counts, whether there was any or none."""

# What is in a slot comes by the slot, for versions may call it otherwise.
SLOT = "#"

Values = dict[int, dict[str, set[Any]]]
"""By model and column of the table."""


@dataclass(slots=True)
class Found:
    """What is known of a subject: its names, its predictions, and what their rows said."""

    names: set[str]
    ids: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    values: Values = field(default_factory=dict)
    buckets: set[Item] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))


def names_of(session: Session, pseudonyms: Pseudonyms, subject: str) -> set[str]:
    """Return how a subject may be stored: hashed, or as it is if there was no key then."""
    hashed = pseudonyms.of(SUBJECT, subject)
    names = {hashed, subject}
    if is_hash(subject):
        # A receipt that is replayed: whoever was stored before there was a key must be hashed.
        for table in (prediction.c.subject, DeadLetter.subject, PendingPair.subject):
            plain = session.scalars(select(table).where(table.is_not(None)).distinct())
            names.update(name for name in plain if pseudonyms.of(SUBJECT, name) == subject)
    return names


def find(session: Session, names: set[str]) -> tuple[Found, list[ErasedKey]]:
    """Return the subject's predictions, each with its time; those put aside may have none."""
    found = Found(names)
    keys: list[ErasedKey] = []
    columns = prediction.c
    rows = session.execute(
        select(columns.model_id, columns.prediction_id, columns.ts).where(
            columns.subject.in_(names)
        )
    )
    keys += [((model_id, name), ts) for model_id, name, ts in rows]
    aside = session.execute(
        select(DeadLetter.model_id, DeadLetter.prediction_id).where(
            DeadLetter.subject.in_(names), DeadLetter.prediction_id.is_not(None)
        )
    )
    keys += [((model_id, str(name)), None) for model_id, name in aside]
    halves = session.execute(
        select(PendingPair.model_id, PendingPair.correlation).where(PendingPair.subject.in_(names))
    )
    keys += [((model_id, name), None) for model_id, name in halves]
    for (model_id, name), _ in keys:
        found.ids[model_id].add(name)
    return found, keys


def delete_rows(session: Session, found: Found) -> None:
    """Delete the subject's rows and all that goes by their ids."""
    for model_id, ids in found.ids.items():
        _delete_predictions(session, found, model_id, sorted(ids))
        for name, table in (
            ("labels", Label),
            ("pending_labels", PendingLabel),
            ("identities", PredictionIdentity),
        ):
            gone = session.execute(
                delete(table).where(table.model_id == model_id, table.prediction_id.in_(ids))
            )
            _count(found, name, gone)
        session.execute(_NOT_PENDING, {"model": model_id, "ids": sorted(ids)})
        _count(found, "known_batches", session.execute(_KNOWN, {"ids": sorted(ids)}))
        letters = delete(DeadLetter).where(
            DeadLetter.model_id == model_id, DeadLetter.prediction_id.in_(ids)
        )
        _count(found, "dead_letters", session.execute(letters))
        pairs = delete(PendingPair).where(
            PendingPair.model_id == model_id, PendingPair.correlation.in_(ids)
        )
        _count(found, "pending_pairs", session.execute(pairs))
    for name, subject in (
        ("dead_letters", DeadLetter.subject),
        ("pending_pairs", PendingPair.subject),
    ):
        gone = session.execute(delete(subject.class_).where(subject.in_(found.names)))
        _count(found, name, gone)


def _delete_predictions(
    session: Session, found: Found, model_id: int, ids: Collection[str]
) -> None:
    columns, identity = prediction.c, PredictionIdentity
    # An id is one event, whichever versions of the model have predicted for it.
    known = select(identity.prediction_id, identity.version_id, identity.ts).where(
        identity.model_id == model_id, identity.prediction_id.in_(ids)
    )
    wanted = known.subquery()
    of_identity = (
        columns.version_id == wanted.c.version_id,
        columns.ts == wanted.c.ts,
        columns.prediction_id == wanted.c.prediction_id,
    )
    number = 0
    for which in (of_identity, (columns.subject.in_(found.names),)):
        gone = delete(prediction).where(columns.model_id == model_id, *which)
        for row in session.execute(gone.returning(*columns)).mappings():
            number += 1
            start = bucket_start(row["ts"])
            found.buckets.add(Item(model_id, row["version_id"], start, start + BUCKET))
            _learn(found.values.setdefault(model_id, {}), row)
    found.counts["rows"] += number


def _learn(values: dict[str, set[Any]], row: Mapping[Any, Any]) -> None:
    for column in prediction.columns:
        value = row[column.name]
        if column.name[0] in "cn" and column.name[1:].isdecimal() and value is not None:
            values.setdefault(f"{SLOT}{column.name}", set()).add(value)
    for name, value in (row["tags"] or {}).items():
        values.setdefault(f"tags.{name}", set()).add(value)


def _count(found: Found, name: str, gone: Any) -> None:
    found.counts[name] += gone.rowcount
