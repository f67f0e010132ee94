"""A PostgreSQL that may be killed, frozen and left without room on its disk."""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg

from service.db.embedded import EmbeddedPostgres
from service.db.postmaster import read_pid_file
from service.errors import ModelwatchSetupError

ROOM = "3g"
STARTING_SECONDS = 20.0
_MEMORY = Path("/dev/shm")
_OPTIONS = {"max_connections": "100", "shared_buffers": "64MB", "max_wal_size": "256MB"}


class Disk:
    """Where the data are: a small file system of their own, if this user may mount one.

    Without it the disk is never full.
    """

    def __init__(self, scratch: Path) -> None:
        self.path = scratch / "disk"
        self.path.mkdir()
        self.is_own = os.geteuid() == 0 and self._mount(f"size={ROOM}")
        if not self.is_own and _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK):
            self.path = Path(tempfile.mkdtemp(prefix="modelwatch-tests-", dir=_MEMORY))

    def fill(self) -> None:
        """Leave no room; the next page that is written fails."""
        used = shutil.disk_usage(self.path).used
        for spare in (0, 64 << 10, 1 << 20, 8 << 20):
            if self._mount(f"remount,size={used + spare}"):
                return

    def clear(self) -> None:
        """Make room again."""
        assert self._mount(f"remount,size={ROOM}")

    def close(self) -> None:
        """Leave nothing behind."""
        if self.is_own:
            subprocess.run(["umount", "-l", str(self.path)], check=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def _mount(self, options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Database:
    """The server, and whoever starts it again when it has ended."""

    def __init__(self, scratch: Path, **options: str) -> None:
        self.disk = Disk(scratch)
        self._server = EmbeddedPostgres(self.disk.path / "data", {**_OPTIONS, **options})
        self.url = ""
        self._starting_since: float | None = None
        self.start()

    @property
    def socket(self) -> str:
        """Return where it listens; another place after each start."""
        return f"{self.url.partition('?host=')[2]}/.s.PGSQL.5432"

    def through(self, port: int) -> str:
        """Return the URL for those who reach it by a proxy."""
        account = self.url.partition("@")[0]
        return f"{account}@127.0.0.1:{port}/modelwatch?sslmode=disable"

    def start(self) -> None:
        """Start it, after its own death as well."""
        self._server.stop()
        self.url = self._server.start()

    def revive(self) -> None:
        """Start it if it has ended; a disk that is full may prevent that for now.

        Where its disk has been full PostgreSQL 18 may wait for its own checkpointer for ever as it
        starts again; whoever runs it notices that it is not ready, and starts it anew.
        """
        if not self._server.is_running():
            with suppress(ModelwatchSetupError, psycopg.Error):
                self.start()
        found = read_pid_file(self._server.cluster)
        if found is None or found.status != "starting":
            self._starting_since = None
        elif self._starting_since is None:
            self._starting_since = time.monotonic()
        elif time.monotonic() > self._starting_since + STARTING_SECONDS:
            self._starting_since = None
            self.kill()

    def stop(self) -> None:
        """Stop it as its administrator does."""
        self._server.stop()

    def close(self) -> None:
        """Stop it, and remove its data."""
        self._server.stop()
        self.disk.close()

    def processes(self) -> list[psutil.Process]:
        """Return the postmaster and its children; none while it is down."""
        found = read_pid_file(self._server.cluster)
        if found is None:
            return []
        with suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(found.pid)
            return [postmaster, *postmaster.children()]
        return []

    def kill(self) -> None:
        """Kill all of it at once."""
        for process in self.processes():
            send(process, signal.SIGKILL)

    def kill_one(self, choice: random.Random) -> None:
        """Kill one of the processes that serve clients; the others start again with it."""
        backends = self.backends()
        if backends:
            send(choice.choice(backends), signal.SIGKILL)

    def backends(self) -> list[psutil.Process]:
        """Return the processes that serve clients."""
        return [p for p in self.processes()[1:] if _serves(p)]

    def freeze(self, processes: list[psutil.Process] | None = None) -> list[psutil.Process]:
        """Stop the clocks of all its processes, or of some; return them."""
        chosen = self.processes() if processes is None else processes
        for process in chosen:
            send(process, signal.SIGSTOP)
        return chosen


def thaw(processes: list[psutil.Process]) -> None:
    """Let processes go on."""
    for process in processes:
        send(process, signal.SIGCONT)


def send(process: psutil.Process, signum: int) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signum)


def _serves(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return any("modelwatch" in part for part in process.cmdline())
    return False
