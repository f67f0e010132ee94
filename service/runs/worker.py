"""The worker: a loop over the pipeline's steps, and two side threads that never delay it."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from service.access.door import Door
from service.buckets.faults import Faults
from service.buckets.reader import RowReader
from service.db.engine import make_engine, make_sessions
from service.db.outage import DATABASE, pause_after
from service.db.revisions import require_migrated
from service.errors import ModelwatchSetupError, NotMigratedError
from service.foreign.sweeping import Sweeper
from service.ingest.known import Forgetting
from service.ingest.waiting import WaitingLabels
from service.retraining.reconciling import reconcile_until
from service.runs.leases import LeaseKeeper
from service.runs.pipeline import Pipeline
from service.runs.retention import Retention
from service.runs.row_stage import RowStage
from service.settings import Settings
from service.telemetry import (
    JOB_DURATION,
    JOB_INTERVAL,
    JOB_LAST_SUCCESS,
    JOB_RUNS,
    serve_metrics,
)
from service.tracing import make_tracing
from service.webhooks.addresses import Allowed
from service.webhooks.delivery import Courier
from service.webhooks.sealing import key_from
from service.webhooks.sending import Sender, trusted

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 300.0


def _everybody(_authorization: str | None) -> HTTPStatus:
    return HTTPStatus.OK


class Worker:
    """One worker process; any number of them may run side by side."""

    def __init__(self, settings: Settings, *, keyless: bool = False) -> None:
        if settings.database_url is None:
            message = "the worker needs MODELWATCH_DATABASE_URL"
            raise ModelwatchSetupError(message)
        self._settings = settings
        self._keyless = keyless
        self._url = settings.database_url.get_secret_value()
        self._engine = make_engine(
            self._url, pool=settings.database_pool, patience=PATIENCE_SECONDS
        )
        self._sessions: sessionmaker[Session] = make_sessions(self._engine)
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._allowed = Allowed.read(settings.webhook_allow)
        self._key = key_from(settings)
        self._leases = LeaseKeeper(self._sessions, self._name, settings.lease)
        self._tracing = make_tracing("worker", on=settings.traces)
        self._tracer = self._tracing.tracer

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; a piece of work that is under way is finished."""
        settings = self._settings
        reader = RowReader(self._url)
        pipeline = Pipeline(
            self._sessions,
            reader,
            self._leases,
            worker=self._name,
            lease=settings.lease,
            quiet=settings.quiet,
            row_stage=settings.evidently,
        )
        retention = Retention(self._sessions, self._url)
        steps = self._steps(pipeline, retention)
        sides = self._sides(stop)
        for name in steps:
            JOB_INTERVAL.labels(name).set(settings.poll.total_seconds())
        stop_metrics = self._serve_metrics()
        self._await_tables(stop)
        self._leases.start()
        for side in sides:
            side.start()
        log.info("worker %s is running", self._name)
        try:
            self._work(steps, stop)
        finally:
            stop.set()
            for side in sides:
                side.join()
            self._leases.stop()
            stop_metrics()
            reader.close()
            retention.close()
            self._engine.dispose()
            self._tracing.end()

    def _steps(self, pipeline: Pipeline, retention: Retention) -> dict[str, Callable[[], bool]]:
        return {
            "collect": pipeline.collect,
            "plan": pipeline.plan,
            "profile": pipeline.profile,
            "ripen": pipeline.ripen,
            "listen": pipeline.listen,
            "judge": pipeline.judge,
            "sweep": Sweeper(self._settings, self._sessions, self._url).sweep_at_times,
            "drop": retention.drop,
            "count": Faults(self._sessions).fold,
            "expire": WaitingLabels(self._sessions, self._settings.label_ttl).sweep,
            "forget": Forgetting(self._sessions).forget,
        }

    def _sides(self, stop: threading.Event) -> list[threading.Thread]:
        sides = [threading.Thread(target=self._deliver, args=(stop,), name="delivery")]
        told = (stop, self._sessions, self._settings)
        sides.append(threading.Thread(target=reconcile_until, args=told, name="reconcile"))
        if self._settings.evidently:
            stage = RowStage(
                self._sessions,
                self._url,
                self._leases,
                worker=self._name,
                lease=self._settings.lease,
            )
            sides.append(threading.Thread(target=stage.run, args=(stop,), name="row-stage"))
        return sides

    def _serve_metrics(self) -> Callable[[], None]:
        port = self._settings.worker_metrics_port
        if port is None:
            return lambda: None
        admits = _everybody if self._keyless else Door(self._sessions).admits
        _, stop = serve_metrics(self._settings.host, port, admits)
        return stop

    def _await_tables(self, stop: threading.Event) -> None:
        """Wait until the database is there and migrated: what starts first does not matter."""
        failures = 0
        while not stop.is_set():
            try:
                with self._sessions() as session:
                    require_migrated(session.connection())
            except (SQLAlchemyError, NotMigratedError) as error:
                DATABASE.fails("worker", error)
                failures += 1
                stop.wait(pause_after(failures))
            else:
                return

    def _work(self, steps: dict[str, Callable[[], bool]], stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set():
            busy = self._round(steps)
            failures = failures + 1 if busy is None else 0
            if not busy:
                poll = self._settings.poll.total_seconds()
                stop.wait(pause_after(failures) if failures else poll)

    def _round(self, steps: dict[str, Callable[[], bool]]) -> bool | None:
        """Take each step; return whether any had something to do, None if the database failed."""
        busy = False
        for name, step in steps.items():
            began, started = time.time_ns(), time.perf_counter()
            try:
                worked = step()
            except SQLAlchemyError as error:
                # Claims end by themselves; what is due stays due.
                DATABASE.fails(name, error)
                JOB_RUNS.labels(name, "error").inc()
                return None
            DATABASE.works(name)
            if worked:
                # Only then: a job that finds nothing to do is no event, four times a second.
                self._tracer.start_span(f"job {name}", start_time=began).end()
                JOB_RUNS.labels(name, "done").inc()
                JOB_DURATION.labels(name).observe(time.perf_counter() - started)
            JOB_LAST_SUCCESS.labels(name).set_to_current_time()
            busy = busy or worked
        return busy

    def _deliver(self, stop: threading.Event) -> None:
        if self._key is None:
            log.info("no webhook is told: MODELWATCH_SECRET_KEY is not set")
            return
        Courier(self._sessions, Sender(self._allowed, trusted()), self._key).run(stop)
