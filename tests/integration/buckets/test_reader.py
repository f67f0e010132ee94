"""The reads of rows with their labels, as PostgreSQL plans them."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session, sessionmaker

from service.buckets import reader
from service.registry.repository import find_version
from service.registry.schemas import ModelDocument, VersionDocument
from service.registry.service import put_model, put_version
from service.registry.values import VersionSpec
from tests.integration.seeded import DAY, START

ROWS = 300


def _register(sessions: sessionmaker[Session], model: str) -> VersionSpec:
    with sessions.begin() as session:
        put_model(session, model, ModelDocument())
        put_version(session, model, "1", VersionDocument())
    with sessions() as session:
        return find_version(session, model, "1")


def _fill(connection: Connection, version: VersionSpec) -> None:
    model, key = version.model_id, {"model": version.model_id, "version": version.version_id}
    rows = f"generate_series(1, {ROWS}) AS i"
    at = f"timestamptz '{START.isoformat()}' + i * interval '1 minute'"
    connection.exec_driver_sql(
        f"CREATE TABLE part_{model} PARTITION OF prediction FOR VALUES IN ({model})"
    )
    connection.execute(
        text(
            "INSERT INTO prediction (model_id, version_id, prediction_id, ts, prediction)"
            f" SELECT :model, :version, 'id-' || i, {at}, '1' FROM {rows}"
        ),
        key,
    )
    connection.execute(
        text(
            "INSERT INTO label (model_id, prediction_id, label_ts, label)"
            f" SELECT :model, 'id-' || i, {at}, '1' FROM {rows}"
        ),
        key,
    )


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def test_labels_of_a_model_that_the_statistics_do_not_know_are_not_searched_row_by_row(
    engine: Engine, sessions: sessionmaker[Session]
) -> None:
    known, newer = (_register(sessions, name) for name in ("known", "newer"))
    with engine.begin() as connection:
        _fill(connection, known)
        connection.exec_driver_sql("ANALYZE label")
        _fill(connection, newer)
        for unlabelled in (False, True):
            query = reader._with_newest_label(
                newer, reader._fixed(newer), START, START + DAY, unlabelled=unlabelled
            )
            [plan] = connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {reader.as_text(query)}"
            ).scalar_one()
            nodes = list(_nodes(plan["Plan"]))
            assert nodes[0]["Actual Rows"] == ROWS
            assert sum(node.get("Rows Removed by Join Filter", 0) for node in nodes) == 0
