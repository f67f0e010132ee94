"""What ingest counted while rows came, as the windows over them see it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker

from service.ingest.tables import IngestFault, prediction
from service.ledger.tables import Arrival
from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.registry.schemas import VersionDocument
from service.registry.service import put_version
from service.retraining.tables import RetrainingRequest
from service.runs.silence import mark_silence
from service.runs.tables import Measurement
from tests.integration.runs.bench import DAY, ROWS, Bench


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


def test_metres_for_feet_ask_for_better_data_and_for_no_training(bench: Bench) -> None:
    bench.store_reference()
    income, _, predicted, label = bench.rows(1)
    wrong = 0.3048 * income
    rows = (wrong, 1 / (1 + np.exp(-2 * wrong)), predicted, label)
    bench.insert(DAY, rows)
    bench.label(DAY, rows)
    bench.work()
    (window,) = [window for window in bench.windows() if window.latest]
    assert (window.verdicts["quality"], window.action) == ("alert", "fix_data")
    assert "income values look multiplied by 0." in window.reason
    assert bench.count(RetrainingRequest) == 0


def log(bench: Bench, hours: range, rows: int, *, delay: timedelta = timedelta(minutes=1)) -> None:
    """Log rows in each of the hours before now, and when they came."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    draw = np.random.default_rng(3)
    with bench.sessions.begin() as session:
        for hour in hours:
            at = now - timedelta(hours=hour)
            income = draw.normal(size=rows)
            session.execute(
                prediction.insert(),
                [
                    {
                        "model_id": bench.version.model_id,
                        "version_id": bench.version.version_id,
                        "prediction_id": f"{hour}-{i}",
                        "ts": at + i * timedelta(hours=1) / rows,
                        "received_at": at + i * timedelta(hours=1) / rows + delay,
                        "prediction": str(int(income[i] > 0)),
                        "score": float(1 / (1 + np.exp(-2 * income[i]))),
                        "n1": float(income[i]),
                    }
                    for i in range(rows)
                ],
            )
            session.add(
                Arrival(
                    model_id=bench.version.model_id,
                    version_id=bench.version.version_id,
                    bucket=at,
                    kind="rows",
                )
            )


def stage(bench: Bench, name: str) -> None:
    document = {
        "features": [{"name": "income", "kind": "numeric"}],
        "classes": ["0", "1"],
        "positive_class": "1",
        "stage": name,
    }
    with bench.sessions.begin() as session:
        put_version(session, "loans", "1", VersionDocument.model_validate(document))
        put_monitor(
            session, "loans", MonitorDocument.model_validate({"model": "loans", "window": "6h"})
        )


def listen(bench: Bench) -> int:
    with bench.sessions.begin() as session:
        return mark_silence(session, timedelta(0))


DAYS_10 = range(34, 240)


def test_live_traffic_that_ends_is_told_a_few_times_and_then_no_more(bench: Bench) -> None:
    stage(bench, "live")
    bench.store_reference()
    log(bench, DAYS_10, 20)
    bench.work()
    marked = listen(bench)
    assert marked in {4, 5}
    assert listen(bench) == 0
    bench.work()
    assert listen(bench) == 0
    silent = [window for window in bench.windows() if window.rows == 0]
    assert len(silent) == marked
    for window in silent:
        assert window.verdicts["quality"] == "alert"
        assert set(window.verdicts.values()) == {"alert", "insufficient_data"}
        assert "no traffic since" in window.reason


@pytest.mark.parametrize("name", ["shadow", "retired"])
def test_a_version_that_is_not_live_may_fall_silent(bench: Bench, name: str) -> None:
    stage(bench, name)
    log(bench, DAYS_10, 2)
    bench.work()
    assert listen(bench) == 0


def test_a_replay_that_has_ended_is_no_silence(bench: Bench) -> None:
    stage(bench, "live")
    log(bench, DAYS_10, 2, delay=timedelta(days=2))
    bench.work()
    assert listen(bench) == 0


def test_a_month_replayed_up_to_now_is_no_live_traffic(bench: Bench) -> None:
    stage(bench, "live")
    log(bench, range(40, 240), 2, delay=timedelta(days=2))
    log(bench, range(34, 40), 2)
    bench.work()
    assert listen(bench) == 0


def test_few_rows_long_enough_ago_are_not_missed(bench: Bench) -> None:
    stage(bench, "live")
    log(bench, range(34, 40), 2)
    bench.work()
    assert listen(bench) == 0
