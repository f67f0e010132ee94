import ast
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
from alembic import command
from sqlalchemy import Engine, text

from service.db.migrate import check, configuration, upgrade
from service.db.revisions import is_migrated, migrations_directory
from tests.conftest import as_user, with_database


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


def test_a_large_index_may_be_there_before_its_migration(engine: Engine, database_url: str) -> None:
    some = "(subject) WHERE subject IS NOT NULL"
    statements = (
        "CREATE TABLE prediction_1 PARTITION OF prediction FOR VALUES IN (1)",
        f"CREATE INDEX ix_prediction_subject ON ONLY prediction {some}",
        f"CREATE INDEX CONCURRENTLY prediction_1_subject ON prediction_1 {some}",
        "ALTER INDEX ix_prediction_subject ATTACH PARTITION prediction_1_subject",
    )
    with engine.begin() as connection:
        command.downgrade(configuration(connection), "0010")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.execute(text(statement))
    upgrade(database_url)
    check(database_url)
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_prediction_subject'::regclass"
    with engine.connect() as connection:
        assert connection.scalar(text(valid))


def test_an_index_of_a_large_table_may_be_there_before_its_migration() -> None:
    large = {"prediction", "prediction_identity", "label"}
    calls = [
        (path.name, node)
        for path in (migrations_directory() / "versions").glob("*.py")
        if path.name >= "0011"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "create_index"
        and isinstance(node.args[1], ast.Constant)
        and node.args[1].value in large
    ]
    assert calls
    for name, call in calls:
        assert "if_not_exists" in {each.arg for each in call.keywords}, name


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


def test_an_owner_who_may_make_no_table_finds_all_of_them_there(cluster_url: str) -> None:
    owner = f"owner_{uuid.uuid4().hex}"
    with psycopg.connect(cluster_url, autocommit=True) as server:
        server.execute(f"CREATE ROLE {owner} LOGIN PASSWORD '{owner}'".encode())
        server.execute(f"CREATE DATABASE {owner} OWNER {owner}".encode())
        url = with_database(cluster_url, owner)
        own = as_user(url, owner)
        try:
            upgrade(own)
            with psycopg.connect(url) as connection:
                connection.execute("ALTER SCHEMA public OWNER TO CURRENT_USER")
                connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
            upgrade(own)
        finally:
            server.execute(f"DROP DATABASE {owner} WITH (FORCE)".encode())
            server.execute(f"DROP ROLE {owner}".encode())


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


def test_an_earlier_release_leaves_the_tables_of_a_later_one_as_they_are(
    engine: Engine, database_url: str
) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    upgrade(database_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


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
