"""Where a spool lies: which file it is, and whose."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from modelwatch.locks import OWNER_ONLY
from modelwatch.spoolfile import APPLICATION, ForeignFileError

if TYPE_CHECKING:
    from modelwatch.locks import Locks

MAGIC = b"SQLite format 3\0"
APPLICATION_AT = 68
SUFFIXES = ("", "-wal", "-shm", "-lock")
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another of the same name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def create(path: Path) -> tuple[int, int] | None:
    """Make a file that its owner alone may read; what SQLite puts beside it is like it."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, OWNER_ONLY))
    return identity(path)


def is_ours(path: Path) -> bool:
    """Say whether a file, broken as it may be, is a spool."""
    with path.open("rb") as file:
        head = file.read(APPLICATION_AT + 4)
    return head.startswith(MAGIC) and head[APPLICATION_AT:] == APPLICATION.to_bytes(4, "big")


def refuse(path: Path) -> None:
    """Raise, before anything is put there, if it is no place for a spool.

    Whoever may put files beside it may have us write to one that they can read.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not hasattr(os, "geteuid"):
        return
    me = os.geteuid()
    directory = path.parent.stat()
    if directory.st_mode & stat.S_IWOTH:
        message = "anybody may write its directory; name one below it, which is made for it alone"
        raise ForeignFileError(message)
    if me not in {0, directory.st_uid} and directory.st_uid != 0:
        message = "its directory belongs to another user"
        raise ForeignFileError(message)
    for suffix in SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            _refuse(Path(f"{path}{suffix}"), me, directory.st_uid)


def _refuse(path: Path, me: int, owner: int) -> None:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        message = f"{path.name} is a link, or something else that is no file"
        raise ForeignFileError(message)
    # An administrator sends what a user has stored.
    if me not in {0, found.st_uid}:
        message = f"{path.name} belongs to another user"
        raise ForeignFileError(message)
    # Not where somebody else may put another file in its place meanwhile.
    if found.st_mode & OTHERS and owner in {0, me}:
        with contextlib.suppress(OSError):
            path.chmod(OWNER_ONLY)


def share(path: Path, locks: Locks) -> None:
    """Let an administrator's lock not keep the users of a spool out."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        found = path.stat()
        locks.belong_to(found.st_uid, found.st_gid)
