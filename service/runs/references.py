"""Storing a reference: its schema, the edges, its profiles, the calibrator and a sample."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from service.access.audit import audit
from service.buckets.reader import most_rows
from service.buckets.service import profiled_columns
from service.detection.estimates import calibrators_to_bytes, fit_calibrators
from service.errors import ConflictError, InvalidDocumentError
from service.ledger.calendar import calendar_start
from service.profiles.binning import Binning as Edges
from service.profiles.segments import (
    Segment,
    chunk_segments,
    segment_reference,
    segments_to_bytes,
)
from service.profiles.serialise import binning_from_bytes, binning_to_bytes
from service.registry.monitor import MonitorDocument
from service.registry.privacy import Pseudonyms
from service.registry.repository import (
    find_monitor,
    find_version,
    latest_binning,
    next_revision,
)
from service.registry.service import infer_schema, lock_model, require_key
from service.registry.tables import Binning, Reference
from service.registry.values import ATTRIBUTION, ATTRIBUTIONS, FeatureSpec, VersionSpec
from service.runs.binnings import output_of
from service.runs.planning import mark_version
from service.runs.reference_columns import ReferenceRows, conform
from service.runs.reference_edges import choose_edges, derive_reference
from service.runs.reference_files import read_file
from service.runs.reference_warnings import find_warnings

SAMPLE_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on disk, and how its columns are to be read."""

    path: Path
    media: str
    names: Mapping[str, str]
    ignore: frozenset[str]


@dataclass(frozen=True, slots=True)
class StoredReference:
    """What the sender of a reference is told."""

    version: VersionSpec
    revision: int
    binning_revision: int
    rows: int
    labelled: int
    chunks: int
    warnings: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Known:
    version: VersionSpec
    monitor: MonitorDocument
    binning_id: int | None
    edges: Edges | None


def store_reference(
    sessions: sessionmaker[Session],
    model: str,
    version: str,
    upload: Upload,
    pseudonyms: Pseudonyms | None = None,
    *,
    actor: str = "local",
) -> StoredReference:
    """Read, profile and store a reference; nothing of it is stored if anything is wrong."""
    with sessions.begin() as session:
        require_key(session, pseudonyms)
        known = _load(session, model, version)
    rows, warnings = _read(upload, known.version, pseudonyms)
    planned = _planned(known.version, rows)
    columns = profiled_columns(planned)
    edges = choose_edges(known.edges, rows.table, columns, output_of(planned))
    table = derive_reference(rows.table, columns, edges, known.edges)
    segments = segment_reference(table, columns, edges)
    label = pc.is_valid(rows.table["label"]) if "label" in rows.table.column_names else None
    labelled = int(pc.sum(label).as_py() or 0) if label is not None else 0
    calibrators = fit_calibrators(rows.table, edges.output)
    values = {
        "rows": rows.table.num_rows,
        "labelled": labelled,
        "chunks": _chunks(known.monitor, segments),
        "warnings": warnings + find_warnings(rows.table, planned),
        "segments": segments_to_bytes(segments),
        "calibrator": None if calibrators is None else calibrators_to_bytes(calibrators),
        "sample": sample_file(table, sum(own.length or 0 for own in planned.features)),
    }
    with sessions.begin() as session:
        stored = _record(session, known, rows, edges, values)
        details = {"revision": stored.revision, "rows": stored.rows}
        audit(session, actor, "reference.put", f"version:{model}@{version}", details)
    return stored


def _load(session: Session, model: str, version: str) -> _Known:
    spec = find_version(session, model, version)
    monitor = find_monitor(session, spec.model_id).document
    stored = latest_binning(session, spec.model_id)
    # Edges that were frozen on a model's first rows make way for those of its first reference.
    referenced = session.scalar(
        select(func.count()).select_from(Reference).where(Reference.model_id == spec.model_id)
    )
    edges = binning_from_bytes(stored.content) if stored and referenced else None
    return _Known(spec, monitor, stored.id if stored else None, edges)


def _read(
    upload: Upload, version: VersionSpec, pseudonyms: Pseudonyms | None
) -> tuple[ReferenceRows, list[dict[str, Any]]]:
    declared = {feature.name: feature.kind for feature in version.features}
    texts = {name for name, kind in declared.items() if kind in {"categorical", "text"}}
    table, unnamed = read_file(upload.path, upload.media, upload.ignore, texts - upload.ignore)
    if not table.num_rows:
        message = "the reference has no rows"
        raise InvalidDocumentError(message, code="empty-reference")
    rows = conform(table, upload.names, declared, version, pseudonyms)
    return rows, [{"code": "unnamed-column", "column": name} for name in unnamed]


def _planned(version: VersionSpec, rows: ReferenceRows) -> VersionSpec:
    """Return the version as it will be; slots come with the transaction that stores it."""
    known = {feature.name for feature in version.features}
    added = tuple(
        FeatureSpec(feature.name, feature.kind, "", None, None, None, feature.length)
        for feature in rows.features
        if feature.name not in known
    )
    classes = version.classes or rows.classes or ()
    positive = version.positive_class
    if version.task == "binary" and rows.classes and positive is None:
        positive = rows.classes[1]
    features = version.features + added
    attributed = version.attributed or rows.attributed
    names = (f"{ATTRIBUTIONS}.{feature.name}" for feature in features if attributed)
    return replace(
        version,
        features=features,
        attributions=tuple(FeatureSpec(name, ATTRIBUTION, "", None, None, None) for name in names),
        classes=classes,
        positive_class=positive,
    )


def _chunks(monitor: MonitorDocument, segments: Sequence[Segment]) -> int:
    """Return how many windows the reference has; without times it is one."""
    if any(segment.start is None for segment in segments):
        return 1
    calendar = partial(calendar_start, length=monitor.window, zone=ZoneInfo(monitor.timezone))
    return len(chunk_segments(segments, calendar, 1))


def sample_file(rows: pa.Table, elements: int = 0) -> bytes:
    """Return a sample of the rows as a Parquet file; the same rows give the same sample.

    ``elements`` are the numbers in the vectors of a row: the longer they are, the fewer rows.
    """
    most = min(SAMPLE_ROWS, most_rows(elements))
    if rows.num_rows > most:
        chosen = np.random.default_rng(0).choice(rows.num_rows, most, replace=False)
        rows = rows.take(pa.array(np.sort(chosen)))
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, compression="zstd")
    return buffer.getvalue()


def _record(
    session: Session,
    known: _Known,
    rows: ReferenceRows,
    edges: Edges,
    values: Mapping[str, Any],
) -> StoredReference:
    lock_model(session, known.version.model)
    current = latest_binning(session, known.version.model_id)
    if (current.id if current else None) != known.binning_id:
        message = "another reference of the model was stored meanwhile; send this one again"
        raise ConflictError(message)
    version = infer_schema(
        session, known.version, rows.features, rows.classes, attributions=rows.attributed
    )
    if current is None or edges is not known.edges:
        current = _new_binning(session, version.model_id, edges)
    newest = session.scalar(
        select(func.max(Reference.revision)).where(Reference.version_id == version.version_id)
    )
    reference = Reference(
        model_id=version.model_id,
        version_id=version.version_id,
        revision=(newest or 0) + 1,
        binning_id=current.id,
        **values,
    )
    session.add(reference)
    session.flush()
    if newest is None:
        # What was judged with nothing to compare it with can be judged now.
        mark_version(session, version.model_id, version.version_id)
    return StoredReference(
        version,
        reference.revision,
        current.revision,
        reference.rows,
        reference.labelled,
        reference.chunks,
        reference.warnings,
    )


def _new_binning(session: Session, model_id: int, edges: Edges) -> Binning:
    row = Binning(
        model_id=model_id,
        revision=next_revision(session, Binning, model_id),
        content=binning_to_bytes(edges),
    )
    session.add(row)
    session.flush()
    return row
