"""Where a spool may be, and whose: what others have put there, or hold, does it no harm."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from modelwatch import locks
from modelwatch.spool import Spool, SpoolError, opened
from modelwatch.spoolfile import Destination

LOANS = Destination("http://here", "/v1/predictions", "loans", b'{"model": "loans", "version": "7"')
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "a.spool"


def apart(code: str, path: Path) -> "subprocess.CompletedProcess[str]":
    """Run code in a process of its own, with a spool and a destination."""
    script = f"""
from pathlib import Path
from modelwatch.spool import Spool, SpoolError
from modelwatch.spoolfile import Destination
import os, sys
spool = Spool(Path(sys.argv[1]))
to = Destination("http://here", "/v1/predictions", "loans", b"{{")
{code}
"""
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def as_nobody(code: str, path: Path) -> "subprocess.CompletedProcess[str]":
    return apart(f"os.setgid({NOBODY})\nos.setuid({NOBODY})\n{code}", path)


@pytest.fixture
def theirs(folder: Path) -> Path:
    """Return a directory of nobody's own."""
    folder.parent.chmod(0o711)
    os.chown(folder, NOBODY, NOBODY)
    return folder


@needs_root
def test_an_administrator_may_use_the_file_of_another_user_who_may_go_on(theirs: Path) -> None:
    path = theirs / "a.spool"
    stored = as_nobody("spool.store([(to, b'1')]); os.kill(os.getpid(), 9)", path)
    assert stored.returncode == -signal.SIGKILL, stored.stderr
    (theirs / "a.spool-lock").unlink()
    spool = Spool(path)
    assert [one.rows for one in spool.counts()] == [1]
    spool.store([(LOANS, b"1")])
    assert as_nobody("spool.store([(to, b'2')]); print(spool.rows([to]))", path).stdout == "2\n"
    spool.close()


@needs_root
def test_what_an_administrator_opens_is_not_given_away_under_another_name(theirs: Path) -> None:
    secret, path = theirs.parent / "secret", theirs / "a.spool"
    secret.touch()
    as_nobody("spool.store([(to, b'1')])", path)
    (theirs / "a.spool-lock").unlink()
    (theirs / "a.spool-lock").hardlink_to(secret)
    spool = Spool(path)
    spool.counts()
    spool.close()
    assert secret.stat().st_uid == 0


@needs_root
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-lock"])
def test_a_file_that_another_user_has_put_there_is_refused(theirs: Path, suffix: str) -> None:
    path = theirs / "a.spool"
    stored = as_nobody("spool.store([(to, b'1')]); os.kill(os.getpid(), 9)", path)
    assert stored.returncode == -signal.SIGKILL, stored.stderr
    planted = Path(f"{path}{suffix}")
    os.chown(planted, 1, 1)
    planted.chmod(0o666)
    refused = as_nobody("spool.store([(to, b'3')])", path)
    assert f"cannot be used: {planted.name} belongs to another user" in refused.stderr


@needs_root
def test_a_file_that_could_not_be_written_for_a_while_is_written_again(theirs: Path) -> None:
    code = """
spool.store([(to, b'1')])
spool.close()
os.chmod(spool.path, 0o400)
try:
    spool.store([(to, b'2')])
except SpoolError as fault:
    print(fault)
for one in spool.path.parent.iterdir():
    one.chmod(0o600)
spool._again = 0
spool.store([(to, b'3')])
print(spool.rows([to]))
"""
    done = as_nobody(code, theirs / "a.spool")
    assert done.returncode == 0, done.stderr
    [fault, rows] = done.stdout.splitlines()
    assert "attempt to write a readonly database" in fault
    assert rows == "2"


@needs_root
def test_a_directory_of_another_user_is_refused(theirs: Path) -> None:
    os.chown(theirs, 1, NOBODY)
    theirs.chmod(0o775)
    refused = as_nobody("spool.store([(to, b'1')])", theirs / "a.spool")
    assert "cannot be used: its directory belongs to another user" in refused.stderr


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o703])
def test_a_directory_that_anybody_may_write_is_refused(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(SpoolError, match="anybody may write its directory"):
        Spool(folder / "a.spool").store([(LOANS, b"1")])
    assert list(folder.iterdir()) == []
    below = Spool(folder / "own" / "a.spool")
    below.store([(LOANS, b"1")])
    below.close()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-lock"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_file_of_its_own_is_not_opened(
    folder: Path, path: Path, suffix: str, kind: str
) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.touch()
    if kind == "link":
        Path(f"{path}{suffix}").symlink_to(elsewhere)
    else:
        os.mkfifo(f"{path}{suffix}")
    with pytest.raises(SpoolError, match=rf"a\.spool{suffix} is a link, or something else"):
        opened(str(path)).store([(LOANS, b"1")])
    assert len(list(folder.iterdir())) == 2
    assert elsewhere.read_bytes() == b""


def test_a_link_to_the_directory_is_followed(folder: Path) -> None:
    (folder / "disk").mkdir()
    (folder / "link").symlink_to("disk")
    spool = opened(str(folder / "link" / "a.spool"))
    assert spool is opened(str(folder / "disk" / "a.spool"))
    spool.store([(LOANS, b"1")])
    assert (folder / "disk" / "a.spool").exists()
    spool.close()


def test_files_that_others_could_read_are_closed_to_them(path: Path) -> None:
    spool = Spool(path)
    spool.store([(LOANS, b"1")])
    copied = path.parent / "copy"
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copied}{suffix}")
        Path(f"{copied}{suffix}").chmod(0o644)
    other = Spool(copied)
    assert other.rows([LOANS]) == 1
    found = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.glob("copy*")}
    assert found == dict.fromkeys(["copy", "copy-wal", "copy-shm", "copy-lock"], 0o600)
    other.close()
    spool.close()


def test_a_process_that_freezes_with_the_lock_is_waited_for_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(path)
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0.5)
    spool.store([(LOANS, b"1")])
    hold = "import sys; from modelwatch.locks import *; a = Locks(sys.argv[1]); a.open()"
    hold += "; print(a.acquire(WRITER), flush=True); input()"
    command = [sys.executable, "-c", hold, f"{path}-lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as frozen:
        assert frozen.stdout is not None
        assert frozen.stdout.readline() == b"True\n"
        frozen.send_signal(signal.SIGSTOP)
        with pytest.raises(SpoolError, match="another process holds its lock"):
            spool.store([(LOANS, b"2")])
        # Who would wait a second time would wait here.
        monkeypatch.setattr(locks, "LOCK_SECONDS", 3_600.0)
        with pytest.raises(SpoolError, match="another process holds its lock"):
            spool.store([(LOANS, b"2")])
        assert spool.rows([LOANS]) == 1
        frozen.kill()
    # What waited here in vain has the lock now, and lets it go: nobody wants it.
    other = apart("spool.store([(to, b'3')]); print(sum(one.rows for one in spool.counts()))", path)
    assert other.stdout == "2\n", other.stderr
    spool.store([(LOANS, b"4")])
    assert spool.rows([LOANS]) == 2
    assert not spool._locks._is_blocked
    spool.close()
