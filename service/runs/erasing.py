"""A subject is erased: its rows, what goes by them, and what only they said.

First its predictions are remembered (by a keyed hash), so that nothing brings them back; then
whoever is storing rows is waited for; then all of it goes in one transaction, which marks the
buckets of the rows: the worker profiles them and judges their windows again.

What a profile sums up of rows that retention has dropped stays: it cannot be made again, and a sum
of many rows names nobody.
"""

import io
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import delete, exists, select, text
from sqlalchemy.orm import Session, sessionmaker

from service.access.audit import audit
from service.buckets.columns import profiled_columns
from service.detection.estimates import calibrators_to_bytes, fit_calibrators
from service.ingest.erased import remember
from service.ledger.marks import mark
from service.profiles.segments import segment_reference, segments_to_bytes
from service.profiles.serialise import binning_from_bytes
from service.registry.privacy import SUBJECT, Pseudonyms
from service.registry.repository import find_version_by_id, load_binning, reference_sample
from service.registry.service import require_key
from service.registry.tables import Reference
from service.runs.erasing_names import forget_edges, nearest_value, only_erased, scrub
from service.runs.erasing_rows import Found, delete_rows, find, names_of
from service.runs.reference_work import sample_file
from service.runs.tables import Erasure, Report, RowFinding, Window


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was erased, and when; the subject is there as its hash alone."""

    id: int
    subject: str
    counts: dict[str, int]
    erased_at: datetime


def erase(
    sessions: sessionmaker[Session], pseudonyms: Pseudonyms, subject: str, *, actor: str
) -> Receipt:
    """Erase a subject, of every model; a hash of it does as well, as from a receipt."""
    with sessions.begin() as session:
        require_key(session, pseudonyms)
        names = names_of(session, pseudonyms, subject)
        _, keys = find(session, names)
        remember(session, pseudonyms, keys)
    with sessions.begin() as session:
        # Whoever writes rows has seen what is remembered now, or is done once this is had.
        session.execute(text("SET LOCAL lock_timeout = '3s'"))
        session.execute(text("LOCK TABLE prediction_identity, label IN SHARE MODE"))
    with sessions.begin() as session:
        found, keys = find(session, names)
        remember(session, pseudonyms, keys)
        delete_rows(session, found)
        _references(session, found)
        for model_id in sorted({*found.values, *found.ids}):
            _forget(session, found, model_id)
        for kind in ("bucket_rows", "bucket_labels"):
            mark(session, kind, found.buckets)
        found.counts["buckets"] = len(found.buckets)
        receipt = Erasure(subject=pseudonyms.of(SUBJECT, subject), counts=found.counts)
        session.add(receipt)
        session.flush()
        audit(session, actor, "subject.erase", f"erasure:{receipt.id}", found.counts)
        return Receipt(receipt.id, receipt.subject, dict(found.counts), receipt.erased_at)


def _references(session: Session, found: Found) -> None:
    """Take the subject out of the references, one at a time: each may be large."""
    for reference_id in list(session.scalars(select(Reference.id).order_by(Reference.id))):
        sample = reference_sample(session, reference_id)
        if SUBJECT not in pq.read_schema(io.BytesIO(sample)).names:
            continue
        known = pq.read_table(io.BytesIO(sample), columns=[SUBJECT])
        mine = pc.is_in(known.column(SUBJECT), pa.array(sorted(found.names)))
        if not pc.any(mine).as_py():
            continue
        table = pq.read_table(io.BytesIO(sample))
        reference = session.get_one(Reference, reference_id)
        values = found.values.setdefault(reference.model_id, {})
        for name in table.column_names:
            said = pc.unique(pc.drop_null(table.column(name).filter(mine)))
            if pa.types.is_string(said.type) or pa.types.is_floating(said.type):
                values.setdefault(name, set()).update(said.to_pylist())
        found.counts["reference_rows"] += pc.sum(mine).as_py()
        _rewrite(session, reference, table.filter(pc.invert(mine)), len(table))
        session.expunge(reference)


def _rewrite(session: Session, reference: Reference, table: pa.Table, rows: int) -> None:
    """Store what is left of a reference.  Of a sample of a larger one only the rows go.

    The profiles of more rows than are kept cannot be made again; they are sums of many.
    """
    if rows == reference.rows and len(table):
        version = find_version_by_id(session, reference.version_id)
        edges = binning_from_bytes(load_binning(session, reference.binning_id))
        segments = segment_reference(table, profiled_columns(version), edges)
        calibrators = fit_calibrators(table, edges.output)
        reference.segments = segments_to_bytes(segments)
        reference.calibrator = None if calibrators is None else calibrators_to_bytes(calibrators)
        labels = table.column("label") if "label" in table.column_names else None
        reference.rows = len(table)
        reference.labelled = 0 if labels is None else len(labels) - labels.null_count
    reference.sample = sample_file(table)
    # A report shows rows of the reference, too.
    windows = select(Window.id).where(Window.version_id == reference.version_id)
    session.execute(delete(Report).where(Report.window_id.in_(windows)))
    session.flush()


def _forget(session: Session, found: Found, model_id: int) -> None:
    values = found.values.get(model_id, {})
    samples = session.scalars(select(Reference.sample).where(Reference.model_id == model_id))
    kept = [pq.read_table(io.BytesIO(sample)) for sample in samples]
    gone = only_erased(session, model_id, values, kept)
    nearest = nearest_value(session, model_id, kept)
    counts = found.counts
    counts["edges"] += forget_edges(session, model_id, gone, nearest)
    counts["reports"] += _drop_cached(session, found, model_id)
    counts["mentions"] += scrub(session, model_id, gone)


def _drop_cached(session: Session, found: Found, model_id: int) -> int:
    """Drop what was made of the rows of the buckets: reports, and findings."""
    number = 0
    for item in found.buckets:
        if item.model_id != model_id:
            continue
        over = (
            Window.version_id == item.version_id,
            Window.start < item.end,
            Window.end > item.start,
        )
        done: Any = session.execute(
            delete(Report).where(exists().where(Window.id == Report.window_id, *over))
        )
        number += done.rowcount
        session.execute(
            delete(RowFinding).where(
                RowFinding.version_id == item.version_id,
                RowFinding.start < item.end,
                RowFinding.end > item.start,
            )
        )
    return number
