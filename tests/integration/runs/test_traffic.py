"""What ingest counted while rows came, as the windows over them see it."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker

from service.ingest.tables import IngestFault
from service.runs.tables import Measurement
from tests.integration.runs.test_pipeline import DAY, ROWS, Bench


@pytest.fixture
def bench(
    sessions: sessionmaker[Session], engine: Engine, database_url: str, tmp_path: Path
) -> Any:
    made = Bench(sessions, engine, database_url, tmp_path)
    yield made
    made.reader.close()


def count(bench: Bench, hour: int, field: str, code: str, rows: int) -> None:
    with bench.sessions.begin() as session:
        session.add(
            IngestFault(
                model_id=bench.version.model_id,
                version_id=bench.version.version_id,
                bucket=DAY + timedelta(hours=hour),
                field=field,
                code=code,
                rows=rows,
            )
        )


def test_type_errors_and_refused_rows_ask_for_better_data(bench: Bench) -> None:
    bench.store_reference()
    for hour in range(20):
        count(bench, hour, "income", "wrong-type", 3)
        count(bench, hour, "income", "wrong-type", 2)
    count(bench, 3, "", "unknown-feature", 150)
    count(bench, 3, "postcode", "unknown-feature", 150)
    count(bench, 24, "", "unknown-feature", 10_000)
    bench.insert(DAY, bench.rows(1))
    bench.work()
    (window,) = bench.windows()
    assert bench.value(window, "type_error_ratio") == pytest.approx(100 / ROWS)
    assert bench.value(window, "rejected_ratio") == pytest.approx(150 / (150 + ROWS))
    assert (window.verdicts["quality"], window.action) == ("alert", "fix_data")
    assert [w["code"] for w in window.warnings] == ["unknown-features"]
    assert "postcode" in window.warnings[0]["detail"]
    with bench.sessions() as session:
        folded = session.scalars(
            select(IngestFault.rows).where(IngestFault.code == "wrong-type")
        ).all()
        [reason] = session.scalars(
            select(Measurement.reason).where(Measurement.metric == "rejected_ratio")
        )
    assert folded == [5] * 20
    assert reason == "20.0 % of the rows were refused, most as unknown-feature"
