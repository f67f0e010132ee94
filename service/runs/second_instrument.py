"""Evidently, in a process of its own: its import costs seconds and 280 MB, its tests may hang."""

import logging
import multiprocessing
import threading
import time
import zlib
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, wait
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pyarrow as pa
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.reader import RowReader
from service.buckets.service import columns_of
from service.evaluation.evidently import Subject, measure, render_report
from service.evaluation.measurement import Direction, Verdict
from service.evaluation.measurement import Measurement as Measured
from service.ledger.repository import Claim, ClaimLostError, claim_one, finish, release
from service.profiles.arrays import output_columns
from service.profiles.columns import Column
from service.registry.repository import (
    find_monitor,
    find_reference,
    find_version_by_id,
    reference_sample,
)
from service.runs.binnings import output_of
from service.runs.leases import LeaseKeeper
from service.runs.recording import append_measurements
from service.runs.tables import Measurement, Report, Window

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
RETRY = timedelta(seconds=30)
GIVE_UP_AFTER = 3
TASK_SECONDS = 300


class _StoppedError(Exception):
    """The worker stops; nobody waits for the library."""


class SecondInstrument:
    """Measures closed windows with Evidently, and renders its reports on demand."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        url: str,
        leases: LeaseKeeper,
        *,
        worker: str,
        lease: timedelta,
    ) -> None:
        self._sessions = sessions
        self._reader = RowReader(url)
        self._leases = leases
        self._worker = worker
        self._lease = lease
        self._pool: ProcessPoolExecutor | None = None
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; what is under way then is given back."""
        self._stop = stop
        try:
            while not stop.is_set():
                try:
                    worked = self._work_once()
                except SQLAlchemyError as error:
                    log.warning("evidently: the database fails (%s)", type(error).__name__)
                    worked = False
                if not worked:
                    stop.wait(IDLE_SECONDS)
        finally:
            self._end_pool()
            self._reader.close()

    def _work_once(self) -> bool:
        with self._sessions.begin() as session:
            # Somebody waits for a report.
            claim = claim_one(session, "report", worker=self._worker, lease=self._lease)
            if claim is None:
                claim = claim_one(session, "evidently", worker=self._worker, lease=self._lease)
        if claim is None:
            return False
        try:
            with self._leases.hold([claim]):
                self._do(claim)
        except ClaimLostError:
            log.warning("lost the claim on %s %s", claim.kind, claim.item)
        except _StoppedError:
            with self._sessions.begin() as session:
                release(session, [claim], retry_in=timedelta(0))
        except SQLAlchemyError:
            raise
        except Exception as error:
            # The job's boundary: a library's failure costs its scores, never the worker.
            log.exception("%s failed", claim.kind)
            if isinstance(error, (BrokenExecutor, TimeoutError)):
                self._end_pool()
            with suppress(ClaimLostError), self._sessions.begin() as session:
                if claim.attempts >= GIVE_UP_AFTER:
                    finish(session, [claim])
                else:
                    release(session, [claim], retry_in=RETRY, error=type(error).__name__)
        return True

    def _do(self, claim: Claim) -> None:
        item = claim.item
        with self._sessions() as session:
            window = session.scalar(
                select(Window).where(
                    Window.version_id == item.version_id,
                    Window.start == item.start,
                    Window.end == item.end,
                    Window.latest,
                )
            )
            version = find_version_by_id(session, item.version_id)
            document = find_monitor(session, item.model_id).document
            reference = (
                find_reference(session, item.version_id, window.reference_revision)
                if window is not None and window.reference_revision is not None
                else None
            )
            sample = reference_sample(session, reference.id) if reference else None
            measurements = self._measurements(session, window) if window else []
        if window is None or sample is None:
            with self._sessions.begin() as session:
                finish(session, [claim])
            return
        rows = self._reader.sample(version, item.start, item.end, document.evidently.max_rows)
        columns = columns_of(version)
        if version.task != "binary":
            columns = (*columns, *output_columns(output_of(version)))
        methods = document.evidently.methods.model_dump()
        if claim.kind == "report":
            subject = Subject(version.model, version.version, item.start, item.end)
            html = self._call(_render, subject, measurements, sample, rows, columns, methods)
        else:
            measured = self._call(measure, sample, rows, columns, methods)
        with self._sessions.begin() as session:
            finish(session, [claim])
            if claim.kind == "report":
                content = zlib.compress(html, 6)
                session.execute(
                    pg_insert(Report)
                    .values(window_id=window.id, content=content)
                    .on_conflict_do_nothing()
                )
            elif self._still_wanted(session, window.id):
                append_measurements(session, window.id, measured)

    def _still_wanted(self, session: Session, window_id: int) -> bool:
        latest = session.scalar(
            select(Window.latest).where(Window.id == window_id).with_for_update()
        )
        there = session.scalar(
            select(Measurement.position)
            .where(Measurement.window_id == window_id, Measurement.engine == "evidently")
            .limit(1)
        )
        return bool(latest) and there is None

    def _measurements(self, session: Session, window: Window) -> list[Measured]:
        rows = session.scalars(
            select(Measurement)
            .where(Measurement.window_id == window.id, Measurement.engine == "profile")
            .order_by(Measurement.position)
        )
        return [measured_of(row) for row in rows]

    def _call(self, function: Any, *arguments: Any) -> Any:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                max_workers=1, mp_context=multiprocessing.get_context("spawn")
            )
        future = self._pool.submit(function, *arguments)
        deadline = time.monotonic() + TASK_SECONDS
        while True:
            done, _ = wait([future], timeout=0.2)
            if done:
                return future.result()
            if self._stop.is_set():
                raise _StoppedError
            if time.monotonic() > deadline:
                raise TimeoutError

    def _end_pool(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            for process in list(pool._processes.values()):  # noqa: SLF001  it may hang for ever
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)


def measured_of(row: Measurement) -> Measured:
    """Return a recorded measurement as a value."""
    return Measured(
        metric=row.metric,
        subject=row.subject,
        slice=row.slice,
        value=row.value,
        ci_low=row.ci_low,
        ci_high=row.ci_high,
        n=row.n,
        n_eff=row.n_eff,
        n_reference=row.n_reference,
        method=row.method,
        engine=row.engine,
        direction=Direction(row.direction),
        reference_value=row.reference_value,
        threshold=row.threshold,
        p_value=row.p_value,
        verdict=Verdict(row.verdict) if row.verdict else None,
        reason=row.reason,
    )


def _render(
    subject: Subject,
    measurements: list[Measured],
    sample: bytes,
    rows: pa.Table,
    columns: tuple[Column, ...],
    methods: dict[str, str],
) -> bytes:
    return render_report(
        subject, measurements, reference=sample, current=rows, columns=columns, methods=methods
    )
