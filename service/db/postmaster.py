"""Finding and stopping the server of one data directory, and never any other process."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from service.errors import ModelwatchSetupError

POLL = 0.02
FAST_SECONDS = 4.0
IMMEDIATE_SECONDS = 10.0
NOTICE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class PidFile:
    """What ``postmaster.pid`` says."""

    pid: int
    directory: str
    socket_directory: str
    shared_memory_id: int | None
    status: str


def read_pid_file(cluster: Path) -> PidFile | None:
    """Read ``postmaster.pid``; ``None`` while there is none, or only half of one."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if not lines or not lines[0].strip().isdigit():
        return None
    lines += [""] * (8 - len(lines))
    memory = lines[6].split()
    return PidFile(
        pid=int(lines[0]),
        directory=lines[1],
        socket_directory=lines[4],
        shared_memory_id=int(memory[1]) if len(memory) > 1 else None,
        status=lines[7].strip(),
    )


def is_postmaster_of(pid: int, cluster: Path) -> bool:
    """Say whether the process is the postmaster of just this data directory.

    A process id may have been given to another program since the file was written, so the
    command line decides: only the postmaster keeps the ``-D`` that it was started with.
    """
    arguments = _command_line(pid)
    if not arguments or Path(arguments[0]).name != "postgres" or "-D" not in arguments[:-1]:
        return False
    return Path(arguments[arguments.index("-D") + 1]) == cluster


def _command_line(pid: int) -> list[str]:
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return []
    listing = subprocess.run(  # noqa: S603  a fixed program with a number
        ["/bin/ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    )
    return listing.stdout.split()


def stop_postmaster(pid: int, cluster: Path) -> None:
    """Stop the directory's postmaster: fast, then at once, then by force.

    Each step is safe for committed rows; the harder ones cost a recovery at the next start.
    """
    steps = (
        (signal.SIGINT, FAST_SECONDS),
        (signal.SIGQUIT, IMMEDIATE_SECONDS),
        (signal.SIGKILL, IMMEDIATE_SECONDS),
    )
    for signal_number, seconds in steps:
        # A stopped process would only act on the signal once it goes on.
        for each in (signal_number, signal.SIGCONT):
            if is_postmaster_of(pid, cluster):
                try:
                    os.kill(pid, each)
                except ProcessLookupError:
                    return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not is_postmaster_of(pid, cluster):
                return
            time.sleep(POLL)
    message = f"the PostgreSQL server {pid} of {cluster} cannot be stopped"
    raise ModelwatchSetupError(message)


def clear_dead_owner(cluster: Path) -> None:
    """Make the directory startable after its owner was killed.

    A server that survived its owner is stopped.  Its backends notice when it is gone, but for one
    that waits for a lock of a dead process: that is killed, which is safe for committed rows.  A
    pid file whose process id now belongs to another program would keep PostgreSQL from starting,
    so it is removed, but only once no backend of the old server is attached to its shared memory.
    """
    left = read_pid_file(cluster)
    if left is None:
        return
    if is_postmaster_of(left.pid, cluster):
        stop_postmaster(left.pid, cluster)
    _wait_for_backends(left, cluster)
    if _exists(left.pid):
        (cluster / "postmaster.pid").unlink(missing_ok=True)


def _wait_for_backends(left: PidFile, cluster: Path) -> None:
    began = time.monotonic()
    while _attached(left.shared_memory_id):
        waited = time.monotonic() - began
        if waited > IMMEDIATE_SECONDS:
            message = f"a process of the previous PostgreSQL server still uses {cluster}"
            raise ModelwatchSetupError(message)
        if waited > NOTICE_SECONDS:
            for pid in _processes_in(cluster):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(POLL)


def _processes_in(cluster: Path) -> list[int]:
    """Return the PostgreSQL processes that work in the directory; none where /proc is not."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (process / "comm").read_text().strip()
            if name == "postgres" and (process / "cwd").readlink() == cluster:
                found.append(int(process.name))
    return found


def _attached(shared_memory_id: int | None) -> int:
    table = Path("/proc/sysvipc/shm")
    if shared_memory_id is None or not table.exists():
        return 0
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == str(shared_memory_id):
            return int(fields[6])
    return 0


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
