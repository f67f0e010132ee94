"""What moves records from the memory of all monitors of a process to the disk."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

from modelwatch.bell import Bell

if TYPE_CHECKING:
    from modelwatch.spool import Spool
    from modelwatch.spooled import Group, SpoolQueue

COMMIT_SECONDS = 0.05
"""How long a record is in memory alone: what SIGKILL costs."""
EXPIRE_SECONDS = 60.0

_committers: dict[Spool, Committer] = {}
# Each lock that a host's thread takes is one that its owner may take again: a signal handler may.
_making = threading.RLock()


def committer_of(spool: Spool) -> Committer:
    """Return this process's committer of a spool."""
    with _making:
        return _committers.setdefault(spool, Committer(spool))


class Committer:
    """Commits what has gathered, of all monitors at once, so that they share the disk's time."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._queues: weakref.WeakSet[SpoolQueue] = weakref.WeakSet()
        self._starting = threading.RLock()
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None
        self._expired_at = time.monotonic()
        self.bell = Bell()

    @property
    def is_running(self) -> bool:
        """Whether the thread lives."""
        return self._thread is not None and self._thread.is_alive()

    def attach(self, queue: SpoolQueue) -> None:
        """Commit what a queue has in memory, too."""
        with self._starting:
            self._queues.add(queue)

    def start(self) -> None:
        """Start the thread; it never keeps the process alive."""
        with self._starting:
            if not self.is_running:
                thread = threading.Thread(target=self._run, name="modelwatch-spool", daemon=True)
                thread.start()
                self._thread = thread

    def commit(self) -> None:
        """Store what is in memory now; what cannot be stored stays there."""
        with self._starting:
            queues = list(self._queues)
        with self._turn:
            more = True
            while more:
                groups = [(queue, queue.gather()) for queue in queues]
                more = self._store([(queue, group) for queue, group in groups if group is not None])

    def _store(self, groups: list[tuple[SpoolQueue, Group]]) -> bool:
        """Commit groups together; return whether one was full, so that more may wait."""
        if not groups:
            return False
        try:
            self._spool.store([record for _, group in groups for record in group.records])
        except Exception as fault:  # noqa: BLE001 - whatever it is, the records must not hang
            for queue, _ in groups:
                queue.keep(str(fault) or type(fault).__name__)
            return False
        for queue, _ in groups:
            queue.forget()
        return any(group.is_full for _, group in groups)

    def _run(self) -> None:
        while True:
            self.bell.wait(COMMIT_SECONDS)
            try:
                self.commit()
                self._expire()
            except Exception as fault:  # noqa: BLE001 - nothing may end the thread
                for queue in list(self._queues):
                    queue.complain(str(fault))

    def _expire(self) -> None:
        if time.monotonic() - self._expired_at < EXPIRE_SECONDS:
            return
        self._expired_at = time.monotonic()
        rows = self._spool.expire()
        queues = list(self._queues)
        if rows and queues:
            # Of whichever model and process they were: one of us tells.
            queues[0].tell_expired(rows)


def _in_child() -> None:
    global _making  # noqa: PLW0603 - another thread of the parent may hold it
    _making = threading.RLock()
    _committers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
