"""Locks between processes: bytes of a file, free again however their holder ends."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]  # it is asked for before it is used

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER_ONLY = 0o600
_TAKEN = frozenset({errno.EACCES, errno.EAGAIN})


class Locks:
    """The locks of one file; without ``fcntl`` everybody has all of them.

    They belong to the process, not to a thread, and a forked child has none.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None

    def open(self) -> None:
        """Open the file, and make it if need be."""
        if self._file is None:
            # What somebody else has put there to have us open another file is not followed.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            self._file = os.open(self._path, flags, OWNER_ONLY)

    def belong_to(self, user: int, group: int) -> None:
        """Give the file to its users, where an administrator was the first to open it."""
        if self._file is not None:
            os.fchown(self._file, user, group)

    def close(self) -> None:
        """Close the file, which lets all locks go."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def acquire(self, byte: int, *, wait: bool) -> bool:
        """Lock a byte; return False when another process has it and we do not wait."""
        if fcntl is None or self._file is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, byte)
        except OSError as fault:
            if fault.errno not in _TAKEN:
                raise
            return False
        return True

    def release(self, byte: int) -> None:
        """Let others lock a byte."""
        if fcntl is not None and self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)

    @contextlib.contextmanager
    def held(self, byte: int, *, wait: bool = True) -> Iterator[None]:
        """Hold a byte for a while; who does not wait goes on without it."""
        held = self.acquire(byte, wait=wait)
        try:
            yield
        finally:
            if held:
                self.release(byte)
