"""What comes while a window is judged, or after its reference was replaced, is not lost."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker

from service.ingest.tables import prediction
from service.ledger.tables import Arrival, DueWork
from service.registry.schemas import VersionDocument
from service.registry.service import put_version
from service.retraining.tables import RetrainingRequest
from service.runs import row_stage
from service.runs.leases import LeaseKeeper
from service.runs.reference_reading import Upload
from service.runs.references import store_reference
from service.runs.row_stage import RowStage
from service.runs.tables import EvaluationWindow, LatestWindow, Measurement
from tests.integration.runs.bench import DAY, LEASE, ROWS, SCORE_OF_EVIDENTLY, Bench

MEASURED = replace(SCORE_OF_EVIDENTLY, value=0.1)


@pytest.fixture
def bench(
    sessions: sessionmaker[Session],
    engine: Engine,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bench]:
    made = Bench(sessions, engine, database_url, tmp_path)
    monkeypatch.setattr("service.runs.findings.ROW_STAGE_DELAY", timedelta(0))
    yield made
    made.reader.close()


@pytest.fixture
def instrument(
    bench: Bench, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RowStage]:
    bench.pipeline._row_stage = True
    leases = LeaseKeeper(bench.sessions, "test", LEASE)
    made = RowStage(bench.sessions, database_url, leases, worker="test", lease=LEASE)
    monkeypatch.setattr("service.evaluation.rows.STEPS", ())
    monkeypatch.setattr("service.runs.row_material.measure", lambda *_, **__: [MEASURED])
    monkeypatch.setattr(made, "_call", lambda function, *arguments: function(*arguments))
    yield made
    made._reader.close()


def _work(bench: Bench) -> None:
    steps = (bench.pipeline.collect, bench.pipeline.plan, bench.pipeline.profile)
    for _ in range(50):
        if not (sum(step() for step in steps) or bench.pipeline.judge()):
            return
    pytest.fail("the work never ends")


def _prepare(bench: Bench) -> None:
    while bench.pipeline.collect() or bench.pipeline.profile():
        pass


def _store_reference_elsewhere(bench: Bench) -> None:
    """Store a reference that the edges so far do not describe."""
    parts = [bench.rows(seed) for seed in range(100, 110)]
    income, score, predicted, label = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    path = bench.scratch / "elsewhere.parquet"
    table = {"income": income + 50, "score": score, "prediction": predicted, "label": label}
    pq.write_table(pa.table(table), path)
    upload = Upload(path, "application/vnd.apache.parquet", {}, frozenset())
    store_reference(bench.sessions, "loans", "1", upload)


def _evidently(bench: Bench) -> dict[int, int]:
    with bench.sessions() as session:
        rows = session.execute(
            select(Measurement.window_id, Measurement.position).where(
                Measurement.engine == "evidently"
            )
        )
        return {row.window_id: row.position for row in rows}


def _due(bench: Bench) -> list[str]:
    with bench.sessions() as session:
        return list(session.scalars(select(DueWork.kind)))


def test_first_labels_count_though_the_reference_was_replaced_before_they_came(
    bench: Bench,
) -> None:
    bench.store_reference()
    rows = bench.rows(1)
    bench.insert(DAY, rows)
    _work(bench)
    _store_reference_elsewhere(bench)
    bench.label(DAY, rows)
    _work(bench)
    latest = bench.windows()[-1]
    assert (latest.reference_revision, latest.labelled) == (1, ROWS)


def test_rows_of_a_new_hour_count_though_the_reference_was_replaced_before_they_came(
    bench: Bench,
) -> None:
    bench.store_reference()
    bench.insert(DAY, bench.rows(1))
    late = DAY + timedelta(hours=22)
    with bench.sessions.begin() as session:
        session.execute(prediction.delete().where(prediction.c.ts >= late))
    _work(bench)
    before = bench.windows()[-1].rows
    _store_reference_elsewhere(bench)
    key = {"model_id": bench.version.model_id, "version_id": bench.version.version_id}
    with bench.sessions.begin() as session:
        row = {"prediction_id": "late", "ts": late, "prediction": "1", "score": 0.6, "n1": 0.3}
        session.execute(prediction.insert(), [{**key, **row}])
        session.add(Arrival(**key, bucket=late, kind="rows"))
    _work(bench)
    latest = bench.windows()[-1]
    assert (latest.reference_revision, latest.rows) == (1, before + 1)


def test_rows_that_come_during_a_silent_judgement_may_alert(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store_reference()
    rows = bench.rows(1, flip=0.3)
    bench.insert(DAY, rows)
    bench.label(DAY, rows)
    _prepare(bench)
    judge = bench.pipeline._judge

    def slowly(inputs: Any) -> Any:
        monkeypatch.setattr(bench.pipeline, "_judge", judge)
        bench.insert(DAY, bench.rows(2), prefix="late-")
        _prepare(bench)
        return judge(inputs)

    monkeypatch.setattr(bench.pipeline, "_judge", slowly)
    bench.ask(from_=DAY, alert=False)
    _work(bench)
    assert [(w.rows, w.silent) for w in bench.windows()] == [(ROWS, True), (2 * ROWS, False)]


def test_an_evaluation_is_not_told_of_a_judgement_that_began_before_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store_reference()
    bench.insert(DAY, bench.rows(1))
    _prepare(bench)
    judge = bench.pipeline._judge

    def slowly(inputs: Any) -> Any:
        monkeypatch.setattr(bench.pipeline, "_judge", judge)
        bench.ask(from_=DAY)
        assert bench.pipeline.plan()
        return judge(inputs)

    monkeypatch.setattr(bench.pipeline, "_judge", slowly)
    assert bench.pipeline.judge()
    assert _outcome(bench) is None
    _work(bench)
    assert _outcome(bench) == "evaluated"


def test_new_labels_keep_what_the_second_instrument_measured(
    bench: Bench, instrument: RowStage
) -> None:
    bench.store_reference()
    rows = bench.rows(1)
    bench.insert(DAY, rows)
    _work(bench)
    assert instrument._work_once()
    _work(bench)
    bench.label(DAY, rows)
    _work(bench)
    first, second = bench.windows()
    assert _evidently(bench).keys() == {first.id, second.id}
    assert _due(bench) == []


def test_new_rows_are_measured_again_by_the_second_instrument(
    bench: Bench, instrument: RowStage
) -> None:
    bench.store_reference()
    bench.insert(DAY, bench.rows(1))
    _work(bench)
    assert instrument._work_once()
    _work(bench)
    bench.insert(DAY, bench.rows(2), prefix="late-")
    _work(bench)
    assert _due(bench) == ["evidently"]


def test_labels_that_come_while_the_second_instrument_measures_do_not_lose_its_scores(
    bench: Bench, instrument: RowStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store_reference()
    rows = bench.rows(1)
    bench.insert(DAY, rows)
    _work(bench)
    labelled: list[bool] = []

    def call(function: Any, *arguments: Any) -> Any:
        if not labelled:
            labelled.append(True)
            bench.label(DAY, rows)
            _work(bench)
        return function(*arguments)

    monkeypatch.setattr(instrument, "_call", call)
    while instrument._work_once():
        pass
    _work(bench)
    assert bench.windows()[-1].id in _evidently(bench)


def test_the_second_instrument_is_not_asked_without_a_reference(
    bench: Bench, instrument: RowStage
) -> None:
    bench.insert(DAY, bench.rows(1))
    _work(bench)
    assert len(bench.windows()) == 1
    assert _due(bench) == []


def test_the_second_instrument_outlives_a_failure_whose_claim_was_lost(
    bench: Bench, instrument: RowStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store_reference()
    bench.insert(DAY, bench.rows(1))
    _work(bench)

    def call(*_: Any) -> Any:
        with bench.sessions.begin() as session:
            session.scalars(select(DueWork)).one().claimed_by = "another"
        raise ZeroDivisionError

    monkeypatch.setattr(instrument, "_call", call)
    monkeypatch.setattr(row_stage, "GIVE_UP_AFTER", 1)
    assert instrument._work_once()
    assert _due(bench) == ["evidently"]


def test_a_version_in_the_shadow_asks_for_no_retraining(bench: Bench) -> None:
    shadow = {"stage": "shadow", "classes": ["0", "1"], "positive_class": "1"}
    features = [{"name": "income", "kind": "numeric"}]
    with bench.sessions.begin() as session:
        document = VersionDocument.model_validate({**shadow, "features": features})
        put_version(session, "loans", "1", document)
    bench.store_reference()
    rows = bench.rows(1, flip=0.3)
    bench.insert(DAY, rows)
    bench.label(DAY, rows)
    _work(bench)
    assert [w.action for w in bench.windows()] == ["retrain"]
    assert bench.count(RetrainingRequest) == 0


def _outcome(bench: Bench) -> str | None:
    with bench.sessions() as session:
        return session.scalars(select(EvaluationWindow.outcome)).one()


def test_an_evaluation_ends_though_its_window_keeps_failing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> None:
        raise ZeroDivisionError

    bench.store_reference()
    bench.insert(DAY, bench.rows(1))
    _prepare(bench)
    monkeypatch.setattr(bench.pipeline, "_judge", fail)
    monkeypatch.setattr("service.runs.pipeline.RETRY", timedelta(0))
    bench.ask(from_=DAY)
    assert bench.pipeline.plan()
    for _ in range(3):
        assert _outcome(bench) is None
        assert bench.pipeline.judge()
    assert _outcome(bench) == "failed"


def test_the_newest_figures_stay_the_newest_and_labels_that_are_missing_point_nowhere(
    bench: Bench,
) -> None:
    bench.store_reference()
    rows = bench.rows(1)
    bench.insert(DAY + timedelta(days=1), bench.rows(2))
    _work(bench)
    bench.insert(DAY, rows)
    bench.label(DAY, rows)
    _work(bench)
    with bench.sessions() as session:
        found = {row.family: row.start for row in session.scalars(select(LatestWindow))}
    newest = DAY + timedelta(days=1)
    assert found == {"data": newest, "estimate": newest, "performance": DAY}
