"""Reading and profiling a reference: the work of a process that may die of a hostile file."""

import io
import pickle
import traceback
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.buckets.columns import most_rows, output_of, profiled_columns
from service.detection.estimates import calibrators_to_bytes, fit_calibrators
from service.errors import InvalidDocumentError, ServiceError
from service.ledger.calendar import calendar_start
from service.profiles.segments import (
    Segment,
    chunk_segments,
    segment_reference,
    segments_to_bytes,
)
from service.profiles.serialise import binning_from_bytes, binning_to_bytes
from service.registry.values import ATTRIBUTION, ATTRIBUTIONS, FeatureSpec, VersionSpec
from service.runs.reference_columns import ReferenceRows, conform
from service.runs.reference_edges import choose_edges, derive_reference
from service.runs.reference_files import read_file
from service.runs.reference_reading import Asked, Fault, Found, OutOfMemoryError, Work
from service.runs.reference_warnings import find_warnings

SAMPLE_ROWS = 50_000
_THREADS = 2


def answer(request: bytes) -> bytes:
    """Answer the process that has asked, which is ours; nothing that is sent is unpickled."""
    # A thread takes addresses of the few that there are, and the API has other work for the cores.
    pa.set_cpu_count(_THREADS)
    asked: Asked = pickle.loads(request)  # noqa: S301  written by our own process
    return msgspec.msgpack.encode(_found(asked))


def _found(asked: Asked) -> Found:
    try:
        return Found(work=work(asked))
    except MemoryError:
        return _found_wrong(OutOfMemoryError(asked.memory))
    except ServiceError as error:
        return _found_wrong(error)
    except Exception:  # noqa: BLE001  what is wrong with us is told by the process that logs
        return Found(fault=Fault(bug=traceback.format_exc()))


def _found_wrong(error: ServiceError) -> Found:
    rejected = [dict(each) for each in error.rejected]
    return Found(fault=Fault(error.detail, error.code, error.title, rejected, error.limit))


def work(asked: Asked) -> Work:
    """Read a file, and make all that is stored of it."""
    known = None if asked.edges is None else binning_from_bytes(asked.edges)
    rows, warnings = _read(asked)
    planned = _planned(asked.version, rows)
    columns = profiled_columns(planned)
    edges = choose_edges(known, rows.table, columns, output_of(planned))
    table = derive_reference(rows.table, columns, edges, known)
    segments = segment_reference(table, columns, edges)
    label = pc.is_valid(rows.table["label"]) if "label" in rows.table.column_names else None
    labelled = int(pc.sum(label).as_py() or 0) if label is not None else 0
    calibrators = fit_calibrators(rows.table, edges.output)
    return Work(
        features=[feature.model_dump() for feature in rows.features],
        classes=rows.classes,
        attributed=rows.attributed,
        edges=None if edges is known else binning_to_bytes(edges),
        values={
            "rows": rows.table.num_rows,
            "labelled": labelled,
            "chunks": _chunks(asked, segments),
            "warnings": warnings + find_warnings(rows.table, planned),
            "segments": segments_to_bytes(segments),
            "calibrator": None if calibrators is None else calibrators_to_bytes(calibrators),
            "sample": sample_file(table, sum(own.length or 0 for own in planned.features)),
        },
    )


def _read(asked: Asked) -> tuple[ReferenceRows, list[dict[str, Any]]]:
    upload, version = asked.upload, asked.version
    declared = {feature.name: feature.kind for feature in version.features}
    texts = {name for name, kind in declared.items() if kind in {"categorical", "text"}}
    table, unnamed = read_file(upload, texts - upload.ignore)
    if not table.num_rows:
        message = "the reference has no rows"
        raise InvalidDocumentError(message, code="empty-reference")
    rows = conform(table, upload.names, declared, version, asked.pseudonyms)
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


def _chunks(asked: Asked, segments: Sequence[Segment]) -> int:
    """Return how many windows the reference has; without times it is one."""
    if any(segment.start is None for segment in segments):
        return 1
    calendar = partial(calendar_start, length=asked.window, zone=ZoneInfo(asked.timezone))
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
