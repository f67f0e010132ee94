"""What is found in rows after a window's verdict counts for it, and is never changed silently."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker

from service.alerts.tables import Incident
from service.evaluation import rows as row_steps
from service.evaluation.measurement import Direction, Verdict
from service.evaluation.measurement import Measurement as Measured
from service.evaluation.rows import Sampled, Step
from service.evaluation.slices import UNDER_FLOOR
from service.ledger.marks import Item, mark
from service.ledger.tables import DueWork
from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.retraining.tables import RetrainingRequest
from service.runs import row_stage
from service.runs.leases import LeaseKeeper
from service.runs.queries import report_of
from service.runs.row_stage import RowStage
from service.runs.tables import Evaluation, Measurement, RowFinding, Window
from service.webhooks.tables import Outbox
from tests.integration.runs.bench import DAY, LEASE, ROWS, SCORE_OF_EVIDENTLY, Bench
from tests.integration.webhooks.receiver import add_webhook

FINE = Measured(
    metric="domain_classifier_auc",
    subject="basic",
    value=0.5,
    n=ROWS,
    method="m",
    direction=Direction.HIGHER_IS_WORSE,
    verdict=Verdict.OK,
)
BAD = replace(FINE, subject="gold", value=0.7, threshold=0.6, verdict=Verdict.ALERT)
CRITICAL = replace(BAD, metric="roc_auc", slice="gold", threshold=0.9, reason=UNDER_FLOOR)


class Stage:
    """The row stage in this process, with steps of the test's own."""

    def __init__(self, bench: Bench, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = bench
        self.found: list[Measured] = [FINE]
        self.of_labels: list[Measured] = []
        self.calls: list[str] = []
        self.seen: list[Sampled] = []
        steps = (
            Step("rows", self._step("rows", lambda: self.found)),
            Step("labels", self._step("labels", lambda: self.of_labels), uses_labels=True),
        )
        monkeypatch.setattr(row_steps, "STEPS", steps)
        monkeypatch.setattr("service.runs.row_material.measure", lambda *_, **__: [])
        leases = LeaseKeeper(bench.sessions, "test", LEASE)
        self.stage = RowStage(bench.sessions, url, leases, worker="test", lease=LEASE)
        monkeypatch.setattr(self.stage, "_call", lambda function, *rest: function(*rest))

    def _step(
        self, name: str, found: Callable[[], list[Measured]]
    ) -> Callable[..., list[Measured]]:
        def step(sampled: Sampled, *_: Any) -> list[Measured]:
            self.calls.append(name)
            self.seen.append(sampled)
            return found()

        return step

    def work(self) -> None:
        self.bench.work()
        while self.stage._work_once():
            self.bench.work()

    def said(self, window: Window) -> list[str | None]:
        with self.bench.sessions() as session:
            return list(
                session.scalars(
                    select(Measurement.subject)
                    .where(
                        Measurement.window_id == window.id,
                        Measurement.metric == "domain_classifier_auc",
                    )
                    .order_by(Measurement.position)
                )
            )


@pytest.fixture
def bench(
    sessions: sessionmaker[Session],
    engine: Engine,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bench]:
    made = Bench(sessions, engine, database_url, tmp_path)
    made.pipeline._row_stage = True
    monkeypatch.setattr("service.runs.findings.ROW_STAGE_DELAY", timedelta(0))
    monkeypatch.setattr(row_stage, "RETRY", timedelta(0))
    made.store_reference()
    yield made
    made.reader.close()


@pytest.fixture
def stage(bench: Bench, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    made = Stage(bench, database_url, monkeypatch)
    yield made
    made.stage._reader.close()


def _put(bench: Bench, **content: Any) -> None:
    with bench.sessions.begin() as session:
        put_monitor(session, "loans", MonitorDocument.model_validate({"model": "loans", **content}))


def test_a_finding_that_changes_no_verdict_is_appended(bench: Bench, stage: Stage) -> None:
    bench.insert(DAY, bench.rows(1))
    stage.work()
    (window,) = bench.windows()
    assert (window.revision, window.verdicts["multivariate"]) == (1, "ok")
    assert stage.said(window) == ["basic"]
    assert bench.count(DueWork) == 0


def test_a_finding_that_alerts_makes_the_next_revision(bench: Bench, stage: Stage) -> None:
    bench.insert(DAY, bench.rows(1))
    stage.found = [FINE, BAD]
    stage.work()
    first, second = bench.windows()
    assert (first.latest, first.action, "multivariate" in first.verdicts) == (False, "none", False)
    assert (second.revision, second.latest, second.action) == (2, True, "watch")
    assert second.verdicts["multivariate"] == "alert"
    assert "gold" in second.reason
    assert stage.said(first) == []
    assert stage.said(second) == ["basic", "gold"]


def test_what_is_found_may_ask_for_retraining(bench: Bench, stage: Stage) -> None:
    _put(bench, alert={"open": "2 of 3"})
    add_webhook(bench.sessions, "pager")
    where = "gold is 4.0 % of the rows and 100 % of the rise of the loss"
    share = replace(FINE, metric="loss_contribution", subject=None, slice="gold", verdict=None)
    stage.found, stage.of_labels = [CRITICAL], [replace(share, reason=where)]
    _insert_labelled(bench, DAY, 1)
    stage.work()
    assert bench.count(RetrainingRequest) == 0
    _insert_labelled(bench, DAY + timedelta(days=1), 2)
    stage.work()
    with bench.sessions() as session:
        request = session.scalars(select(RetrainingRequest)).one()
        told = session.scalars(select(Outbox.event)).one()
        assert told["data"]["reason"] == f"{request.reason}; {where}"


def test_what_is_found_in_a_window_that_was_judged_silently_alerts_nobody(
    bench: Bench, stage: Stage
) -> None:
    _put(bench, alert={"open": "1 of 1"})
    _insert_labelled(bench, DAY, 1)
    _collect(bench)
    with bench.sessions.begin() as session:
        ask = Evaluation(
            model_id=bench.version.model_id,
            from_=DAY,
            until=DAY + timedelta(days=1),
            alert=False,
        )
        session.add(ask)
    stage.found = [CRITICAL]
    stage.work()
    assert [(w.action, w.silent) for w in bench.windows()] == [("none", True), ("retrain", True)]
    assert bench.count(RetrainingRequest) == 0


def _insert_labelled(bench: Bench, day: datetime, seed: int) -> None:
    rows = bench.rows(seed)
    bench.insert(day, rows)
    bench.label(day, rows)


def _collect(bench: Bench) -> None:
    while bench.pipeline.collect() or bench.pipeline.profile():
        pass


def test_labels_keep_what_was_found_without_them_and_ask_for_the_rest_again(
    bench: Bench, stage: Stage
) -> None:
    rows = bench.rows(1)
    stage.found, stage.of_labels = [FINE], [BAD]
    bench.insert(DAY, rows)
    stage.work()
    assert stage.calls == ["rows"]
    bench.label(DAY, rows)
    stage.work()
    assert stage.calls == ["rows", "labels"]
    *_, before, after = bench.windows()
    assert stage.said(before) == ["basic"]
    assert stage.said(after) == ["basic", "gold"]
    assert (after.labelled, after.action) == (ROWS, "watch")
    labels = stage.seen[-1].current["label"].to_pylist()
    assert sorted(labels) == sorted(map(str, rows[3]))


def test_a_slice_that_is_found_late_does_not_recover_in_windows_that_could_not_be_searched(
    bench: Bench, stage: Stage
) -> None:
    found = replace(BAD, metric="accuracy", subject=None, slice="region=north")
    searched = replace(FINE, metric="discovered_slices", subject=None)
    first = [bench.rows(day) for day in range(4)]
    for day, rows in enumerate(first):
        bench.insert(DAY + timedelta(days=day), rows)
    stage.work()
    assert [window.labelled for window in bench.windows()] == [0] * 4
    ends = []
    for alerts in (True, False):
        stage.of_labels = [searched, found] if alerts else [searched]
        for day in (0, 1) if alerts else (2, 3):
            bench.label(DAY + timedelta(days=day), first[day])
        stage.work()
        with bench.sessions() as session:
            asked = select(Incident).where(Incident.slice == "region=north")
            incident = session.scalars(asked).one()
        ends.append((incident.state, incident.closed_start))
    assert ends == [("open", None), ("closed", DAY + timedelta(days=3))]


def test_late_rows_are_looked_at_again(bench: Bench, stage: Stage) -> None:
    bench.insert(DAY, bench.rows(1))
    stage.work()
    bench.insert(DAY, bench.rows(2), prefix="late-")
    stage.work()
    assert stage.calls == ["rows", "rows"]
    assert stage.seen[-1].current.num_rows == 2 * ROWS
    assert [w.revision for w in bench.windows()] == [1, 2]


def test_windows_that_slide_over_each_other_are_looked_at_one_after_the_other(
    bench: Bench, stage: Stage
) -> None:
    _put(bench, window="1d", every="6h")
    bench.insert(DAY, bench.rows(1))
    stage.work()
    assert len(bench.windows()) == 7
    with bench.sessions() as session:
        starts = set(session.scalars(select(RowFinding.start)))
    assert starts == {DAY}


def test_another_monitor_document_asks_again(bench: Bench, stage: Stage) -> None:
    bench.insert(DAY, bench.rows(1))
    stage.work()
    _put(bench, min_rows=50)
    with bench.sessions.begin() as session:
        session.add(
            Evaluation(
                model_id=bench.version.model_id,
                from_=DAY,
                until=DAY + timedelta(days=1),
                alert=True,
            )
        )
    stage.work()
    assert stage.calls == ["rows", "rows"]
    assert stage.said(bench.windows()[-1]) == ["basic"]


def test_an_engine_that_fails_again_and_again_is_given_up_and_costs_no_other(
    bench: Bench, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(function: Any, engine: str, *rest: Any) -> Any:
        if engine == "rows":
            raise TimeoutError
        stage.calls.append(engine)
        return [replace(FINE, subject="scored")]

    monkeypatch.setattr(stage.stage, "_call", call)
    bench.insert(DAY, bench.rows(1))
    stage.work()
    assert stage.calls == ["evidently"]
    (window,) = bench.windows()
    assert stage.said(window) == ["scored"]
    with bench.sessions() as session:
        reasons = select(Measurement.reason).where(Measurement.metric == "rows")
        assert session.scalars(reasons.where(Measurement.n == 0)).all() == ["gave up: TimeoutError"]
    assert bench.count(DueWork) == 0


SCORE = replace(SCORE_OF_EVIDENTLY, value=0.9)


def test_a_window_that_is_watched_by_evidently_waits_for_its_score(
    bench: Bench, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(bench, drift={"features": {"income": {"method": "evidently.wasserstein"}}})
    measured = "service.runs.row_material.measure"
    monkeypatch.setattr(measured, lambda *_, **__: [SCORE])
    bench.insert(DAY, bench.rows(1, shift=1.0))
    bench.work()
    assert bench.windows() == []
    stage.work()
    (window,) = bench.windows()
    assert window.verdicts["drift"] == "alert"
    with bench.sessions() as session:
        (drift,) = session.scalars(
            select(Measurement).where(
                Measurement.metric == "drift", Measurement.subject == "income"
            )
        )
    assert (drift.method, drift.engine, drift.value, drift.verdict) == (
        "evidently.wasserstein",
        "evidently",
        0.9,
        "alert",
    )
    assert bench.count(DueWork) == 0


def test_a_window_whose_scores_never_come_is_judged_without_them(
    bench: Bench, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(bench, drift={"features": {"income": {"method": "evidently.ks"}}})

    def call(function: Any, engine: str, *rest: Any) -> Any:
        if engine == "evidently":
            raise TimeoutError
        return function(engine, *rest)

    monkeypatch.setattr(stage.stage, "_call", call)
    bench.insert(DAY, bench.rows(1, shift=1.0))
    stage.work()
    (window,) = bench.windows()
    with bench.sessions() as session:
        reasons = session.scalars(
            select(Measurement.reason).where(
                Measurement.window_id == window.id, Measurement.engine == "evidently"
            )
        ).all()
    assert reasons == ["Evidently gave no score"]


def test_a_report_that_cannot_be_rendered_is_given_up(
    bench: Bench, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.insert(DAY, bench.rows(1))
    stage.work()
    (window,) = bench.windows()
    with bench.sessions.begin() as session:
        item = Item(window.model_id, window.version_id, window.start, window.end)
        mark(session, "report", [item])

    def call(*_: Any) -> Any:
        raise TimeoutError

    monkeypatch.setattr(stage.stage, "_call", call)
    stage.work()
    assert bench.count(DueWork) == 0
    with bench.sessions() as session:
        report = report_of(session, window.id)
        assert report is not None
        assert report.error == "TimeoutError"
