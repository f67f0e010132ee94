"""The database goes away, hangs, refuses rows, loses partitions, gets new schemas."""

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.orm import Session, sessionmaker

from service.ingest.rows import Layout
from service.registry.repository import find_version
from service.registry.schemas import ModelDocument, VersionDocument
from service.registry.service import put_model, put_version
from service.settings import Settings
from tests.integration.ingest.conftest import FEATURES, Api, Run, a_label, a_prediction, running


def close_database(cluster_url: str, database_url: str, *, closed: bool) -> None:
    name = conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(cluster_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {not closed}")
        if closed:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )


@pytest.mark.usefixtures("production_limits")
def test_while_the_database_is_away_clients_are_told_to_come_back(
    run: Run, cluster_url: str, database_url: str
) -> None:
    async def body(api: Api) -> None:
        assert (await api.predictions(a_prediction("a"))).status_code == 200
        close_database(cluster_url, database_url, closed=True)
        answers = await asyncio.gather(*(api.predictions(a_prediction(f"b{i}")) for i in range(9)))
        assert {(a.status_code, a.headers["retry-after"]) for a in answers} == {(503, "2")}
        close_database(cluster_url, database_url, closed=False)
        assert (await api.predictions(a_prediction("c"))).json()["accepted"] == 1
        assert api.count("prediction") == 2

    run(body)


def test_a_connection_that_was_lost_between_requests_costs_no_request(
    run: Run, cluster_url: str, database_url: str
) -> None:
    async def body(api: Api) -> None:
        await api.predictions(a_prediction("a"))
        close_database(cluster_url, database_url, closed=True)
        close_database(cluster_url, database_url, closed=False)
        assert (await api.predictions(a_prediction("b"))).status_code == 200

    run(body)


@pytest.mark.usefixtures("production_limits")
def test_a_database_that_hangs_is_given_up_within_five_seconds(run: Run, database_url: str) -> None:
    async def body(api: Api) -> None:
        await api.predictions(a_prediction("a"))
        with psycopg.connect(database_url) as blocker:
            blocker.execute("LOCK TABLE prediction_identity IN ACCESS EXCLUSIVE MODE")
            # The lock is held until there is an answer.
            answer = await api.predictions(a_prediction("b"))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert (await api.predictions(a_prediction("b"))).json()["accepted"] == 1

    run(body)


def test_a_row_that_only_the_database_refuses_is_found(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Layout.encode

    def corrupt(self: Layout, index: int, fields: Any, owner: Any) -> Any:
        row = encode(self, index, fields, owner)
        if fields.prediction_id.startswith("bad"):
            # A NUL that no check has seen.
            row.cells = row.cells.replace(b"north", b"no\0th")
        return row

    monkeypatch.setattr(Layout, "encode", corrupt)

    async def body(api: Api) -> None:
        ids = [f"good{i}" for i in range(20)]
        mixed = api.predictions(*map(a_prediction, [*ids[:10], "bad1", *ids[10:], "bad2"]))
        others = [api.predictions(a_prediction(f"other{i}")) for i in range(5)]
        answer, *rest = await asyncio.gather(mixed, *others)
        assert [(r["index"], r["code"]) for r in answer.json()["rejected"]] == [
            (10, "database-refused"),
            (21, "database-refused"),
        ]
        assert answer.json()["accepted"] == 20
        assert all(r.json()["accepted"] == 1 for r in rest)
        assert api.count("prediction") == api.count("prediction_identity") == 25
        assert api.query("SELECT sum(rows) FROM ingest_fault") == [(2,)]

    run(body)


def test_a_dropped_partition_is_made_again(run: Run) -> None:
    async def body(api: Api) -> None:
        await api.predictions(a_prediction("a"))
        with psycopg.connect(api.url) as connection:
            [name] = connection.execute(
                "SELECT tableoid::regclass::text FROM prediction"
            ).fetchone() or [""]
            connection.execute(f"DROP TABLE {name}")
        assert (await api.predictions(a_prediction("b"))).json()["accepted"] == 1
        assert api.count("prediction") == 1

    run(body)


def test_two_processes_make_the_same_partitions_and_store_each_id_once(
    run: Run, database_url: str, sessions: sessionmaker[Session]
) -> None:
    async def body(api: Api) -> None:
        rows = [a_prediction(f"{m}", ts=f"2025-{m:02}-01T00:00:00Z") for m in range(1, 13)]
        async with running(database_url, sessions) as other:
            answers = await asyncio.gather(*(a.predictions(*rows) for a in (api, other) * 3))
        assert sum(a.json()["accepted"] for a in answers) == 12
        assert sum(a.json()["duplicates"] for a in answers) == 60
        assert api.count("prediction") == 12

    run(body)


def test_a_schema_that_was_extended_a_moment_ago_is_known(
    run: Run, sessions: sessionmaker[Session]
) -> None:
    async def body(api: Api) -> None:
        await api.predictions(a_prediction("a"))
        with sessions.begin() as session:
            features = [*FEATURES, {"name": "age", "kind": "numeric"}]
            document = VersionDocument.model_validate({"features": features})
            put_version(session, "loans", "7", document)
        older = a_prediction("a")
        newer = a_prediction("b", features={"age": 30, "income": 1})
        answer = (await api.predictions(newer, older)).json()
        # A retry says the same whether or not the schema has grown in between.
        assert (answer["accepted"], answer["duplicates"]) == (1, 1)

    run(body)


def test_more_rows_than_may_wait_are_refused_as_busy(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    async def body() -> None:
        with sessions.begin() as session:
            put_model(session, "loans", ModelDocument())
            put_version(session, "loans", "7", VersionDocument())
        settings = Settings(_env_file=None, max_rows_in_flight=3)
        async with running(database_url, sessions, settings) as api:
            answer = await api.labels(*(a_label(str(i)) for i in range(4)))
            assert (answer.status_code, answer.json()["code"]) == (503, "busy")
            assert answer.headers["retry-after"] == "1"
            assert (await api.labels(a_label())).status_code == 200

    asyncio.run(body())


def test_a_model_that_asks_for_it_gets_its_versions_registered(
    run: Run, sessions: sessionmaker[Session]
) -> None:
    async def body(api: Api) -> None:
        with sessions.begin() as session:
            put_model(session, "loans", ModelDocument(auto_register=True))
        first = await api.predictions(
            a_prediction("a", features={"x": None, "y": True}),
            a_prediction("b", features={"x": 1.5, "y": None, "z": "q"}),
            version="8",
        )
        assert first.json()["accepted"] == 2
        lines = [{**a_prediction("c"), "model": "loans", "version": v} for v in ("8", "9")]
        answer = (await api.lines(*lines)).json()
        assert [r["code"] for r in answer["rejected"]] == ["unknown-feature"]
        with sessions() as session:
            spec = find_version(session, "loans", "8")
        kinds = {feature.name: feature.kind for feature in spec.features}
        assert kinds == {"x": "numeric", "y": "boolean", "z": "categorical"}
        assert (spec.inferred, spec.positive_class) == (True, "1")

    run(body)
