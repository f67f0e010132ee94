"""What needs rows, after a window's verdict, in a process of its own.

Evidently and scikit-learn cost seconds and hundreds of MB to import, and a test may hang.  What is
found is kept, and the window is judged again with it.
"""

import logging
import multiprocessing
import os
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import or_, select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.reader import RowReader
from service.db.outage import DATABASE, pause_after
from service.evaluation.evidently import ENGINE as EVIDENTLY
from service.evaluation.evidently import Subject
from service.evaluation.measurement import Measurement as Measured
from service.evaluation.rows import failures
from service.ledger.marks import mark
from service.ledger.repository import Claim, ClaimLostError, claim_one, finish, release
from service.runs.findings import Basis, held_findings, load_findings, store_findings
from service.runs.knowledge import newest_erasure
from service.runs.leases import LeaseKeeper
from service.runs.recording import latest_window, measured_of
from service.runs.row_material import load_material, measure_engine, render
from service.runs.tables import Measurement, Report, Window
from service.telemetry import configure_logging, logging_setup

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
RETRY = timedelta(seconds=30)
GIVE_UP_AFTER = 3
TASK_SECONDS = 300


class _StoppedError(Exception):
    """The worker stops; nobody waits for the library."""


class RowStage:
    """Measures samples of closed windows, and renders Evidently's reports on demand."""

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
        self._erasure: int | None = None

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; what is under way then is given back."""
        self._stop = stop
        failures = 0
        try:
            while not stop.is_set():
                try:
                    worked = self._work_once()
                except SQLAlchemyError as error:
                    DATABASE.fails("evidently", error)
                    failures += 1
                    stop.wait(pause_after(failures))
                    continue
                DATABASE.works("evidently")
                failures = 0
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
            self._erasure = newest_erasure(session)
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
        except Exception as error:  # noqa: BLE001  a library's failure must not cost the worker
            self._note(claim, error)
            with suppress(ClaimLostError), self._sessions.begin() as session:
                release(session, [claim], retry_in=RETRY, error=type(error).__name__)
        return True

    def _do(self, claim: Claim) -> None:
        if claim.kind == "report":
            self._report(claim)
        elif "data_digest" in claim.details:
            self._find(claim)
        else:
            # It was asked for before windows were judged with what is found.
            self._hand_over(claim, None, {})

    def _find(self, claim: Claim) -> None:
        with self._sessions() as session:
            asked = Basis(**{field.name: claim.details[field.name] for field in fields(Basis)})
            material = load_material(session, self._reader, claim.item, asked.reference_revision)
            held = held_findings(load_findings(session, claim.item), asked)
        if material is None:
            self._hand_over(claim, None, {})
            return
        basis = replace(asked, config_revision=material.monitor.revision)
        found: dict[str, Sequence[Measured]] = {}
        failed = None
        for engine in claim.details["engines"]:
            if engine in held:
                continue
            try:
                found[engine] = self._call(measure_engine, engine, material)
            except (_StoppedError, SQLAlchemyError):
                raise
            except Exception as error:  # noqa: BLE001  one engine's failure must not cost the others
                self._note(claim, error)
                if claim.attempts >= GIVE_UP_AFTER:
                    found[engine] = failures(engine, f"gave up: {type(error).__name__}")
                else:
                    failed = error
        self._hand_over(claim, basis, found, failed)

    def _hand_over(
        self,
        claim: Claim,
        basis: Basis | None,
        found: Mapping[str, Sequence[Measured]],
        failed: Exception | None = None,
    ) -> None:
        """Keep what was found, and have the window judged again with it."""
        with self._sessions.begin() as session:
            if self._is_stale(session, claim):
                return
            if failed is None:
                finish(session, [claim])
            else:
                release(session, [claim], retry_in=RETRY, error=type(failed).__name__)
            if basis is not None:
                store_findings(session, claim.item, basis, found)
            mark(session, "window", [claim.item])

    def _report(self, claim: Claim) -> None:
        with self._sessions() as session:
            window = latest_window(session, claim.item)
            revision = window.reference_revision if window is not None else None
            material = load_material(session, self._reader, claim.item, revision)
            measurements = _shown(session, window) if window is not None else []
        error, html = None, b""
        if window is not None and material is not None:
            name, item = material.version, claim.item
            subject = Subject(name.model, name.version, item.start, item.end)
            try:
                html = self._call(render, subject, measurements, material)
            except (_StoppedError, SQLAlchemyError):
                raise
            except Exception as failure:
                if claim.attempts < GIVE_UP_AFTER:
                    raise
                self._note(claim, failure)
                error = type(failure).__name__
        with self._sessions.begin() as session:
            if self._is_stale(session, claim):
                return
            finish(session, [claim])
            if window is not None and material is not None:
                content = {"content": zlib.compress(html, 6), "error": error}
                session.execute(
                    pg_insert(Report)
                    .values(window_id=window.id, **content)
                    .on_conflict_do_nothing()
                )

    def _is_stale(self, session: Session, claim: Claim) -> bool:
        """Give back what may have been made of rows that were erased meanwhile."""
        stale = newest_erasure(session) != self._erasure
        if stale:
            release(session, [claim], retry_in=timedelta(0))
        return stale

    def _note(self, claim: Claim, error: Exception) -> None:
        log.error("%s failed", claim.kind, exc_info=error)
        if isinstance(error, (BrokenExecutor, TimeoutError)):
            self._end_pool()

    def _call(self, function: Any, *arguments: Any) -> Any:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                max_workers=1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=logging_setup(),
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


def _begin(level: str, style: Literal["plain", "json"]) -> None:
    """Prepare the process that measures."""
    configure_logging(level, style=style)
    _use_one_core()
    threading.Thread(target=_end_with_worker, name="end-with-worker", daemon=True).start()


def _end_with_worker() -> None:
    """End when the worker is gone, killed or not.

    The queue of its work does not tell: a process of a pool holds the writing end as well.
    """
    worker = multiprocessing.parent_process()
    if worker is not None:
        worker.join()
        os._exit(1)


def _use_one_core() -> None:
    """Keep libraries from threads that spin where several workers share the machine.

    Their number is read when scikit-learn is loaded, which is later.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # noqa: TID251  OpenMP reads it, not we


def _shown(session: Session, window: Window) -> list[Measured]:
    """Return what a report says beside Evidently's own scores."""
    rows = session.scalars(
        select(Measurement)
        .where(
            Measurement.window_id == window.id,
            or_(Measurement.engine != EVIDENTLY, Measurement.verdict.is_not(None)),
        )
        .order_by(Measurement.position)
    )
    return [measured_of(row) for row in rows]
