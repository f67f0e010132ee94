"""Where a spool lies: which file it is, and whose."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from modelwatch.locks import OWNER_ONLY
from modelwatch.spoolfile import APPLICATION, ForeignFileError

if TYPE_CHECKING:
    from pathlib import Path

    from modelwatch.locks import Locks

MAGIC = b"SQLite format 3\0"
APPLICATION_AT = 68


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


def refuse_directory(path: Path) -> None:
    """Raise before anything is put beside a directory."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def refuse_others(path: Path, locks: Locks) -> None:
    """Raise if somebody else has put the file there, and could read it."""
    if not hasattr(os, "geteuid"):
        return
    found = path.stat()
    if os.geteuid() == 0:
        locks.belong_to(found.st_uid, found.st_gid)
    elif found.st_uid != os.geteuid():
        message = "it belongs to another user"
        raise ForeignFileError(message)
