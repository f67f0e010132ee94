"""Recorded results are exported as they are, and nothing else is."""

import time

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from service.clock import now
from service.exporter.catalogue import CATALOGUE
from service.exporter.collector import read_results, render_results
from service.ledger.tables import DueWork
from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.registry.tables import Version
from service.runs.tables import LatestWindow, Window
from service.webhooks.tables import Outbox
from tests.integration.exporter.reading import collected
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

Sessions = sessionmaker[Session]


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
    ("quality", "expected"),
    [({}, 21_600), ({"min_rows_per_hour": 0.5}, 7200), ({"min_rows_per_hour": 60}, 3600)],
)
def test_how_long_a_model_may_be_silent_follows_its_monitor(
    sessions: Sessions, quality: dict[str, float], expected: float
) -> None:
    register(sessions, "7")
    document = {"model": "loans", "window": "6h", "quality": quality}
    with sessions.begin() as session:
        put_monitor(session, "loans", MonitorDocument.model_validate(document))
    assert collected(sessions)["expected_prediction_interval_seconds",] == expected


@pytest.mark.parametrize(
    ("horizon", "day", "expected"),
    [
        ("6h", 1, 0.25),
        ("3000d", 1, 0.82),
        (None, 1, 0.82),
        # Labels have judged a newer window since, though its horizon has not passed.
        ("2d", -4, 0.82),
    ],
)
def test_labels_that_should_be_in_by_now_count_though_they_judge_nothing(
    sessions: Sessions, horizon: str | None, day: int, expected: float
) -> None:
    version = seed(sessions)
    document = {"model": "loans", "performance": {"label_horizon": horizon}}
    with sessions.begin() as session:
        put_monitor(session, "loans", MonitorDocument.model_validate(document))
        add_window(session, version, day, label_coverage=0.25)
    # The judged window ended a day and a half ago.
    ago = now() - 1.5 * DAY - (START + DAY)
    with sessions.begin() as session:
        for table in (Window, LatestWindow):
            moved = {"start": table.start + ago, "end": table.end + ago}
            session.execute(update(table).values(moved))
    assert collected(sessions)["label_coverage_ratio",] == expected


def test_a_verdict_is_of_the_newest_window_that_has_its_figures(sessions: Sessions) -> None:
    version = seed(sessions)
    with sessions.begin() as session:
        newer = add_window(
            session, version, 1, verdicts={"drift": "ok", "performance": "insufficient_data"}
        )
        session.execute(
            update(LatestWindow)
            .where(LatestWindow.family == "data", LatestWindow.version_id == version.version_id)
            .values(start=newer.start, end=newer.end)
        )
    found = collected(sessions)
    assert found["verdict", "drift"] == 0
    assert found["verdict", "performance"] == 1
    assert ("verdict", "quality") not in found, "the newest window does not say"


def test_the_newest_revision_of_a_monitor_counts(sessions: Sessions) -> None:
    register(sessions, "7")
    for window in ("6h", "1h"):
        document = MonitorDocument.model_validate({"model": "loans", "window": window})
        with sessions.begin() as session:
            put_monitor(session, "loans", document)
    assert collected(sessions)["evaluation_interval_seconds",] == 3600


def test_work_counts_while_it_is_due_and_an_event_while_somebody_may_still_hear_of_it(
    sessions: Sessions,
) -> None:
    seed(sessions)
    with sessions.begin() as session:
        session.execute(update(DueWork).values(due_at=now() + DAY))
        waiting = session.scalars(select(Outbox)).one()
        event = {"dedupe_key": waiting.dedupe_key, "event": waiting.event}
        session.add(Outbox(**event))
    found = collected(sessions)
    assert (found["jobs_pending", "window"], found["jobs_pending", "webhooks"]) == (0, 1)
    with sessions.begin() as session:
        session.execute(update(Outbox).values(abandoned=True))
    assert collected(sessions)["jobs_pending", "webhooks"] == 0


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
        assert b'model_version="6"' not in render_results(read_results(session)).content
    with sessions.begin() as session:
        session.execute(update(Version).values(stage="retired"))
    with sessions() as session:
        assert b"model_version" not in render_results(read_results(session)).content


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


def test_without_any_model_the_service_still_speaks_of_itself(sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(delete(Version))
    found = collected(sessions)
    assert found["jobs_pending", "window"] == 0
    assert ("worker_heartbeat_timestamp_seconds",) not in found
