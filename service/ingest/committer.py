"""Group commit: everything that came while the last commit ran goes into the next one."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from service.errors import BusyError, DatabaseAwayError, ServiceError

_log = logging.getLogger(__name__)

# Clients are promised an answer within five seconds.
DEADLINE_SECONDS = 4.0
GROUP_ROWS = 20_000
# A group of fewer rows is not worth a transaction of its own beside one that runs.
SECOND_GROUP_ROWS = 4_000
_ENOUGH = 0.75


Unit = TypeVar("Unit", bound=Sized)
Taken_contra = TypeVar("Taken_contra", bound=Sized, contravariant=True)


Group = list[tuple[Unit, asyncio.Future[None]]]
"""Batches with where each is answered."""


class NotCommittedError(BusyError):
    """A fault of the service's own, and none of the rows'."""

    def __init__(self) -> None:
        super().__init__("the rows could not be committed; sending them again is safe")


class Sink(Protocol[Taken_contra]):
    """Where groups of batches go; ``commit`` runs in one thread, which is the sink's own."""

    def commit(self, batches: Sequence[Taken_contra], /) -> None:
        """Store all batches and complete their verdicts, or raise."""

    def interrupt(self) -> None:
        """Make a commit that hangs fail."""

    def close(self) -> None:
        """Give back what is held."""


class _Lane(Generic[Unit]):
    """A sink and its thread."""

    def __init__(self, sink: Sink[Unit]) -> None:
        self.sink = sink
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="ingest-commit")

    def interrupt(self) -> None:
        """Make the sink's commit fail; if that fails, it ends by itself."""
        try:
            self.sink.interrupt()
        except Exception:  # noqa: BLE001  the loop that waits for the commit goes on
            _log.exception("a commit that hangs cannot be interrupted")

    def close(self) -> None:
        """Let go of both."""
        self.thread.submit(self.sink.close)
        self.thread.shutdown(wait=True)


class Committer(Generic[Unit]):
    """Coalesces concurrent requests; no lingering, bounded.

    Large groups are committed beside each other as far as there are sinks: the database works on
    one while the next is made ready.
    """

    def __init__(self, *sinks: Sink[Unit], max_rows: int, deadline: float | None = None) -> None:
        self._lanes = [_Lane(sink) for sink in sinks]
        self._idle = list(self._lanes)
        self._max_rows = max_rows
        self._deadline = DEADLINE_SECONDS if deadline is None else deadline
        self._waiting: deque[tuple[Unit, asyncio.Future[None]]] = deque()
        self._rows = 0
        self._rows_waiting = 0
        self._is_full = False
        self._changed = asyncio.Event()
        self._stopping = False
        self._flusher: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the flusher in the running loop."""
        self._flusher = asyncio.create_task(self._run(), name="ingest-flusher")

    async def stop(self) -> None:
        """Commit what waits, then give the connections back."""
        self._stopping = True
        self._changed.set()
        if self._flusher is not None:
            await self._flusher
        for lane in self._lanes:
            lane.close()

    async def submit(self, batch: Unit) -> None:
        """Wait until the batch is committed; its verdicts are complete then."""
        size = max(1, len(batch))
        if self._stopping or self._rows + size > self._max_rows:
            self._is_full = True
            raise self._busy()
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((batch, answer))
        self._rows += size
        self._rows_waiting += size
        self._changed.set()
        try:
            await answer
        finally:
            self._rows -= size

    def require_room(self) -> None:
        """Raise ``BusyError`` from when there was no room until there is enough of it again.

        Whoever asks first need not read what would be refused: under overload that would cost
        more than all that is stored.
        """
        if self._is_full and self._rows > self._max_rows * _ENOUGH:
            raise self._busy()
        self._is_full = False

    def _busy(self) -> BusyError:
        message = "too many rows wait for their commit; send them again later"
        return BusyError(message, limit=self._max_rows)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as commits:
            while not self._stopping or self._waiting:
                await self._changed.wait()
                self._changed.clear()
                while self._idle and self._is_due():
                    commits.create_task(self._flush(self._idle.pop(), self._take()))

    def _is_due(self) -> bool:
        if len(self._idle) < len(self._lanes):
            return self._rows_waiting >= SECOND_GROUP_ROWS
        return bool(self._waiting)

    def _take(self) -> Group[Unit]:
        group = [self._waiting.popleft()]
        rows = len(group[0][0])
        while self._waiting and rows + len(self._waiting[0][0]) <= GROUP_ROWS:
            group.append(self._waiting.popleft())
            rows += len(group[-1][0])
        self._rows_waiting -= sum(max(1, len(batch)) for batch, _ in group)
        return group

    async def _flush(self, lane: _Lane[Unit], group: Group[Unit]) -> None:
        try:
            await self._commit(lane, group)
        except Exception:  # noqa: BLE001  all would wait for ever if this ended the flusher
            _log.exception("a group of batches cannot be committed")
            _answer(group, NotCommittedError())
        finally:
            self._idle.append(lane)
            self._changed.set()

    async def _commit(self, lane: _Lane[Unit], group: Group[Unit]) -> None:
        batches = [batch for batch, _ in group]
        commit = asyncio.wrap_future(lane.thread.submit(_outcome, lane.sink, batches))
        done, _ = await asyncio.wait({commit}, timeout=self._deadline)
        if not done:
            _answer(group, DatabaseAwayError())
            lane.interrupt()
        while not commit.done():
            # Nobody waits twice for a database that hangs.
            self._give_up()
            await asyncio.wait({commit}, timeout=self._deadline / 8)
        error = commit.result()
        if isinstance(error, DatabaseAwayError):
            self._give_up()
        elif error is not None and not isinstance(error, ServiceError):
            _log.error("a commit failed", exc_info=error)
        _answer(group, error)

    def _give_up(self) -> None:
        _answer(self._waiting, DatabaseAwayError())
        self._waiting.clear()
        self._rows_waiting = 0


def _outcome(sink: Sink[Unit], batches: Sequence[Unit]) -> BaseException | None:
    """Commit, and return what went wrong: a future cannot hold every exception."""
    try:
        sink.commit(batches)
    except BaseException as error:  # noqa: BLE001  who waits is told of it
        return error
    return None


def _answer(
    group: Iterable[tuple[object, asyncio.Future[None]]], error: BaseException | None
) -> None:
    for _, answer in group:
        if answer.done():
            continue
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)
