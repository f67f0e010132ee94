"""Group commit: grouping, bounds, failures, and a sink that hangs."""

import asyncio
import threading
from typing import Any

import pytest

from service.errors import BusyError, DatabaseAwayError
from service.ingest.batch import Batch
from service.ingest.committer import SECOND_GROUP_ROWS, Committer
from service.ingest.verdicts import Verdicts


class Gate:
    """A sink that commits when it is told to."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.busy = threading.Event()
        self.open = threading.Event()
        self.failure: Exception | None = None
        self.interrupted = 0
        self.closed = False

    def commit(self, batches: Any) -> Any:
        self.groups.append(len(batches))
        self.busy.set()
        assert self.open.wait(30)
        if self.failure is not None:
            raise self.failure

    def interrupt(self) -> Any:
        self.interrupted += 1
        self.failure = DatabaseAwayError()
        self.open.set()

    def close(self) -> Any:
        self.closed = True


def a_batch(rows: Any = 0) -> Any:
    return Batch(Verdicts(), rows=[None] * rows)  # type: ignore[list-item]  # only counted


async def with_one_running(committer: Any, gate: Any, waiting: Any) -> Any:
    """Submit one batch, and the others while it is being committed."""
    committer.start()
    first = asyncio.create_task(committer.submit(a_batch()))
    await asyncio.to_thread(gate.busy.wait, 30)
    rest = [asyncio.create_task(committer.submit(a_batch())) for _ in range(waiting)]
    await asyncio.sleep(0)
    return [first, *rest]


async def until_stored(committer: Any) -> None:
    """Submit a batch again and again: what comes before a hanging commit ends goes with it."""
    answer: object = ...
    while answer is not None:
        [answer] = await asyncio.gather(committer.submit(a_batch()), return_exceptions=True)


def test_what_comes_during_a_commit_goes_together_into_the_next() -> None:
    async def body() -> None:
        gate = Gate()
        committer = Committer(gate, max_rows=100)
        tasks = await with_one_running(committer, gate, 5)
        gate.open.set()
        await asyncio.gather(*tasks)
        await committer.stop()
        assert (gate.groups, gate.closed) == ([1, 5], True)

    asyncio.run(body())


@pytest.mark.parametrize(("rows", "beside"), [(SECOND_GROUP_ROWS - 1, 0), (SECOND_GROUP_ROWS, 1)])
def test_only_a_large_group_is_committed_beside_another(rows: Any, beside: Any) -> None:
    async def body() -> None:
        gates = [Gate(), Gate()]
        committer = Committer(*gates, max_rows=5 * SECOND_GROUP_ROWS)
        # The last sink is taken first.
        tasks = await with_one_running(committer, gates[1], 0)
        tasks.append(asyncio.create_task(committer.submit(a_batch(rows))))
        await asyncio.sleep(0)
        if beside:
            await asyncio.to_thread(gates[0].busy.wait, 30)
            # A third group has no sink, however large it is.
            tasks += [asyncio.create_task(committer.submit(a_batch(rows))) for _ in range(2)]
            await asyncio.sleep(0)
        assert [len(gate.groups) for gate in gates] == [beside, 1]
        gates[1].open.set()
        await tasks[0]
        gates[0].open.set()
        await asyncio.gather(*tasks)
        await committer.stop()
        assert sum(sum(gate.groups) for gate in gates) == len(tasks)
        assert all(gate.closed for gate in gates)

    asyncio.run(body())


def test_one_of_two_commits_that_hangs_is_interrupted_alone() -> None:
    async def body() -> None:
        gates = [Gate(), Gate()]
        committer = Committer(*gates, max_rows=5 * SECOND_GROUP_ROWS, deadline=0.5)
        [hanging] = await with_one_running(committer, gates[1], 0)
        gates[0].open.set()
        await committer.submit(a_batch(SECOND_GROUP_ROWS))
        with pytest.raises(DatabaseAwayError):
            await hanging
        assert [gate.interrupted for gate in gates] == [0, 1]
        await committer.stop()

    asyncio.run(body())


def test_stopping_commits_what_waits_and_takes_no_more() -> None:
    async def body() -> None:
        gate = Gate()
        committer = Committer(gate, max_rows=100)
        tasks = await with_one_running(committer, gate, 2)
        stopping = asyncio.create_task(committer.stop())
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await committer.submit(a_batch())
        gate.open.set()
        await asyncio.gather(*tasks, stopping)

    asyncio.run(body())


def test_nothing_is_read_between_a_refusal_and_enough_room() -> None:
    async def body() -> None:
        gate = Gate()
        committer = Committer(gate, max_rows=3)
        tasks = await with_one_running(committer, gate, 2)
        committer.require_room()
        with pytest.raises(BusyError):
            await committer.submit(a_batch())
        with pytest.raises(BusyError):
            committer.require_room()
        gate.open.set()
        await asyncio.gather(*tasks)
        committer.require_room()
        await committer.stop()

    asyncio.run(body())


def test_more_than_may_wait_is_refused_and_room_comes_back() -> None:
    async def body() -> None:
        gate = Gate()
        committer = Committer(gate, max_rows=3)
        tasks = await with_one_running(committer, gate, 2)
        with pytest.raises(BusyError):
            await committer.submit(a_batch())
        gate.open.set()
        await asyncio.gather(*tasks)
        await committer.submit(a_batch())
        await committer.stop()

    asyncio.run(body())


def test_a_commit_that_hangs_is_interrupted_and_everybody_is_told() -> None:
    async def body() -> None:
        gate = Gate()
        committer = Committer(gate, max_rows=100, deadline=0.05)
        tasks = await with_one_running(committer, gate, 4)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [DatabaseAwayError] * 5
        assert gate.interrupted == 1
        gate.failure = None
        async with asyncio.timeout(30):
            await until_stored(committer)
        await committer.stop()

    asyncio.run(body())


class Stubborn(Gate):
    """A sink that cannot be interrupted."""

    def interrupt(self) -> Any:
        super().interrupt()
        message = "no wire"
        raise RuntimeError(message)


def test_a_sink_that_cannot_be_interrupted_does_not_end_the_committer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def body() -> None:
        gate = Stubborn()
        committer = Committer(gate, max_rows=100, deadline=0.05)
        [hanging] = await with_one_running(committer, gate, 0)
        async with asyncio.timeout(30):
            with pytest.raises(DatabaseAwayError):
                await hanging
            gate.failure = None
            await until_stored(committer)
            await committer.stop()

    asyncio.run(body())
    assert "cannot be interrupted" in caplog.text


def test_a_group_that_finds_no_thread_is_told_so_and_the_next_is_stored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("ingest-commit"):
            # What Python says where the machine gives it no more.
            message = "can't start new thread"
            raise RuntimeError(message)
        start(thread)

    async def body() -> None:
        gate = Gate()
        gate.open.set()
        committer = Committer(gate, max_rows=100)
        committer.start()
        async with asyncio.timeout(30):
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                with pytest.raises(BusyError):
                    await committer.submit(a_batch())
            await committer.submit(a_batch())
            await committer.stop()

    asyncio.run(body())
    assert "cannot be committed" in caplog.text


def test_an_exception_that_no_future_can_hold_is_answered() -> None:
    async def body() -> None:
        gate = Gate()
        gate.failure = StopIteration()
        gate.open.set()
        committer = Committer(gate, max_rows=100)
        committer.start()
        async with asyncio.timeout(30):
            with pytest.raises((BusyError, RuntimeError)):
                await committer.submit(a_batch())
            gate.failure = None
            await committer.submit(a_batch())
            await committer.stop()

    asyncio.run(body())


def test_a_fault_of_ours_reaches_the_group_and_not_the_next() -> None:
    async def body() -> None:
        gate = Gate()
        gate.failure = RuntimeError("a bug")
        gate.open.set()
        committer = Committer(gate, max_rows=100)
        committer.start()
        with pytest.raises(RuntimeError):
            await committer.submit(a_batch())
        gate.failure = None
        await committer.submit(a_batch())
        await committer.stop()

    asyncio.run(body())
