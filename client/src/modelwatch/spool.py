"""A spool as one process has it open: its locks, its faults, and what a fork does to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Callable, TypeVar

from modelwatch import place
from modelwatch.locks import LOCK_SECONDS, WRITER, Locks
from modelwatch.spoolfile import ForeignFileError, SpoolFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelwatch.spoolfile import Counts, Destination, Stored

T = TypeVar("T")

MAX_BYTES = 1 << 30
MAX_AGE = 7 * 86_400.0
AGAIN_SECONDS = 2.0
FORK_SECONDS = LOCK_SECONDS + 2.0

_opened: dict[str, Spool] = {}
_opening = threading.Lock()
_never_closed: list[object] = []


def opened(path: str, *, max_bytes: int = MAX_BYTES, max_age: float = MAX_AGE) -> Spool:
    """Return this process's spool at a path; the first one who asks sets its limits.

    One for all monitors: a file that is open twice in a process loses its locks when either is
    closed.
    """
    # Links to its directory are followed, once; the file itself is none.
    real = Path(os.path.realpath(Path(path).parent), Path(path).name)
    with _opening:
        if str(real) not in _opened:
            _opened[str(real)] = Spool(real, max_bytes=max_bytes, max_age=max_age)
        return _opened[str(real)]


class SpoolError(Exception):
    """A spool cannot be read or written now."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"the spool at {path} cannot be used: {cause}")


class Spool:
    """Records on the disk, of all models and processes that name the same path.

    What uses the disk may raise ``SpoolError``; nothing is half done then.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = MAX_BYTES,
        max_age: float = MAX_AGE,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._now = now
        self._mutex = threading.Lock()
        self._locks = Locks(f"{path}-lock")
        self._file: SpoolFile | None = None
        self._identity: tuple[int, int] | None = None
        self._claims: set[Destination] = set()
        self._fault = ""
        self._again = float("-inf")
        self._pid = os.getpid()
        self._held = False
        self._inherited = False

    def store(self, group: Sequence[tuple[Destination, bytes]]) -> int:
        """Commit records to the disk, all or none; return the number of the last."""
        return self._write(lambda file: file.add(group, self._now()))

    def destinations(self, url: str | None = None, model: str | None = None) -> list[Destination]:
        """Return where the records of this file go, one server's and one model's if named."""
        return self._read(lambda file: file.destinations(url, model))

    def take(self, to: Destination, rows: int, room: int, after: int = 0) -> list[Stored]:
        """Return the oldest records for a destination, and keep other senders from them.

        Nothing is returned while another sender has some; ``release`` lets others go on.
        """

        def taken(file: SpoolFile) -> list[Stored]:
            if not file.waits(to, after) or not self._claim(to):
                return []
            # Read only now: who had the claim until then may have sent what was there before.
            found = file.oldest(to, rows, room, after)
            if not found:
                self._disclaim(to)
            return found

        return self._read(taken)

    def remove(self, to: Destination, first: int, last: int, refused: int = 0) -> int:
        """Forget records that were sent, or refused; return how many were still there."""
        return self._write(lambda file: file.remove(to, first, last, refused))

    def release(self, to: Destination) -> None:
        """Let other senders have the records of a destination."""
        with self._mutex:
            self._disclaim(to)

    def rows(self, to: Sequence[Destination]) -> int:
        """Return how many records there are for some destinations."""
        return self._read(lambda file: sum(map(file.rows, to)))

    def expire(self) -> int:
        """Drop and count what is too old, and give back disk that is no longer needed."""

        def expired(file: SpoolFile) -> int:
            rows = file.expire(self._now() - self._max_age)
            file.shrink()
            return rows

        return self._write(expired)

    def counts(self) -> list[Counts]:
        """Count what is stored, by destination."""
        return self._read(lambda file: file.counts())

    def sample(self, to: Destination, rows: int) -> list[Stored]:
        """Return the oldest records for a destination, and leave them to others."""
        return self._read(lambda file: file.oldest(to, rows, MAX_BYTES))

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._mutex:
            self._close()

    def _write(self, work: Callable[[SpoolFile], T]) -> T:
        # SQLite locks, too; but before its release 3.51.3 two that write and checkpoint at one
        # instant may break the file.
        with self._mutex, self._told():
            file = self._open()
            with self._locks.writing():
                try:
                    return work(file)
                except sqlite3.OperationalError:
                    # On a full disk the log has room again once the file itself holds its pages.
                    file.checkpoint()
                    return work(file)

    def _read(self, work: Callable[[SpoolFile], T]) -> T:
        with self._mutex, self._told():
            return work(self._open())

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Tell every fault as a ``SpoolError``, and put a broken file aside."""
        try:
            yield
        except (sqlite3.Error, OSError, ForeignFileError) as fault:
            said = getattr(fault, "strerror", None) or str(fault)
            # Its subclasses are about a statement, a disk or a lock; itself is about the file.
            if type(fault) is sqlite3.DatabaseError:
                said = self._put_aside(said)
            elif self._file is None or self._is_read_only(said):
                self._again = time.monotonic() + AGAIN_SECONDS
            self._fault = said
            raise SpoolError(self.path, said) from fault

    def _is_read_only(self, said: str) -> bool:
        """Say so, and close the file: SQLite would not see that it may be written again."""
        found = "readonly" in said
        if found:
            self._close()
        return found

    def _open(self) -> SpoolFile:
        if self._inherited or self._pid != os.getpid():
            raise SpoolError(self.path, "it was in use when this process was forked")
        if self._file is not None:
            if self._identity == place.identity(self.path):
                return self._file
            # Somebody removed or replaced it: what would be written now, nobody would find.
            self._close()
            self._locks.close()
        if time.monotonic() < self._again:
            raise SpoolError(self.path, self._fault)
        if self._identity is None:
            # Once: where a directory is gone, a disk may be, and the one below it is not meant.
            with contextlib.suppress(FileExistsError):
                self.path.parent.mkdir(mode=0o700, parents=True)
        place.refuse(self.path)
        self._locks.open()
        with self._locks.writing():
            self._identity = place.create(self.path)
            place.share(self.path, self._locks)
            self._file = SpoolFile(str(self.path), self._max_bytes)
        return self._file

    def _close(self, seconds: float = LOCK_SECONDS) -> None:
        file, self._file = self._file, None
        if file is not None:
            with self._locks.held(WRITER, seconds):
                file.close()

    def _put_aside(self, said: str) -> str:
        """Begin anew where our own file is broken; a file of somebody else stays where it is."""
        try:
            self._close()
            with self._locks.writing():
                return f"{said}; {self._renamed()}"
        except (sqlite3.Error, OSError) as fault:
            self._again = time.monotonic() + AGAIN_SECONDS
            return f"{said}; it cannot be put aside: {fault}"

    def _renamed(self) -> str:
        if self._identity != place.identity(self.path):
            return "another process has put it aside"
        if not place.is_ours(self.path):
            self._again = time.monotonic() + AGAIN_SECONDS
            return "it is left as it is"
        for suffix in ("-wal", "-shm", ""):
            # One is kept, so that a failing disk is not filled with broken files.
            Path(f"{self.path}.broken{suffix}").unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").replace(f"{self.path}.broken{suffix}")
        return f"it is kept as {self.path}.broken, and a new one is begun"

    def _claim(self, to: Destination) -> bool:
        if to in self._claims or not self._locks.acquire(_byte(to)):
            return False
        self._claims.add(to)
        return True

    def _disclaim(self, to: Destination) -> None:
        if to in self._claims:
            self._claims.remove(to)
            self._locks.release(_byte(to))

    def before_fork(self) -> None:
        """Close the file: SQLite remembers a process's locks, and a child would believe it."""
        self._held = self._mutex.acquire(timeout=FORK_SECONDS)
        if self._held:
            with contextlib.suppress(sqlite3.Error, OSError):
                self._close(seconds=0)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._held:
            self._held = False
            self._mutex.release()

    def after_fork_in_child(self) -> None:
        """Begin with nothing of the parent's."""
        # Without the hook before it, of a fork that Python did not make, it may be open still.
        if self._file is not None or (self._mutex.locked() and not self._held):
            self._inherited = True
            # To close it, or to have it collected, would be to use it.
            _never_closed.append(self._file)
        self._file = None
        self._held = False
        self._mutex = threading.Lock()
        self._claims = set()
        self._pid = os.getpid()
        self._locks.forget()


def _byte(to: Destination) -> int:
    """Return which byte of the lock file stands for a destination; the first is the writer's."""
    return 1 + zlib.crc32(f"{to.url}\n{to.path}\n".encode() + to.head)


def _each(act: Callable[[Spool], None]) -> None:
    for spool in list(_opened.values()):
        act(spool)


def _in_child() -> None:
    global _opening  # noqa: PLW0603 - another thread of the parent may hold it
    _opening = threading.Lock()
    _each(Spool.after_fork_in_child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _each(Spool.before_fork),
        after_in_parent=lambda: _each(Spool.after_fork_in_parent),
        after_in_child=_in_child,
    )
