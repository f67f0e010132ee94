"""From rows to incidents: the worker opens and closes them with the windows that it records."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker

from service.alerts.tables import Incident, Signal
from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.registry.schemas import VersionDocument
from service.registry.service import put_version
from service.retraining.tables import RetrainingRequest
from service.runs.tables import Window
from tests.integration.runs.bench import DAY, ROWS, Bench

ONE = timedelta(days=1)


@pytest.fixture
def bench(
    sessions: sessionmaker[Session], engine: Engine, database_url: str, tmp_path: Path
) -> Iterator[Bench]:
    made = Bench(sessions, engine, database_url, tmp_path)
    made.store_reference()
    yield made
    made.reader.close()


def configure(bench: Bench, **content: Any) -> None:
    with bench.sessions.begin() as session:
        document = MonitorDocument.model_validate({"model": "loans", **content})
        put_monitor(session, "loans", document)


def play(bench: Bench, day: int, *, labelled: bool = False, **how: Any) -> None:
    rows = bench.rows(day, **how)
    bench.insert(DAY + day * ONE, rows)
    if labelled:
        bench.label(DAY + day * ONE, rows)
    bench.work()


class Calibrated(Bench):
    """Its scores are the probabilities of the labels."""

    def rows(self, seed: int, *, shift: float = 0.0, flip: float = 1.0) -> Any:
        """Return rows; the smaller ``flip``, the closer are all scores to one half."""
        draw = np.random.default_rng(seed)
        income = draw.normal(shift, 1, ROWS)
        score = 1 / (1 + np.exp(-2 * flip * income))
        return income, score, (score > 0.5).astype(int), (draw.random(ROWS) < score).astype(int)


def incidents(bench: Bench) -> dict[str, Incident]:
    with bench.sessions() as session:
        return {
            f"{row.kind}:{row.subject}": row
            for row in session.scalars(select(Incident).order_by(Incident.id))
        }


def action(bench: Bench, day: int) -> tuple[str, str]:
    with bench.sessions() as session:
        row = session.scalars(
            select(Window).where(Window.start == DAY + day * ONE, Window.latest)
        ).one()
        return row.action, row.reason


def test_drift_opens_an_incident_on_its_second_day_and_health_closes_it(bench: Bench) -> None:
    play(bench, 0, shift=1.0)
    assert incidents(bench) == {}
    play(bench, 1, shift=1.0)
    found = incidents(bench)
    income = found["drift:income"]
    assert (income.state, income.severity, income.action) == ("open", "warning", "watch")
    assert income.reason.startswith("drift of income 0.")
    for day in (2, 3):
        assert incidents(bench)["drift:income"].state == "open"
        play(bench, day)
    income = incidents(bench)["drift:income"]
    assert (income.state, income.outcome) == ("closed", "recovered")
    assert income.closed_start == DAY + 3 * ONE


def test_a_loss_is_one_incident_whatever_its_metrics_and_its_request_names_it(
    bench: Bench,
) -> None:
    for day in range(2):
        play(bench, day, labelled=True, flip=0.3)
    found = incidents(bench)
    assert [name for name in found if name.startswith("performance")] == ["performance:"]
    loss = found["performance:"]
    assert (loss.severity, loss.action) == ("critical", "retrain")
    assert "accuracy" in loss.reason
    assert bench.count(RetrainingRequest) == 1


def test_drift_of_what_the_model_hardly_uses_is_an_information(bench: Bench) -> None:
    features = [
        {"name": "income", "kind": "numeric", "importance": 0.001},
        {"name": "age", "kind": "numeric", "importance": 1.0},
    ]
    document = {"features": features, "classes": ["0", "1"], "positive_class": "1"}
    with bench.sessions.begin() as session:
        put_version(session, "loans", "1", VersionDocument.model_validate(document))
    configure(bench, alert={"open": "1 of 1"})
    play(bench, 0, shift=0.8)
    income = incidents(bench)["drift:income"]
    assert (income.severity, income.action) == ("info", "none")
    assert bench.windows()[-1].drifted_features[-1] == "income"


def test_an_estimated_loss_asks_for_labels_until_there_are_enough(
    sessions: sessionmaker[Session], engine: Engine, database_url: str, tmp_path: Path
) -> None:
    bench = Calibrated(sessions, engine, database_url, tmp_path)
    with closing(bench.reader):
        _estimate_with_and_without_labels(bench)


def _estimate_with_and_without_labels(bench: Bench) -> None:
    bench.store_reference()
    configure(bench, retraining={"min_labelled_rows": ROWS}, alert={"open": "1 of 1"})
    play(bench, 0, flip=0.2)
    done, reason = action(bench, 0)
    assert done == "collect_labels", reason
    assert "0 labelled rows are known, and a retraining needs 600" in reason
    assert incidents(bench)["estimated_performance:"].action == "collect_labels"
    assert bench.count(RetrainingRequest) == 0
    play(bench, 1, labelled=True)
    play(bench, 2, flip=0.2)
    assert action(bench, 2)[0] == "retrain"
    assert bench.count(RetrainingRequest) == 1


def test_a_quiet_window_leaves_hardly_a_trace(bench: Bench) -> None:
    play(bench, 0, labelled=True)
    assert incidents(bench) == {}
    with bench.sessions() as session:
        states = set(session.scalars(select(Signal.state)))
    assert "alert" not in states
    assert bench.count(Signal) < 5


def test_a_shadow_has_incidents_but_a_retired_version_has_none(bench: Bench) -> None:
    configure(bench, alert={"open": "1 of 1"})
    for day, stage in enumerate(("retired", "shadow")):
        document = VersionDocument.model_validate(
            {
                "features": [{"name": "income", "kind": "numeric"}],
                "classes": ["0", "1"],
                "positive_class": "1",
                "stage": stage,
            }
        )
        with bench.sessions.begin() as session:
            put_version(session, "loans", "1", document)
        play(bench, day, shift=1.0)
        assert bool(incidents(bench)) == (stage == "shadow")
