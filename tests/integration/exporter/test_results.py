"""Recorded results are exported as they are; a scrape neither waits nor forgets."""

import os
import re
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from shutil import which
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, Engine, delete, text, update
from sqlalchemy.orm import Session, sessionmaker

from service import telemetry
from service.exporter import refresher
from service.exporter.catalogue import CATALOGUE
from service.exporter.collector import BUDGET, read_results, render_results
from service.exporter.endpoints import router
from service.exporter.refresher import ResultsRefresher
from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.registry.tables import Version
from service.runs.tables import LatestWindow, Window
from service.web import install_problems
from tests.conftest import sized
from tests.integration.fleet import seed_fleet
from tests.integration.seeded import (
    DAY,
    HOSTILE,
    START,
    add_drift,
    add_incident,
    add_measurement,
    add_signal,
    add_window,
    point_latest,
    register,
    seed,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

Sessions = sessionmaker[Session]
# The clock of whoever runs this need not have come to the seeded days.
YEARS = timedelta(days=800)


def exported(content: bytes) -> dict[tuple[Any, ...], float]:
    return {
        (
            sample.name.removeprefix("modelwatch_"),
            *(v for k, v in sample.labels.items() if k not in {"model", "model_version"}),
        ): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }


def collected(sessions: Sessions, **options: Any) -> dict[tuple[Any, ...], float]:
    with sessions() as session:
        return exported(render_results(read_results(session), **options))


def test_open_incidents_are_exported_until_they_close_and_those_of_the_shadow_are_not(
    sessions: Sessions,
) -> None:
    register(sessions, "7")
    since = START.timestamp()
    add_incident(sessions, kind="quality", metric="missing_ratio", severity="critical")
    add_incident(
        sessions, kind="quality", metric="unseen_ratio", severity="critical", since=START + DAY
    )
    add_incident(sessions, subject=HOSTILE, state="acknowledged")
    add_incident(sessions, subject="age", state="closed", outcome="recovered")
    found = {key: value for key, value in collected(sessions).items() if "incident" in key[0]}
    assert found == {
        (f"incident_{name}", *metric_labels): value
        for metric_labels, started in (
            (("quality", "missing_ratio", "income", "", "critical", "watch"), since),
            (("quality", "unseen_ratio", "income", "", "critical", "watch"), since + 86_400),
            (("drift", "", HOSTILE, "", "warning", "watch"), since),
        )
        for name, value in (("open", 1), ("since_timestamp_seconds", started))
    }
    with sessions.begin() as session:
        session.execute(update(Version).values(stage="shadow"))
    assert not [key for key in collected(sessions) if "incident" in key[0]]


def test_windows_that_drift_in_a_row_are_counted_until_one_that_was_judged_does_not(
    sessions: Sessions,
) -> None:
    version = register(sessions, "7")
    told = {
        "income": ["alert", "calm", "alert", "unknown", "alert", "alert"],
        HOSTILE: ["alert"] * 5 + ["calm"],
    }
    with sessions.begin() as session:
        for day in range(6):
            window = add_window(session, version, day)
        silent = add_window(session, version, 6, silent=True)
        for position, subject in enumerate(told):
            add_drift(session, silent, position, subject)
        point_latest(session, silent)
    for subject, states in told.items():
        for day, state in enumerate(states):
            if state != "calm":
                add_signal(sessions, version, day, subject=subject, state=state)
    found = collected(sessions)
    assert window.end == START + 6 * DAY
    assert found["feature_drift_consecutive_windows", "income"] == 3
    assert found["feature_drift_consecutive_windows", HOSTILE] == 0


@pytest.mark.parametrize(
    ("quality", "expected"), [({}, 21_600), ({"min_rows_per_hour": 0.5}, 7200)]
)
def test_how_long_a_model_may_be_silent_follows_its_monitor(
    sessions: Sessions, quality: dict[str, float], expected: float
) -> None:
    register(sessions, "7")
    document = {"model": "loans", "window": "6h", "quality": quality}
    with sessions.begin() as session:
        put_monitor(session, "loans", MonitorDocument.model_validate(document))
    assert collected(sessions)["expected_prediction_interval_seconds",] == expected


@pytest.mark.parametrize(("horizon", "expected"), [("1d", 0.25), ("3000d", 0.82), (None, 0.82)])
def test_labels_that_should_be_in_by_now_count_though_they_judge_nothing(
    sessions: Sessions, horizon: str | None, expected: float
) -> None:
    version = seed(sessions)
    document = {"model": "loans", "performance": {"label_horizon": horizon}}
    with sessions.begin() as session:
        put_monitor(session, "loans", MonitorDocument.model_validate(document))
        add_window(session, version, 1, label_coverage=0.25)
    with sessions.begin() as session:
        for table in (Window, LatestWindow):
            moved = {"start": table.start - YEARS, "end": table.end - YEARS}
            session.execute(update(table).values(moved))
    assert collected(sessions)["label_coverage_ratio",] == expected


def test_declared_slices_are_exported_and_found_ones_are_not(sessions: Sessions) -> None:
    version = register(sessions, "7")
    with sessions.begin() as session:
        put_monitor(
            session,
            "loans",
            MonitorDocument.model_validate({"model": "loans", "slices": [{"column": "income"}]}),
        )
        window = add_window(session, version)
        for position, more in enumerate(
            (
                {"slice": "income=1"},
                {"slice": "income=2", "engine": "rows"},
                {"slice": "sex=f"},
                {"slice": "income=1", "metric": "selection_rate", "direction": "information"},
                {"subject": "rare", "metric": "recall"},
            )
        ):
            add_measurement(session, window, position, **more)
        point_latest(session, window)
    found = {key: value for key, value in collected(sessions).items() if "slice" in key[0]}
    assert found == {
        ("slice_performance_ratio", "income=1", "roc_auc", "false"): 0.8,
        ("slice_performance_ci_lower_ratio", "income=1", "roc_auc", "false"): 0.78,
        ("slice_performance_ci_upper_ratio", "income=1", "roc_auc", "false"): 0.82,
        ("slice_rows", "income=1"): 4100,
    }
    assert collected(sessions)["class_support_rows", "rare"] == 4100


def test_the_newest_results_of_a_live_version_are_exported(sessions: Sessions) -> None:
    seed(sessions)
    found = collected(sessions)
    expected = {
        ("model_info", "binary", "live", "risk"): 1.0,
        ("evaluation_window_end_timestamp_seconds", "data"): (START + DAY).timestamp(),
        ("evaluation_interval_seconds",): 86_400.0,
        ("expected_prediction_interval_seconds",): 86_400.0,
        ("data_quality_check_failed", "missing_ratio", "critical"): 0.0,
        ("data_quality_check_failed", "constant", "critical"): 0.0,
        ("evaluation_window_rows", "data"): 5000.0,
        ("evaluation_window_rows", "performance"): 4100.0,
        ("verdict", "quality"): 0.0,
        ("verdict", "drift"): 1.0,
        ("verdict", "estimated_performance"): 2.0,
        ("verdict", "performance"): 1.0,
        ("features_monitored",): 2.0,
        ("features_drifting",): 1.0,
        ("feature_drift_score", "income", "jensen_shannon"): 0.31,
        ("feature_drift_threshold", "income", "jensen_shannon"): 0.1,
        ("feature_drift_score", HOSTILE, "jensen_shannon"): 0.01,
        ("feature_drift_score", "income", "evidently_wasserstein"): 0.5,
        ("drift_score", "score", "jensen_shannon"): 0.2,
        ("feature_missing_ratio", "income"): 0.25,
        ("performance_ratio", "roc_auc"): 0.8,
        ("performance_baseline_ratio", "roc_auc"): 0.9,
        ("performance_ci_lower_ratio", "roc_auc"): 0.78,
        ("performance_tolerance_ratio", "roc_auc"): 0.01,
        ("estimated_performance_ratio", "roc_auc"): 0.81,
        ("label_coverage_ratio",): 0.82,
        ("label_coverage_floor_ratio",): 0.5,
        ("retraining_requests", "open"): 1.0,
        ("retraining_requests", "resolved"): 0.0,
        ("jobs_pending", "window"): 1.0,
        ("jobs_pending", "webhooks"): 1.0,
        ("jobs_pending", "report"): 0.0,
        ("export_series_dropped",): 0.0,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert found["export_series",] == len(found)
    assert ("performance_ratio", "recall") not in found, "what has no value has no series"
    assert found["worker_heartbeat_timestamp_seconds",] == pytest.approx(time.time(), abs=60)
    assert found["job_oldest_pending_age_seconds", "window"] > 0
    assert {f"modelwatch_{key[0]}" for key in found} <= set(CATALOGUE)


def test_a_version_that_is_retired_vanishes(sessions: Sessions) -> None:
    seed(sessions)
    with sessions() as session:
        assert b'model_version="6"' not in render_results(read_results(session))
    with sessions.begin() as session:
        session.execute(update(Version).values(stage="retired"))
    with sessions() as session:
        assert b"model_version" not in render_results(read_results(session))


def test_a_new_revision_replaces_what_was_exported(sessions: Sessions) -> None:
    version = seed(sessions)
    with sessions.begin() as session:
        add_window(session, version, revision=3, rows=4999, latest=False)
    assert collected(sessions)["evaluation_window_rows", "data"] == 5000
    with sessions.begin() as session:
        session.execute(update(Window).values(latest=False))
        add_window(session, version, revision=4, rows=5001)
    assert collected(sessions)["evaluation_window_rows", "data"] == 5001


def test_the_time_of_the_newest_prediction_is_read_across_partitions(sessions: Sessions) -> None:
    version = register(sessions, "7")
    with sessions.begin() as session:
        session.execute(
            text(
                f"CREATE TABLE p_model PARTITION OF prediction FOR VALUES IN ({version.model_id})"
                " PARTITION BY RANGE (ts)"
            )
        )
        for month in (10, 11):
            session.execute(
                text(
                    f"CREATE TABLE p_{month} PARTITION OF p_model FOR VALUES"
                    f" FROM ('2026-{month}-01Z') TO ('2026-{month + 1}-01Z')"
                )
            )
            session.execute(
                text(
                    "INSERT INTO prediction (model_id, version_id, prediction_id, ts)"
                    f" VALUES ({version.model_id}, {version.version_id}, 'a', '2026-{month}-01Z')"
                )
            )
    assert collected(sessions)["last_prediction_timestamp_seconds",] == START.timestamp()


def test_a_fleet_is_within_the_budget_and_vanishes_from_its_least_important_end(
    sessions: Sessions,
) -> None:
    models, features = sized(default=10, full=100), 50
    seed_fleet(sessions, models=models, features=features, slices=10)

    def rendered(**given: int) -> bytes:
        with sessions() as session:
            results = read_results(session)
        return render_results(results, **given)

    everything = rendered()
    count = everything.decode().count("\nmodelwatch_")
    # The other figure: 100 models of this width.
    assert 100 * count / models < BUDGET
    assert b"modelwatch_export_series_dropped 0.0\n" in everything
    cut = rendered(budget=count // 2).decode()
    assert cut.count("\nmodelwatch_") == count // 2
    assert f"modelwatch_export_series_dropped {float(count - count // 2)}\n" in cut
    for name in ("modelwatch_slice_rows", "modelwatch_class_recall_ratio", "modelwatch_verdict"):
        assert cut.count(f"\n{name}{{") == everything.decode().count(f"\n{name}{{")
    scores = re.findall(r'\nmodelwatch_feature_drift_score\{.*?feature="(\w+)"', cut)
    assert set(scores) == {f"feature_{n:02}" for n in range(len(set(scores)))}
    assert 0 < len(set(scores)) < features


def test_the_budget_is_kept_and_what_is_left_out_is_counted(sessions: Sessions) -> None:
    seed(sessions)
    everything = collected(sessions)
    found = collected(sessions, budget=len(everything) - 3)
    assert len(found) == len(everything) - 3
    assert found["export_series_dropped",] == 3
    assert ("feature_drift_score", HOSTILE, "jensen_shannon") not in found
    assert ("feature_drift_score", "income", "jensen_shannon") in found


@pytest.fixture
def app(sessions: Sessions, database_url: str) -> Iterator[FastAPI]:
    app = FastAPI()
    app.state.sessions = sessions
    app.state.results = ResultsRefresher(database_url, interval=0.05)
    app.include_router(router)
    install_problems(app)
    yield app
    app.state.results.close()


def test_both_endpoints_pass_the_lint_of_prometheus(app: FastAPI, sessions: Sessions) -> None:
    promtool = which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    seed(sessions)
    telemetry.WEBHOOK_DELIVERIES.labels("webhook", "delivered")
    telemetry.JOB_DURATION.labels("window").observe(0.1)
    with TestClient(app) as client:
        for path in ("/metrics", "/metrics/models"):
            answer = client.get(path)
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            lint = subprocess.run(
                [promtool, "check", "metrics"],
                input=answer.content,
                capture_output=True,
                check=False,
            )
            assert (lint.returncode, lint.stdout, lint.stderr) == (0, b"", b"")


def rendered(content: bytes) -> float:
    return exported(content)["export_refresh_timestamp_seconds",]


def test_the_first_scrape_waits_for_a_rendering_and_the_next_ones_get_newer_ones(
    app: FastAPI, sessions: Sessions
) -> None:
    seed(sessions)
    with TestClient(app) as client:
        first = client.get("/metrics/models")
        assert first.status_code == 200
        until = time.monotonic() + 60
        while rendered(client.get("/metrics/models").content) == rendered(first.content):
            assert time.monotonic() < until
            time.sleep(0.01)


def test_without_a_first_rendering_the_scrape_fails_instead_of_showing_nothing(
    app: FastAPI, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE latest_window RENAME TO away"))
    with TestClient(app) as client:
        answer = client.get("/metrics/models")
        assert (answer.status_code, answer.json()["code"]) == (503, "database-away")
        assert client.get("/metrics").status_code == 200
    assert "results cannot be exported: ProgrammingError" in caplog.text


def test_a_first_rendering_that_takes_too_long_is_not_waited_for(
    app: FastAPI, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresher, "FIRST_SECONDS", 0.1)
    with engine.begin() as connection, TestClient(app) as client:
        connection.execute(text("LOCK TABLE latest_window IN ACCESS EXCLUSIVE MODE"))
        assert client.get("/metrics/models").status_code == 503


def test_an_outage_leaves_the_last_rendering(
    sessions: Sessions, database_url: str, engine: Engine
) -> None:
    seed(sessions)
    with closing(ResultsRefresher(database_url)) as results:
        results.refresh()
        before = results.newest
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE latest_window RENAME TO away"))
        results.refresh()
        assert results.newest is before
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE away RENAME TO latest_window"))
        results.refresh()
        assert results.newest is not before


def test_what_ends_the_process_that_renders_costs_one_rendering(
    sessions: Sessions, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    seed(sessions)
    with closing(ResultsRefresher(database_url)) as results:
        results.refresh()
        before, pid = results.newest, results._renderer.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        refreshing = threading.Thread(target=results.refresh)
        refreshing.start()
        os.kill(pid, signal.SIGKILL)
        refreshing.join(timeout=60)
        assert results.newest is before
        assert "results cannot be exported: ProcessKilledError" in caplog.text
        results.refresh()
        assert results.newest is not before
        last = results._renderer.pid
    assert last not in {None, pid}
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


def test_a_scrape_does_not_wait_for_a_refresh(
    app: FastAPI, sessions: Sessions, engine: Engine
) -> None:
    seed(sessions)
    with TestClient(app) as client:
        first = client.get("/metrics/models")
        with engine.begin() as connection:
            connection.execute(text("LOCK TABLE latest_window IN ACCESS EXCLUSIVE MODE"))
            while not waiting_for_a_lock(connection):
                time.sleep(0.01)
            assert client.get("/metrics/models").status_code == first.status_code == 200


def waiting_for_a_lock(connection: Connection) -> bool:
    return bool(connection.scalar(text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")))


def test_without_any_model_the_service_still_speaks_of_itself(sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(delete(Version))
    found = collected(sessions)
    assert found["jobs_pending", "window"] == 0
    assert ("worker_heartbeat_timestamp_seconds",) not in found
