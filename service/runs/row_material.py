"""A sample of a window's rows, with all that a child process needs to measure it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy.orm import Session

from service.buckets.columns import columns_of, output_of
from service.buckets.reader import RowReader
from service.buckets.slicing import slicing_of
from service.detection.evidently_columns import with_targets
from service.detection.evidently_methods import METHODS
from service.evaluation.drift_columns import DriftPolicy
from service.evaluation.evidently import ENGINE as EVIDENTLY
from service.evaluation.evidently import Subject, measure, render_report
from service.evaluation.evidently_drift import evidently_test
from service.evaluation.measurement import Measurement as Measured
from service.evaluation.rows import Sampled, measure_rows
from service.ledger.marks import Item
from service.profiles.arrays import output_columns
from service.profiles.binning import Binning
from service.profiles.columns import Column, Kind
from service.profiles.derive import derive, expanded
from service.profiles.serialise import binning_from_bytes
from service.registry.repository import (
    find_monitor,
    find_reference,
    find_version_by_id,
    load_binning,
    reference_sample,
)
from service.registry.values import MonitorSpec, VersionSpec
from service.runs.policies import policies_of


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Everything that a window's rows are measured with."""

    version: VersionSpec
    monitor: MonitorSpec
    reference: bytes
    current: pa.Table
    columns: tuple[Column, ...]
    binning: Binning

    @property
    def tested(self) -> tuple[Column, ...]:
        """Return the columns that Evidently measures, those of the output included."""
        columns = tuple(expanded(self.columns))
        if self.version.task == "binary":
            return columns
        return (*columns, *output_columns(output_of(self.version)))

    @property
    def sampled(self) -> tuple[Column, ...]:
        """Return the columns that rows are measured by: what can be binned, and the vectors."""
        vectors = (column for column in self.columns if column.kind is Kind.EMBEDDING)
        # The rows of a reference that taught the words have no share of unknown ones: that alone
        # would tell them from a window's.
        taught = {f"{column.name}.oov" for column in self.columns if column.kind is Kind.TEXT}
        plain = (column for column in expanded(self.columns) if column.name not in taught)
        return (*plain, *vectors)


def load_material(
    session: Session, reader: RowReader, item: Item, reference_revision: int | None
) -> Material | None:
    """Read a sample of a window's rows and what it is measured with; none without a reference."""
    version = find_version_by_id(session, item.version_id)
    monitor = find_monitor(session, item.model_id)
    if reference_revision is None:
        return None
    reference = find_reference(session, item.version_id, reference_revision)
    if reference is None:
        return None
    sample = reference_sample(session, reference.id)
    binning = binning_from_bytes(load_binning(session, reference.binning_id))
    slicing = slicing_of(monitor.document)
    rows = reader.sample(
        version, item.start, item.end, monitor.document.evidently.max_rows, slicing.reads
    )
    columns = columns_of(version)
    rows, _ = derive(rows, columns, binning.sources)
    return Material(version, monitor, sample, rows, columns, binning)


def measure_engine(engine: str, material: Material) -> list[Measured]:
    """Measure a window's rows with one engine, in the child process."""
    document = material.monitor.document
    if engine == EVIDENTLY:
        methods = document.evidently.methods.model_dump()
        tested = material.tested
        return measure(
            material.reference,
            material.current,
            tested,
            methods,
            overrides=_overrides(tested, policies_of(document).drift),
        )
    sampled = Sampled(
        pq.read_table(io.BytesIO(material.reference)),
        material.current,
        material.sampled,
        material.binning,
    )
    return measure_rows(sampled, policies_of(document), engine)


def _overrides(columns: Sequence[Column], policy: DriftPolicy) -> dict[str, str]:
    """Return the tests that verdicts wait for, of the columns that can have them."""
    tests = {column.name: evidently_test(column.name, policy) for column in with_targets(columns)}
    return {
        column.name: test
        for column in with_targets(columns)
        if (test := tests[column.name]) is not None and column.kind in METHODS[test].kinds
    }


def render(subject: Subject, measurements: list[Measured], material: Material) -> bytes:
    """Render Evidently's report of a window, in the child process."""
    return render_report(
        subject,
        measurements,
        reference=material.reference,
        current=material.current,
        columns=material.tested,
        methods=material.monitor.document.evidently.methods.model_dump(),
        overrides=_overrides(material.tested, policies_of(material.monitor.document).drift),
    )
