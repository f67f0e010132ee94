"""Locks between processes: bytes of a file, free again however their holder ends."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]  # it is asked for before it is used

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER_ONLY = 0o600
WRITER = 0
LOCK_SECONDS = 3.0
BLOCKED_SECONDS = 0.05
FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.02
_TAKEN = frozenset({errno.EACCES, errno.EAGAIN})


class Locks:
    """The locks of one file; without ``fcntl`` everybody has all of them.

    They belong to the process, not to a thread, and a forked child has none.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None
        self._is_blocked = False

    def open(self) -> None:
        """Open the file, and make it if need be."""
        if self._file is None:
            # What somebody else has put there to have us open another file is not followed.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            self._file = os.open(self._path, flags, OWNER_ONLY)

    def belong_to(self, user: int, group: int) -> None:
        """Give the file to its users, where an administrator was the first to open it."""
        if self._file is not None:
            found = os.fstat(self._file)
            # With a second name it may be any file, put there to be given away.
            if found.st_uid == 0 and found.st_nlink == 1:
                os.fchown(self._file, user, group)

    def close(self) -> None:
        """Close the file, which lets all locks go."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def acquire(self, byte: int, seconds: float = 0.0) -> bool:
        """Lock a byte; return False when another process had it for so long.

        The system could wait, but not give up: a process that is frozen would freeze us.
        """
        if fcntl is None or self._file is None:
            return True
        end, pause = time.monotonic() + seconds, FIRST_PAUSE
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except OSError as fault:
                if fault.errno not in _TAKEN:
                    raise
            else:
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def release(self, byte: int) -> None:
        """Let others lock a byte."""
        if fcntl is not None and self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)

    @contextlib.contextmanager
    def held(self, byte: int, seconds: float = 0.0) -> Iterator[bool]:
        """Hold a byte for a while, if it can be had within so long; say whether it is held."""
        held = self.acquire(byte, seconds)
        try:
            yield held
        finally:
            if held:
                self.release(byte)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only one who writes; raise if another process is, and does not end."""
        # Who has waited in vain does not wait again before it was free once: its records can be
        # sent from memory meanwhile, and would not fit there for long.
        patience = BLOCKED_SECONDS if self._is_blocked else LOCK_SECONDS
        with self.held(WRITER, patience) as held:
            self._is_blocked = not held
            if not held:
                message = "another process holds its lock, and does not go on"
                raise TimeoutError(message)
            yield
