from concurrent.futures import ThreadPoolExecutor

import psycopg
from sqlalchemy import Engine, text

from service.db.migrate import check, upgrade
from service.db.revisions import is_migrated


def test_migrations_and_tables_agree(database_url: str) -> None:
    check(database_url)


def test_partitions_made_at_run_time_are_no_disagreement(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "CREATE TABLE prediction_1 PARTITION OF prediction FOR VALUES IN (1) "
            "PARTITION BY RANGE (ts)"
        )
        connection.execute(
            "CREATE TABLE prediction_1_2026_11 PARTITION OF prediction_1 "
            "FOR VALUES FROM ('2026-11-01') TO ('2026-12-01')"
        )
    check(database_url)


def test_two_processes_migrate_at_once_without_clashing(engine: Engine, database_url: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("DROP SCHEMA logs CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(upgrade, database_url) for _ in range(4)]:
            done.result()
    check(database_url)


def test_migrating_again_changes_nothing(database_url: str) -> None:
    upgrade(database_url)
    check(database_url)


def test_tables_of_this_release_or_a_later_one_will_do(engine: Engine) -> None:
    with engine.begin() as connection:
        assert is_migrated(connection)
        for version, will_do in (("9999", True), ("next_release", True), ("0006", False)):
            connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": version})
            assert is_migrated(connection) is will_do
        connection.execute(text("DELETE FROM alembic_version"))
        assert not is_migrated(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        assert not is_migrated(connection)


def test_the_prediction_table_has_its_slots(engine: Engine) -> None:
    with engine.connect() as connection:
        slots = connection.execute(
            text(
                "SELECT left(column_name, 1), count(*) FROM information_schema.columns "
                "WHERE table_name = 'prediction' AND column_name ~ '^[ncv][0-9]+$' "
                "GROUP BY 1 ORDER BY 1"
            )
        ).all()
    assert [tuple(row) for row in slots] == [("c", 64), ("n", 256), ("v", 4)]
