"""The worker's steps over a test's database, and a model for them to work for."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.reader import RowReader
from service.evaluation.measurement import Direction
from service.evaluation.measurement import Measurement as Measured
from service.ingest.tables import Label, prediction
from service.ledger.tables import Arrival
from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.registry.repository import find_version
from service.registry.schemas import ModelDocument, VersionDocument
from service.registry.service import put_model, put_version
from service.registry.values import VersionSpec
from service.runs.delays import LABEL_DELAY
from service.runs.leases import LeaseKeeper
from service.runs.pipeline import Pipeline
from service.runs.reference_reading import Upload
from service.runs.references import store_reference
from service.runs.tables import Evaluation, Measurement, Window

Sessions = sessionmaker[Session]
DAY = datetime(2026, 11, 1, tzinfo=UTC)
ROWS = 600
LEASE = timedelta(minutes=1)
SCORE_OF_EVIDENTLY = Measured(
    metric="drift",
    subject="income",
    value=0.1,
    n=ROWS,
    method="evidently.wasserstein",
    engine="evidently",
    direction=Direction.HIGHER_IS_WORSE,
    verdict=None,
)


def a_pipeline(sessions: Sessions, reader: RowReader) -> Pipeline:
    return Pipeline(
        sessions,
        reader,
        LeaseKeeper(sessions, "test", LEASE),
        worker="test",
        lease=LEASE,
        quiet=timedelta(0),
        row_stage=False,
    )


def work(pipeline: Pipeline) -> None:
    """Do all that is due."""
    steps = (pipeline.collect, pipeline.plan, pipeline.profile)
    while sum(step() for step in steps) or pipeline.ripen() or pipeline.judge():
        pass


def declare(
    sessions: Sessions,
    engine: Engine,
    features: Sequence[dict[str, Any]],
    model: str = "loans",
    version: str = "1",
    *,
    partition: bool = True,
) -> VersionSpec:
    """Register a version of a binary model, and a partition for all its rows."""
    document = {"features": features, "classes": ["0", "1"], "positive_class": "1"}
    with sessions.begin() as session:
        put_model(session, model, ModelDocument.model_validate({"task": "binary"}))
        put_version(session, model, version, VersionDocument.model_validate(document))
        found = find_version(session, model, version)
    if not partition:
        return found
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE IF NOT EXISTS part_{found.model_id} PARTITION OF prediction"
            f" FOR VALUES IN ({found.model_id})"
        )
    return found


def refer(sessions: Sessions, version: VersionSpec, rows: pa.Table, scratch: Path) -> None:
    """Store rows as the version's reference."""
    path = scratch / "reference.parquet"
    pq.write_table(rows, path)
    upload = Upload(path, "application/vnd.apache.parquet", {}, frozenset())
    store_reference(sessions, version.model, version.version, upload)


class Bench:
    """A registered model, and the worker's steps over the test's database."""

    def __init__(
        self,
        sessions: Sessions,
        engine: Engine,
        database_url: str,
        scratch: Path,
        *,
        partition: bool = True,
    ) -> None:
        self.sessions = sessions
        self.engine = engine
        self.scratch = scratch
        self.reader = RowReader(database_url)
        self.pipeline = a_pipeline(sessions, self.reader)
        features = [{"name": "income", "kind": "numeric"}]
        self.version = declare(sessions, engine, features, partition=partition)

    def rows(self, seed: int, *, shift: float = 0.0, flip: float = 0.05) -> Any:
        draw = np.random.default_rng(seed)
        income = draw.normal(shift, 1, ROWS)
        score = 1 / (1 + np.exp(-2 * income))
        predicted = (score > 0.5).astype(int)
        label = np.where(draw.random(ROWS) < flip, 1 - predicted, predicted)
        return income, score, predicted, label

    def ask(self, *, from_: datetime | None = None, alert: bool = True) -> None:
        """Ask for an evaluation of five days."""
        until = DAY + timedelta(days=5)
        asked = Evaluation(model_id=self.version.model_id, from_=from_, until=until, alert=alert)
        with self.sessions.begin() as session:
            session.add(asked)

    def store_reference(self) -> None:
        parts = [self.rows(seed) for seed in range(100, 110)]
        income, score, predicted, label = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        columns = {"income": income, "score": score, "prediction": predicted, "label": label}
        refer(self.sessions, self.version, pa.table(columns), self.scratch)

    def insert(self, day: datetime, rows: Any, *, prefix: str = "") -> None:
        income, score, predicted, _ = rows
        step = timedelta(days=1) / len(income)
        with self.sessions.begin() as session:
            session.execute(
                prediction.insert(),
                [
                    {
                        "model_id": self.version.model_id,
                        "version_id": self.version.version_id,
                        "prediction_id": f"{prefix}{day:%j}-{i}",
                        "ts": day + i * step,
                        "prediction": str(predicted[i]),
                        "score": float(score[i]),
                        "n1": float(income[i]),
                    }
                    for i in range(len(income))
                ],
            )
            self._arrive(session, day, "rows")

    def label(self, day: datetime, rows: Any, only: Any = None) -> None:
        with self.sessions.begin() as session:
            session.add_all(
                Label(
                    model_id=self.version.model_id,
                    prediction_id=f"{day:%j}-{i}",
                    label=str(value),
                    label_ts=day + timedelta(days=10),
                )
                for i, value in enumerate(rows[3])
                if only is None or only[i]
            )
            self._arrive(session, day, "labels")

    def _arrive(self, session: Session, day: datetime, kind: str) -> None:
        session.add_all(
            Arrival(
                model_id=self.version.model_id,
                version_id=self.version.version_id,
                bucket=day + timedelta(hours=hour),
                kind=kind,
            )
            for hour in range(24)
        )

    def work(self) -> None:
        work(self.pipeline)

    def set_horizon(self, horizon: str) -> None:
        document = {"model": "loans", "performance": {"label_horizon": horizon}}
        with self.sessions.begin() as session:
            put_monitor(session, "loans", MonitorDocument.model_validate(document))

    def windows(self) -> list[Window]:
        with self.sessions() as session:
            return list(session.scalars(select(Window).order_by(Window.start, Window.revision)))

    def value(self, window: Window, metric: str) -> float | None:
        with self.sessions() as session:
            return session.scalars(
                select(Measurement.value).where(
                    Measurement.window_id == window.id, Measurement.metric == metric
                )
            ).one()

    def delays(self, window: Window) -> dict[str | None, tuple[float, int]]:
        asked = select(Measurement).where(
            Measurement.window_id == window.id, Measurement.metric == LABEL_DELAY
        )
        with self.sessions() as session:
            found = session.scalars(asked).all()
        return {m.subject: (round((m.value or 0) / 86_400, 2), m.n) for m in found}

    def count(self, table: type) -> int:
        with self.sessions() as session:
            return session.scalar(select(func.count()).select_from(table)) or 0
