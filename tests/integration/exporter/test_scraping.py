"""A scrape waits for the first rendering alone; an outage leaves the newest one."""

import os
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from shutil import which

import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, Engine, make_url, text
from sqlalchemy.orm import Session, sessionmaker

from service import telemetry
from service.exporter import refresher
from service.exporter.endpoints import router
from service.exporter.refresher import ResultsRefresher
from service.web import install_problems
from tests.integration.exporter.reading import exported
from tests.integration.seeded import seed

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

Sessions = sessionmaker[Session]


@pytest.fixture
def app(
    sessions: Sessions, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FastAPI]:
    # A busy machine takes long to start the process, and would rest for four times as long.
    monkeypatch.setattr(refresher, "FIRST_SECONDS", 300.0)
    monkeypatch.setattr(refresher, "REST", 0.0)
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
    # What comes in is more urgent.
    assert os.getpriority(os.PRIO_PROCESS, app.state.results._renderer.pid) == 19


def test_without_a_first_rendering_the_scrape_fails_instead_of_showing_nothing(
    app: FastAPI, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE latest_window RENAME TO away"))
    began = time.monotonic()
    with TestClient(app) as client:
        answer = client.get("/metrics/models")
        assert (answer.status_code, answer.json()["code"]) == (503, "database-away")
        assert time.monotonic() - began < refresher.FIRST_SECONDS, "it waited for no answer"
        assert client.get("/metrics").status_code == 200
    assert "results cannot be exported: UndefinedTable 42P01" in caplog.text


def test_a_first_rendering_that_takes_too_long_is_not_waited_for(
    app: FastAPI, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresher, "FIRST_SECONDS", 0.1)
    with engine.begin() as connection, TestClient(app) as client:
        connection.execute(text("LOCK TABLE latest_window IN ACCESS EXCLUSIVE MODE"))
        answer = client.get("/metrics/models")
        assert (answer.status_code, answer.json()["code"]) == (503, "not-ready")


def test_an_outage_leaves_the_last_rendering_and_is_said_once(
    sessions: Sessions, database_url: str, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    seed(sessions)
    with closing(ResultsRefresher(database_url)) as results:
        results.refresh()
        before = results.newest
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE latest_window RENAME TO away"))
        for _ in range(2):
            results.refresh()
        assert results.newest is before
        assert caplog.text.count("results cannot be exported") == 1
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE away RENAME TO latest_window"))
        results.refresh()
        assert results.newest is not before
        assert caplog.text.count("results are exported again") == 1


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


def test_after_a_long_rendering_comes_a_longer_rest(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setattr(refresher, "REST", 1e9)
    rendered: list[bool] = []
    first = threading.Event()

    def render(_: ResultsRefresher) -> None:
        time.sleep(0.001)
        rendered.append(True)
        first.set()

    monkeypatch.setattr(ResultsRefresher, "refresh", render)
    with closing(ResultsRefresher(database_url, interval=0.0)) as results:
        results.start()
        first.wait()
        assert results._thread is not None
        results._thread.join(0.5)
    assert rendered == [True]


def test_the_process_that_renders_reads_what_libpq_does(
    sessions: Sessions, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(sessions)
    url = make_url(database_url)
    assert url.password is not None
    monkeypatch.setenv("PGPASSWORD", url.password)
    nameless = url._replace(password=None).render_as_string()
    with closing(ResultsRefresher(nameless)) as results:
        results.refresh()
        assert results.newest is not None


def test_closing_waits_for_no_rendering_and_says_nothing(
    app: FastAPI, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    results = app.state.results
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE latest_window IN ACCESS EXCLUSIVE MODE"))
        results.start()
        while not waiting_for_a_lock(connection):
            time.sleep(0.01)
        pid = results._renderer.pid
        results.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert caplog.text == ""


def waiting_for_a_lock(connection: Connection) -> bool:
    # Of this table alone: the server has other databases.
    wanted = "NOT granted AND relation = 'latest_window'::regclass"
    return bool(connection.scalar(text(f"SELECT EXISTS (SELECT FROM pg_locks WHERE {wanted})")))
