"""Seconds to profile and judge a day of rows, beside Evidently's preset on the same rows.

``python -m tests.benchmarks.evaluation [--rows 1000000] [--reference-rows 100000]`` starts an own
PostgreSQL, fills it, and runs the worker's own steps: collecting, reading every row from Postgres,
profiling, judging, recording.  Evidently gets the same rows and the same reference in memory.
"""

import argparse
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import adbc_driver_postgresql.dbapi
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.reader import RowReader
from service.db.embedded import EmbeddedPostgres
from service.db.engine import make_engine, make_sessions
from service.db.migrate import upgrade
from service.ingest.partitions import Partitions
from service.ledger.marks import Item, mark
from service.ledger.tables import Arrival
from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.registry.repository import find_version
from service.registry.schemas import ModelDocument, VersionDocument
from service.registry.service import put_model, put_version
from service.registry.values import VersionSpec
from service.runs.leases import LeaseKeeper
from service.runs.pipeline import Pipeline
from service.runs.reference_reading import Upload
from service.runs.references import store_reference
from service.runs.tables import Measurement, Window

NUMBERS = [f"x{i}" for i in range(15)]
WORDS = [f"k{i}" for i in range(5)]
DAY = datetime(2026, 11, 1, tzinfo=UTC)
LEASE = timedelta(minutes=10)

# The values are made by the database: normal, and words of 4 to 400 kinds.
_FILL = """
INSERT INTO prediction (model_id, version_id, prediction_id, ts, prediction, score, {slots})
SELECT :model, :version, 'row-' || i, :day + i * interval '24 hours' / :rows,
       (s > 0.5)::int::text, s, {values}
FROM (SELECT i, random() AS s FROM generate_series(0, :rows - 1) AS i) AS made
"""


def fill(connection: Connection, version: VersionSpec, rows: int, day: datetime) -> None:
    slots = {feature.name: feature.slot for feature in version.features}
    numbers = {slots[name]: "random_normal()" for name in NUMBERS}
    words = {
        slots[name]: f"'word-' || floor(random() * {4 * 10 ** (i / 2):.0f})"
        for i, name in enumerate(WORDS)
    }
    made = {**numbers, **words}
    connection.execute(
        text(_FILL.format(slots=", ".join(made), values=", ".join(made.values()))),
        {
            "model": version.model_id,
            "version": version.version_id,
            "rows": rows,
            "day": day,
        },
    )


def frame(url: str, version: VersionSpec, day: datetime) -> pd.DataFrame:
    names = ", ".join(f'{f.slot} AS "{f.name}"' for f in version.features)
    query = (
        f"SELECT {names}, prediction, score, ts AS timestamp FROM prediction "
        f"WHERE ts >= '{day.isoformat()}' AND ts < '{(day + timedelta(days=1)).isoformat()}'"
    )
    with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        found: pd.DataFrame = cursor.fetch_df()
        return found


def prepare(
    url: str, rows: int, reference_rows: int, scratch: Path
) -> tuple[Engine, sessionmaker[Session], VersionSpec, pd.DataFrame, float]:
    engine = make_engine(url)
    sessions = make_sessions(engine)
    with sessions.begin() as session:
        put_model(session, "loans", ModelDocument.model_validate({"task": "binary"}))
        features = [{"name": name, "kind": "numeric"} for name in NUMBERS]
        features += [{"name": name, "kind": "categorical"} for name in WORDS]
        put_version(
            session,
            "loans",
            "1",
            VersionDocument.model_validate(
                {"features": features, "classes": ["0", "1"], "positive_class": "1"}
            ),
        )
        put_monitor(session, "loans", MonitorDocument.model_validate({"model": "loans"}))
    with sessions() as session:
        version = find_version(session, "loans", "1")
    earlier = DAY - timedelta(days=62)
    with psycopg.connect(url, autocommit=True) as connection:
        months = [(version.model_id, at.year * 12 + at.month - 1) for at in (DAY, earlier)]
        Partitions().ensure(connection, months)
    with engine.begin() as connection:
        fill(connection, version, reference_rows, earlier)
        fill(connection, version, rows, DAY)
        connection.execute(text("ANALYZE prediction"))
    reference = frame(url, version, earlier)
    path = scratch / "reference.parquet"
    pq.write_table(pa.Table.from_pandas(reference, preserve_index=False), path)
    started = time.perf_counter()
    upload = Upload(path, "application/vnd.apache.parquet", {"ts": "timestamp"}, frozenset())
    store_reference(sessions, "loans", "1", upload)
    stored = time.perf_counter() - started
    return engine, sessions, version, reference, stored


def work(pipeline: Pipeline) -> dict[str, float]:
    spent = {"collect": 0.0, "profile": 0.0, "judge": 0.0}
    for name in spent:
        step = getattr(pipeline, name)
        while True:
            started = time.perf_counter()
            busy = step()
            spent[name] += time.perf_counter() - started
            if not busy:
                break
    return spent


def evidently_seconds(reference: pd.DataFrame, current: pd.DataFrame) -> float:
    # Its import of seconds is not counted.
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(
        numerical_columns=[*NUMBERS, "score"], categorical_columns=[*WORDS, "prediction"]
    )
    names = [*NUMBERS, *WORDS, "score", "prediction"]
    started = time.perf_counter()
    Report([DataDriftPreset()]).run(
        Dataset.from_pandas(current[names], data_definition=definition),
        Dataset.from_pandas(reference[names], data_definition=definition),
    )
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--reference-rows", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelwatch-bench-") as scratch:
        server = EmbeddedPostgres(Path(scratch))
        url = server.start()
        try:
            upgrade(url)
            run(url, arguments.rows, arguments.reference_rows, Path(scratch))
        finally:
            server.stop()


def run(url: str, rows: int, reference_rows: int, scratch: Path) -> None:
    engine, sessions, version, reference, stored = prepare(url, rows, reference_rows, scratch)
    reader = RowReader(url)
    pipeline = Pipeline(
        sessions,
        reader,
        LeaseKeeper(sessions, "bench", LEASE),
        worker="bench",
        lease=LEASE,
        quiet=timedelta(0),
        row_stage=False,
    )
    with sessions.begin() as session:
        session.add_all(
            Arrival(
                model_id=version.model_id,
                version_id=version.version_id,
                bucket=DAY + timedelta(hours=hour),
                kind="rows",
            )
            for hour in range(24)
        )
    spent = work(pipeline)
    first = sum(spent.values())
    with sessions.begin() as session:
        item = Item(version.model_id, version.version_id, DAY, DAY + timedelta(days=1))
        mark(session, "window", [item])
    again = work(pipeline)["judge"]
    with sessions() as session:
        window = session.scalars(select(Window)).one()
        judged = session.scalars(select(Measurement).where(Measurement.metric == "drift")).all()
        assert window.rows == rows
        assert len(judged) == len(NUMBERS) + len(WORDS) + 2
    reader.close()
    engine.dispose()
    seconds = evidently_seconds(reference, frame(url, version, DAY))
    table = Table(title=f"{rows:,} rows x 20 features, reference of {reference_rows:,} rows")
    for column in ("what", "seconds", "Evidently / this"):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_row("Evidently DataDriftPreset, rows in memory", f"{seconds:.2f}", "")
    table.add_row("first evaluation, read from Postgres", f"{first:.2f}", f"{seconds / first:.1f}")
    table.add_row("  of it: read and profiled", f"{spent['profile']:.2f}", "")
    table.add_row("  of it: judged and recorded", f"{spent['judge']:.2f}", "")
    table.add_row("judged again from its profiles", f"{again:.3f}", f"{seconds / again:,.0f}")
    table.add_row("storing the reference, once", f"{stored:.2f}", "")
    Console().print(table)


if __name__ == "__main__":
    main()
