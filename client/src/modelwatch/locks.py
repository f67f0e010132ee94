"""Locks between processes: bytes of a file, free again however their holder ends."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
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
# Most wait for one commit, which takes as long as it takes to change threads.
TRIES, PAUSE = 20, 0.001
_TAKEN = frozenset({errno.EACCES, errno.EAGAIN})


class Turn:
    """A thread that waits for the writer's lock in the system's line, which is fair.

    Nobody may leave that line, and a process that is frozen holds the lock for ever: a host has
    other things to do.
    """

    def __init__(self, file: int) -> None:
        self._file: int | None = file
        self._state = threading.Condition()
        self._is_wanted = True
        self.is_over = False
        self._is_had = False
        threading.Thread(
            target=self._run, args=(file,), name="modelwatch-lock", daemon=True
        ).start()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; say whether the lock is held."""
        with self._state:
            self._is_wanted = True
            self._state.wait_for(lambda: self.is_over, seconds)
            self._is_wanted = False
            return self._is_had

    def leave(self) -> None:
        """Know that the file is closed, which lets its locks go."""
        with self._state:
            self._file = None

    def _run(self, file: int) -> None:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX, 1, WRITER)
            is_locked = True
        except OSError:
            is_locked = False
        with self._state:
            self._is_had = is_locked and self._is_wanted
            if is_locked and not self._is_wanted and self._file is not None:
                fcntl.lockf(file, fcntl.LOCK_UN, 1, WRITER)
            self.is_over = True
            self._state.notify_all()


class Locks:
    """The locks of one file; without ``fcntl`` everybody has all of them.

    They belong to the process, not to a thread, and a forked child has none.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None
        self._turn: Turn | None = None
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
        if self._turn is not None:
            self._turn.leave()
        self.forget()

    def forget(self) -> None:
        """Close the file in a forked child, which has neither locks nor a thread that waits."""
        self._turn = None
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def acquire(self, byte: int, seconds: float = 0.0) -> bool:
        """Lock a byte; return False when another process had it for so long.

        Only the writer's is waited for.
        """
        if fcntl is None or self._file is None:
            return True
        if byte == WRITER and self._turn is not None and not self._turn.is_over:
            # Its thread would take what we had for its own.
            return self._turn.wait(seconds)
        return self._try(byte) or (seconds > 0 and self._wait(seconds))

    def _wait(self, seconds: float) -> bool:
        assert self._file is not None
        for _ in range(TRIES):
            time.sleep(PAUSE)
            if self._try(WRITER):
                return True
        try:
            self._turn = Turn(self._file)
        except RuntimeError:
            # Where no thread can be started, nobody waits for long.
            return False
        return self._turn.wait(seconds)

    def _try(self, byte: int) -> bool:
        assert self._file is not None
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
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
