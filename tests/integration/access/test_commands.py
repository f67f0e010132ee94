"""``modelwatch key`` and ``modelwatch audit``, and what may not be opened without a key."""

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.db.embedded import EmbeddedPostgres
from service.processes import cli as module
from service.processes.opening import require_key
from service.registry.schemas import ModelDocument
from service.registry.service import put_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database_url: str
) -> Run:
    monkeypatch.setenv("MODELWATCH_DATABASE_URL", database_url)

    def invoke(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["modelwatch", *arguments])
        with pytest.raises(SystemExit) as ended:
            module.main()
        said = capsys.readouterr()
        return int(str(ended.value.code)), said.out, said.err

    return invoke


def test_a_key_is_printed_once_and_alone(run: Run, database_url: str) -> None:
    code, out, err = run("key", "create", "--scope", "ingest", "--model", "loans", "--name", "x")
    assert code == 0
    assert out.startswith("mw_live_")
    assert len(out.split()) == 1
    assert "not shown again" in err
    secret = out.strip().rsplit("_", 1)[1]
    assert secret not in run("key", "list")[1]
    with psycopg.connect(database_url) as connection:
        for table in ("api_key", "audit"):
            rows = connection.execute(f"SELECT to_jsonb(t) FROM {table} t").fetchall()
            assert rows
            assert secret not in json.dumps(rows)


def test_a_model_that_is_not_there_is_told_of(run: Run, sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        put_model(session, "loans", ModelDocument())
    code, out, err = run("key", "create", "--scope", "read", "--model", "loans", "--model", "loan")
    assert (code, len(out.split())) == (0, 1)
    assert "There is no model loan yet; did you mean 'loans'?" in err
    assert err.count("There is no model") == 1


def test_the_list_says_what_became_of_each_key(run: Run) -> None:
    old = run("key", "create", "--scope", "admin", "--expires", "10d")[1].split("_")[2]
    new = run("key", "rotate", old, "--grace", "1h")[1].split("_")[2]
    gone = run("key", "create", "--scope", "read", "--model", "a", "--model", "b")[1].split("_")[2]
    assert run("key", "revoke", gone)[0] == 0
    lines = {line.split()[0]: line for line in run("key", "list")[1].splitlines()}
    assert "until" in lines[old]
    assert lines[new].split()[1:4] == ["live", "admin", "all"]
    assert lines[gone].split()[1:4] == ["revoked", "read", "a,b"]


def test_a_key_is_rotated_once_and_revoked_for_good(run: Run) -> None:
    kid = run("key", "create", "--scope", "read")[1].split("_")[2]
    assert run("key", "rotate", kid)[0] == 0
    assert run("key", "rotate", kid)[0] == 2
    assert run("key", "revoke", kid)[0] == 0
    assert run("key", "revoke", kid)[0] == 0
    assert run("key", "revoke", "0123456789abcdef")[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--scope", "everything"),
        (),
        ("--scope", "read", "--model", "Not A Name"),
        ("--scope", "read", "--env", "UPPER"),
        ("--scope", "read", "--expires", "-1d"),
        ("--scope", "read", "--rows-per-minute", "0"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run("key", "create", *arguments)
    assert code == 2
    assert out == ""
    assert err


def test_the_chain_is_verified(run: Run, database_url: str) -> None:
    run("key", "create", "--scope", "read")
    code, out, _ = run("audit", "verify")
    assert code == 0
    assert "1 entries" in out
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER TABLE audit DISABLE TRIGGER audit_only_grows")
        connection.execute("UPDATE audit SET actor = 'nobody'")
    code, _, err = run("audit", "verify")
    assert code == 1
    assert "entry 1" in err


def test_an_address_that_others_reach_is_not_opened_without_a_key(run: Run) -> None:
    for command in ("serve", "up"):
        code, _, err = run(command, "--host", "0.0.0.0", "--port", "0")
        assert code == 2
        assert "modelwatch key create" in err
        assert len(err.splitlines()) == 1


def test_a_database_without_tables_says_what_to_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, cluster_url: str
) -> None:
    monkeypatch.setenv("MODELWATCH_DATABASE_URL", cluster_url)
    code, _, err = run("key", "list")
    assert code == 2
    assert "modelwatch migrate" in err


def test_an_api_that_others_reach_may_start_before_its_tables_are_there(
    cluster_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    require_key(cluster_url, "0.0.0.0")
    assert "UndefinedTable" in caplog.text


def test_the_embedded_database_is_found_whether_or_not_it_runs(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MODELWATCH_DATABASE_URL")
    where = ("--data-dir", str(tmp_path / "data"))
    code, out, _ = run("key", "create", "--scope", "admin", *where)
    assert code == 0
    server = EmbeddedPostgres(tmp_path / "data")
    server.start()
    try:
        assert out.split("_")[2] in run("key", "list", *where)[1]
    finally:
        server.stop()


@pytest.mark.parametrize("arguments", [("key", "list"), ("audit", "verify")])
def test_a_directory_without_a_database_is_refused_and_stays_empty(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    monkeypatch.delenv("MODELWATCH_DATABASE_URL")
    code, out, err = run(*arguments, "--data-dir", str(tmp_path / "other"))
    assert code == 2
    assert out == ""
    assert "there is no database in" in err
    assert not (tmp_path / "other").exists()
