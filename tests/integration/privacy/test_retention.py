"""Rows go month by month; what was measured of them, and newer rows, stay."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.tables import BucketProfile
from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.registry.tables import Model
from service.runs.retention import Retention
from tests.integration.privacy.conftest import Serve
from tests.integration.runs.bench import Bench

NOW = datetime.now(UTC)
OLD = (NOW - timedelta(days=120)).replace(hour=1, minute=0, second=0, microsecond=0)
NEW = (NOW - timedelta(days=20)).replace(hour=1, minute=0, second=0, microsecond=0)
KEPT = {"retention": {"rows": "60d"}}


def drop(sessions: sessionmaker[Session], url: str) -> int:
    retention = Retention(sessions, url)
    steps = 0
    while retention.drop():
        steps += 1
    return steps


def records(prefix: str, start: datetime, count: int = 60) -> list[dict[str, Any]]:
    return [
        {
            "prediction_id": f"{prefix}-{n}",
            "ts": (start + timedelta(minutes=n)).isoformat(),
            "features": {"income": float(n)},
            "prediction": "1",
            "score": 0.7,
        }
        for n in range(count)
    ]


def labels(prefix: str, at: datetime, label: str = "1", count: int = 60) -> list[dict[str, Any]]:
    return [
        {"prediction_id": f"{prefix}-{n}", "label": label, "label_ts": at.isoformat()}
        for n in range(count)
    ]


def keep(sessions: sessionmaker[Session], **content: Any) -> None:
    with sessions.begin() as session:
        document = MonitorDocument.model_validate({"model": "loans", "min_rows": 10, **content})
        put_monitor(session, "loans", document)


class Sender:
    def __init__(self, serve: Serve) -> None:
        self.client = serve()

    def rows(self, sent: list[dict[str, Any]]) -> dict[str, Any]:
        return self._post("predictions", {"model": "loans", "version": "1", "records": sent})

    def labels(self, sent: list[dict[str, Any]]) -> dict[str, Any]:
        return self._post("labels", {"model": "loans", "records": sent})

    def _post(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.post(f"/v1/{kind}", json=body)
        found: dict[str, Any] = answer.json()
        return found


def ids(url: str, table: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(f"SELECT DISTINCT prediction_id FROM {table}").fetchall()
    return {name.partition("-")[0] for (name,) in rows}


def leaves(url: str) -> list[str]:
    query = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'prediction_m%'"
    with psycopg.connect(url) as connection:
        return [name for (name,) in connection.execute(query).fetchall()]


def profiles(bench: Bench) -> dict[tuple[datetime, str], tuple[int, bytes]]:
    with bench.sessions() as session:
        rows = session.scalars(select(BucketProfile)).all()
    return {(row.start, row.family): (row.rows, row.content) for row in rows}


def test_a_month_that_is_too_old_goes_and_what_was_measured_stays(
    bench: Bench, serve: Serve, database_url: str
) -> None:
    send = Sender(serve)
    keep(bench.sessions)
    for prefix, start in (("old", OLD), ("new", NEW)):
        assert send.rows(records(prefix, start))["accepted"] == 60
        assert send.labels(labels(prefix, start + timedelta(days=1)))["accepted"] == 60
    bench.work()
    before, windows = profiles(bench), bench.windows()
    assert drop(bench.sessions, database_url) == 0
    keep(bench.sessions, **KEPT)
    with psycopg.connect(database_url) as connection:
        for digest, ts in ((b"old", OLD), (b"new", NEW), (b"untimed", None)):
            row = (bench.version.model_id, digest, ts)
            connection.execute("INSERT INTO erased_prediction VALUES (%s, %s, %s)", row)
    assert drop(bench.sessions, database_url) > 0
    with psycopg.connect(database_url) as connection:
        left = connection.execute("SELECT digest FROM erased_prediction ORDER BY 1").fetchall()
    assert left == [(b"new",), (b"untimed",)]
    for table in ("prediction", "prediction_identity", "label"):
        assert ids(database_url, table) == {"new"}
    with bench.sessions() as session:
        since = session.scalars(select(Model.rows_since)).one()
    assert since is not None
    assert OLD < since < NEW
    # A late label, another document: nothing makes the old windows poorer than they were.
    client = serve()
    again = send.labels(labels("old", NOW - timedelta(days=1), "0", 3))
    assert again["accepted"] == 3
    send.labels(labels("new", NOW - timedelta(days=1), "0", 3))
    for start in (OLD, NEW):
        hour = start.replace(minute=0)
        with psycopg.connect(database_url) as connection:
            connection.execute(
                "INSERT INTO arrival (model_id, version_id, bucket, kind) VALUES (%s, %s, %s, %s)",
                (bench.version.model_id, bench.version.version_id, hour, "rows"),
            )
    bench.work()
    after = profiles(bench)
    old = {key for key in before if key[0] < since}
    assert {key: after[key] for key in old} == {key: before[key] for key in old}
    assert after.keys() == before.keys()
    assert [w.rows for w in bench.windows() if w.start < since] == [
        w.rows for w in windows if w.start < since
    ]
    assert drop(bench.sessions, database_url) == 0
    client.close()


def test_what_is_older_than_is_kept_is_refused_as_too_old(bench: Bench, serve: Serve) -> None:
    keep(bench.sessions, **KEPT)
    send = Sender(serve)
    mixed = records("old", OLD, 1) + records("new", NEW, 1)
    answer = send.rows(mixed)
    assert (answer["accepted"], [r["code"] for r in answer["rejected"]]) == (
        1,
        ["timestamp-too-old"],
    )
    answer = send.labels(labels("old", OLD, count=1) + labels("new", NEW, count=1))
    assert (answer["accepted"], [r["code"] for r in answer["rejected"]]) == (
        1,
        ["timestamp-too-old"],
    )


def test_one_worker_at_a_time_drops_rows(bench: Bench, serve: Serve, database_url: str) -> None:
    Sender(serve).rows(records("old", OLD))
    keep(bench.sessions, **KEPT)
    first = Retention(bench.sessions, database_url)
    assert first.drop()
    assert drop(bench.sessions, database_url) == 0
    assert len(leaves(database_url)) == 1
    first.close()
    assert drop(bench.sessions, database_url) > 0
    assert not leaves(database_url)


def test_months_go_beside_vacuum_and_a_migration(
    bench: Bench, serve: Serve, database_url: str
) -> None:
    Sender(serve).rows(records("old", OLD))
    keep(bench.sessions, **KEPT)
    retention = Retention(bench.sessions, database_url)
    with psycopg.connect(database_url) as operator:
        operator.execute("SET lock_timeout = '20s'")
        operator.execute("LOCK TABLE erased_prediction IN SHARE UPDATE EXCLUSIVE MODE")
        assert retention.drop()
        operator.execute("ALTER TABLE erased_prediction ADD COLUMN more integer")
    while retention.drop():
        pass
    assert not leaves(database_url)


def test_ingest_goes_on_while_months_go_and_every_worker_may_be_killed(
    bench: Bench, serve: Serve, database_url: str
) -> None:
    send = Sender(serve)
    months = [OLD - timedelta(days=31 * n) for n in range(4)]
    for number, month in enumerate(months):
        assert send.rows(records(f"old{number}", month, 500))["accepted"] == 500
    keep(bench.sessions, **KEPT)
    stop = threading.Event()
    stored: list[int | None] = []

    def ingest() -> None:
        while not stop.is_set():
            number = len(stored)
            stored.append(send.rows(records(f"n{number}x", NEW, 20)).get("accepted"))

    thread = threading.Thread(target=ingest)
    thread.start()
    try:
        # Each worker ends after some steps, wherever it is then.
        for lifetime in range(100):
            retention = Retention(bench.sessions, database_url)
            for _ in range(1 + lifetime % 5):
                retention.drop()
            retention.close()
            if len(leaves(database_url)) == 1 and len(stored) > 3:
                break
    finally:
        stop.set()
        thread.join()
    assert stored
    assert set(stored) == {20}
    kept = {f"n{number}x" for number in range(len(stored))}
    assert ids(database_url, "prediction") == ids(database_url, "prediction_identity") == kept
    assert len(leaves(database_url)) == 1
