"""From committed rows to recorded windows, in one process and a real database."""

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from service.access.tables import AuditEntry
from service.ingest.tables import Label
from service.ledger.repository import claim_one
from service.ledger.tables import Arrival, DueWork
from service.retraining.tables import RequestWindow, RetrainingRequest
from service.runs import pipeline, planning
from service.runs.overfit import SAID
from service.runs.queries import evaluation_progress
from service.runs.tables import Evaluation, EvaluationWindow
from service.runs.worker import Worker
from service.settings import Settings
from service.webhooks.events import rfc3339
from service.webhooks.tables import Outbox
from tests.integration.runs.bench import DAY, LEASE, ROWS, Bench
from tests.integration.webhooks.receiver import (
    SECRET_KEY,
    add_webhook,
    deliveries,
    receiving,
    tell,
)
from tests.system.harness import eventually

Sessions = sessionmaker[Session]


@pytest.fixture
def bench(sessions: Sessions, engine: Engine, database_url: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(sessions, engine, database_url, tmp_path)
    yield made
    made.reader.close()


def test_labels_make_a_new_revision_and_rows_that_say_nothing_new_do_not(bench: Bench) -> None:
    bench.store_reference()
    rows = bench.rows(1)
    bench.insert(DAY, rows)
    bench.work()
    bench.label(DAY, rows)
    bench.work()
    first, second = bench.windows()
    assert (first.revision, first.latest, first.labelled) == (1, False, 0)
    assert (second.revision, second.latest, second.labelled) == (2, True, ROWS)
    assert bench.value(second, "accuracy") == pytest.approx((rows[2] == rows[3]).mean())
    assert bench.delays(second) == {"50": (9.52, 400), "90": (9.9, 400), "99": (9.99, 400)}
    with bench.sessions.begin() as session:
        bench._arrive(session, DAY, "rows")
    bench.work()
    assert len(bench.windows()) == 2
    assert bench.count(DueWork) == 0


def test_labels_of_positives_that_come_first_are_said_and_judged_once_the_horizon_has_passed(
    bench: Bench,
) -> None:
    bench.store_reference()
    bench.set_horizon("3000d")
    rows = bench.rows(1, flip=0.3)
    positive = rows[3] == 1
    bench.insert(DAY, rows)
    bench.label(DAY, rows, only=positive | (np.arange(ROWS) % 3 > 0))
    bench.work()
    (early,) = bench.windows()
    assert early.verdicts["performance"] == "insufficient_data"
    assert "selected-labels" in {warning["code"] for warning in early.warnings}
    assert bench.value(early, "accuracy") is not None
    with bench.sessions() as session:
        (waiting,) = session.scalars(select(DueWork).where(DueWork.kind == "maturity"))
        assert waiting.due_at == early.end + timedelta(days=3000)
    bench.set_horizon("1d")
    bench.work()
    assert len(bench.windows()) == 1
    with bench.sessions.begin() as session:
        session.execute(update(DueWork).values(due_at=func.now()))
    bench.work()
    ripe = bench.windows()[1]
    assert (ripe.revision, ripe.verdicts["performance"]) == (2, "alert")
    assert bench.count(DueWork) == 0


def test_nearly_all_labels_are_judged_at_once(bench: Bench) -> None:
    bench.store_reference()
    bench.set_horizon("3000d")
    rows = bench.rows(1)
    bench.insert(DAY, rows)
    bench.label(DAY, rows, only=np.arange(ROWS) % 50 > 0)
    bench.work()
    (window,) = bench.windows()
    assert window.verdicts["performance"] == "ok"
    assert bench.count(DueWork) == 0


def test_late_rows_revise_their_window(bench: Bench) -> None:
    bench.store_reference()
    bench.insert(DAY, bench.rows(1))
    bench.work()
    bench.insert(DAY, bench.rows(2), prefix="late-")
    bench.work()
    assert [(w.revision, w.rows) for w in bench.windows()] == [(1, ROWS), (2, 2 * ROWS)]


def test_a_loss_opens_one_request_with_its_outbox_row_and_further_windows_join_it(
    bench: Bench,
) -> None:
    bench.store_reference()
    add_webhook(bench.sessions, "ci")
    for offset in range(3):
        day = DAY + timedelta(days=offset)
        rows = bench.rows(offset, flip=0.3)
        bench.insert(day, rows)
        bench.label(day, rows)
    bench.work()
    assert [w.action for w in bench.windows()] == ["retrain"] * 3
    assert bench.count(RetrainingRequest) == 1
    assert bench.count(Outbox) == 1
    assert bench.count(RequestWindow) == 3
    with bench.sessions() as session:
        entries = session.scalars(
            select(AuditEntry).where(AuditEntry.action == "retraining-request.open")
        ).all()
        assert [entry.actor for entry in entries] == ["worker"]
        reason = session.scalars(select(RetrainingRequest.reason)).one()
        said = session.scalars(select(Outbox.event)).one()["data"]
    assert reason.endswith(SAID)
    # Days 1 and 2 of 3 have asked, by day 2: over what, against what, and where to look.
    spans = [[rfc3339(DAY + n * timedelta(days=1)) for n in (at, at + 1)] for at in (0, 1)]
    assert (said["windows"], said["window"]) == (spans, spans[1])
    assert (said["rows"], said["labelled"]) == (ROWS, ROWS)
    assert (said["reference_revision"], said["monitor_revision"]) == (1, 0)
    assert said["window_url"] == f"/v1/models/loans/windows/{spans[1][0]}?version=1"
    loss = next(signal for signal in said["signals"] if signal["metric"] == "roc_auc")
    assert loss["ci_low"] < loss["value"] < loss["ci_high"] < loss["threshold"]
    assert loss["direction"] == "lower_is_worse"
    assert min(loss["n"], loss["n_reference"]) > 0


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_one_bad_day_asks_for_nothing_and_two_of_three_do_in_any_order(
    bench: Bench, order: list[int]
) -> None:
    bench.store_reference()
    flips = [0.3, 0.05, 0.05, 0.3]
    for offset in order:
        day = DAY + timedelta(days=offset)
        rows = bench.rows(offset, flip=flips[offset])
        bench.insert(day, rows)
        bench.label(day, rows)
        bench.work()
    assert [w.action for w in bench.windows() if w.latest].count("retrain") == 2
    assert bench.count(RetrainingRequest) == 0
    rows = bench.rows(9, flip=0.3)
    bench.insert(DAY + timedelta(days=4), rows)
    bench.label(DAY + timedelta(days=4), rows)
    bench.work()
    with bench.sessions() as session:
        starts = list(session.scalars(select(RequestWindow.start).order_by(RequestWindow.start)))
    assert starts == [DAY + timedelta(days=3), DAY + timedelta(days=4)]


def test_nothing_is_recorded_by_a_worker_that_lost_its_claim(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store_reference()
    bench.insert(DAY, bench.rows(1))
    while bench.pipeline.collect() or bench.pipeline.profile():
        pass
    judge = bench.pipeline._judge

    def slowly(inputs: Any) -> Any:
        with bench.sessions.begin() as session:
            row = session.scalars(select(DueWork).where(DueWork.kind == "window")).one()
            assert row.lease_until is not None
            row.lease_until -= 2 * LEASE
        with bench.sessions.begin() as session:
            assert claim_one(session, "window", worker="other", lease=LEASE) is not None
        return judge(inputs)

    monkeypatch.setattr(bench.pipeline, "_judge", slowly)
    assert bench.pipeline.judge()
    assert bench.windows() == []
    assert bench.count(DueWork) == 1


def test_without_a_reference_everything_is_insufficient_until_one_comes(bench: Bench) -> None:
    bench.insert(DAY, bench.rows(1))
    bench.work()
    (window,) = bench.windows()
    assert window.rows == ROWS
    assert set(window.verdicts.values()) == {"insufficient_data"}
    assert [warning["code"] for warning in window.warnings] == ["no-reference"]
    bench.store_reference()
    bench.work()
    latest = bench.windows()[-1]
    assert (latest.revision, latest.reference_revision) == (2, 1)
    assert latest.verdicts["drift"] == "ok"


def test_a_window_keeps_its_reference_unless_an_evaluation_asks_for_the_current_one(
    bench: Bench,
) -> None:
    bench.store_reference()
    bench.insert(DAY, bench.rows(1))
    bench.work()
    bench.store_reference()
    bench.insert(DAY, bench.rows(2), prefix="late-")
    bench.work()
    assert bench.windows()[-1].reference_revision == 1
    _evaluate(bench, from_=DAY)
    assert bench.windows()[-1].reference_revision == 2


def test_a_backfill_is_judged_and_recorded_but_nobody_is_alerted(bench: Bench) -> None:
    bench.store_reference()
    rows = bench.rows(1, flip=0.3)
    bench.insert(DAY, rows)
    bench.label(DAY, rows)
    while bench.pipeline.collect() or bench.pipeline.profile():
        pass
    _evaluate(bench, from_=DAY, alert=False)
    (window,) = bench.windows()
    assert (window.action, window.silent) == ("retrain", True)
    assert bench.count(RetrainingRequest) == bench.count(Outbox) == 0
    with bench.sessions() as session:
        outcome = session.scalars(select(EvaluationWindow)).one()
    assert (outcome.start, outcome.outcome) == (DAY, "evaluated")


def test_a_window_with_few_rows_is_listed_as_insufficient(bench: Bench) -> None:
    bench.store_reference()
    bench.insert(DAY, [column[:50] for column in bench.rows(1)])
    bench.work()
    (window,) = bench.windows()
    assert window.rows == 50
    assert set(window.verdicts.values()) == {"insufficient_data"}
    assert window.action == "none"


def test_a_failing_window_is_put_off_and_says_why(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store_reference()
    bench.insert(DAY, bench.rows(1))

    def fail(inputs: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.pipeline, "_judge", fail)
    bench.work()
    with bench.sessions() as session:
        work = session.scalars(select(DueWork)).one()
    assert (work.kind, work.last_error, work.claimed_by) == ("window", "ZeroDivisionError", None)
    assert bench.windows() == []


def _evaluate(bench: Bench, *, from_: Any = None, alert: Any = True) -> None:
    bench.ask(from_=from_, alert=alert)
    bench.work()


def test_an_evaluation_that_cannot_be_planned_fails_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store_reference()
    bench.insert(DAY, bench.rows(1))

    def fail(*_: Any) -> Any:
        raise OverflowError

    monkeypatch.setattr(planning, "_range_items", fail)
    _evaluate(bench, from_=DAY)
    with bench.sessions() as session:
        evaluation = session.scalars(select(Evaluation)).one()
        assert evaluation_progress(session, evaluation.id)["state"] == "failed"
    assert len(bench.windows()) == 1


def test_of_two_labels_of_a_row_the_newer_counts(bench: Bench) -> None:
    rows = bench.rows(1)
    bench.insert(DAY, rows)
    bench.label(DAY, rows)
    bench.work()
    before = bench.value(bench.windows()[-1], "accuracy")
    right = bool(rows[2][0] == rows[3][0])
    with bench.sessions.begin() as session:
        for age, value in ((11, 1 - rows[3][0]), (9, rows[3][0])):
            session.add(
                Label(
                    model_id=bench.version.model_id,
                    prediction_id=f"{DAY:%j}-0",
                    label=str(value),
                    label_ts=DAY + timedelta(days=age),
                )
            )
        bench._arrive(session, DAY, "labels")
    bench.work()
    window = bench.windows()[-1]
    assert before is not None
    change = (-1 if right else 1) / ROWS
    assert bench.value(window, "accuracy") == pytest.approx(before + change)
    assert window.labelled == ROWS


def test_only_dirty_hours_are_profiled_again(bench: Bench) -> None:
    bench.insert(DAY, bench.rows(1))
    bench.work()
    with bench.sessions.begin() as session:
        for hour in (3, 9):
            session.add(
                Arrival(
                    model_id=bench.version.model_id,
                    version_id=bench.version.version_id,
                    bucket=DAY + timedelta(hours=hour),
                    kind="rows",
                )
            )
    bench.work()
    assert [(w.revision, w.rows) for w in bench.windows()] == [(1, ROWS)]


def test_an_hour_that_cannot_be_read_holds_up_neither_its_neighbours_nor_an_evaluation(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store_reference()
    bench.insert(DAY, bench.rows(1))
    bench.insert(DAY + timedelta(days=1), bench.rows(2))
    read = bench.reader.features

    def unreadable(version: Any, start: datetime, end: datetime) -> Any:
        if start <= DAY + timedelta(hours=5) < end:
            raise ArithmeticError
        return read(version, start, end)

    monkeypatch.setattr(bench.reader, "features", unreadable)
    monkeypatch.setattr(pipeline, "RETRY", timedelta(milliseconds=5))
    with bench.sessions.begin() as session:
        session.add(
            Evaluation(
                model_id=bench.version.model_id,
                from_=DAY,
                until=DAY + timedelta(days=5),
                alert=True,
            )
        )
    steps = bench.pipeline

    def settled() -> bool:
        for step in (steps.collect, steps.profile, steps.plan, steps.judge):
            step()
        with bench.sessions() as session:
            evaluation = session.scalars(select(Evaluation)).one()
            return evaluation_progress(session, evaluation.id)["state"] in {"done", "failed"}

    eventually(settled, seconds=30, every=0.0, message="the evaluation waits for ever")
    (window,) = bench.windows()
    assert window.start == DAY + timedelta(days=1)
    with bench.sessions() as session:
        evaluation = session.scalars(select(Evaluation)).one()
        progress = evaluation_progress(session, evaluation.id)
    assert (progress["state"], progress["failed"], progress["evaluated"]) == ("failed", 1, 1)


def test_a_webhook_that_hangs_delays_no_window(bench: Bench, database_url: str) -> None:
    settings = Settings(
        database_url=SecretStr(database_url),
        secret_key=SecretStr(SECRET_KEY),
        webhook_allow="127.0.0.1",
        evidently=False,
        quiet=timedelta(0),
    )
    stop = threading.Event()
    worker = threading.Thread(target=Worker(settings).run, args=(stop,))
    with receiving() as hanging:
        hanging.hold.clear()
        add_webhook(bench.sessions, "ci", hanging.url)
        tell(bench.sessions)
        worker.start()
        try:
            assert hanging.arrived.acquire(timeout=60)
            bench.insert(DAY, bench.rows(1))
            eventually(bench.windows, seconds=60, message="no window was judged")
            (delivery,) = deliveries(bench.sessions)
            assert (delivery.delivered_at, delivery.last_error) == (None, None), "it hangs still"
            hanging.hold.set()
            eventually(
                lambda: deliveries(bench.sessions)[0].delivered_at,
                seconds=60,
                message="it was not delivered",
            )
        finally:
            stop.set()
            worker.join()
