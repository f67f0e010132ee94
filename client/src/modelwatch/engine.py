"""What one process has of a monitor; a forked child begins with a new one."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from modelwatch import process
from modelwatch.buffer import Buffer, Record
from modelwatch.complaints import Complaints
from modelwatch.encoding import Encoder, said
from modelwatch.errors import LostRecordsError, NotStoredError
from modelwatch.losses import Losses
from modelwatch.queues import MemoryQueue
from modelwatch.receipt import Receipt
from modelwatch.sender import Sender

if TYPE_CHECKING:
    from modelwatch.plan import Plan
    from modelwatch.queues import Queue

START_AGAIN_SECONDS = 1.0


class Engine:
    """A queue, the sender that empties it, and the counts of both."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._counts: Counter[str] = Counter()
        self._counting = threading.RLock()
        self._starting = threading.Lock()
        self._start_again = float("-inf")
        self._fault = ""
        self._unwarned, self._unflushed = Losses(), Losses()
        self._complaints = Complaints(plan.whose, self._gathered)
        self._queue = self._make_queue()
        self._sender: Sender | None = None
        self._is_started = plan.mode != "on"
        self._kept: list[Record] = []
        self.is_ending = False

    def add(self, lane: int, record: Record, size: int, *, durable: bool) -> None:
        """Queue a record; with ``durable``, wait until it is on the disk."""
        if not self._is_started:
            self._start()
        if durable and self._plan.mode == "on":
            self._store(lane, record, size)
        else:
            self._queue.add(lane, record, size)
        if self.is_ending and self._sender is not None:
            self._sender.end(process.seconds_left() or 0.0)

    def count(self, name: str) -> None:
        """Count a record that is not queued."""
        with self._counting:
            self._counts[name] += 1

    def fail(self, fault: Exception, *, durable: bool = False) -> None:
        """Count a record that could not be queued."""
        if self._plan.mode == "off":
            return
        self.count("errors")
        self._fault = said(fault)
        if durable:
            raise NotStoredError(self._fault) from fault

    def is_filling(self) -> bool:
        """Say whether more than half of the room in memory is taken."""
        self.records()
        queue = self._queue.stats()
        # What is on the disk takes no room in memory.
        waiting = len(self._queue) - queue.get("spooled", 0)
        full = 2 * waiting > self._plan.max_rows
        return full or 2 * queue["queued_bytes"] > self._plan.max_bytes

    def flush(self, timeout: float) -> bool:
        """Wait until what is queued now is sent, and raise what was lost since the last time."""
        self.records()
        done = self._sender is None or self._sender.flush(timeout)
        told, lost = self._unflushed.told(self.stats(), self._fault)
        if told:
            message = f"lost since the last flush: {'; '.join(told)}"
            raise LostRecordsError(message, lost)
        return done

    def close(self) -> None:
        """Let the thread end once all is sent."""
        if self._sender is not None:
            self._sender.close()

    def records(self) -> list[Record]:
        """Return what would have been sent, in the mode ``memory``."""
        while self._plan.mode == "memory" and (batch := self._queue.due(1, sys.maxsize)):
            shared = json.loads(batch.head + b"]}")
            del shared["records"]
            self._kept += [{**shared, **json.loads(record)} for record in batch.records]
            self._counts["accepted"] += len(batch.records)
            self._queue.acknowledge()
        return self._kept

    def stats(self) -> dict[str, int]:
        """Return what became of the records of this process."""
        counts = self._counts
        queue = self._queue.stats()
        answered = {name: counts[name] for name in ("accepted", "duplicates", "rejected")}
        mine = {name: counts[name] for name in ("unsampled", "errors")}
        return {
            "logged": queue.pop("offered") + sum(mine.values()),
            "sent": sum(answered.values()),
            **answered,
            **mine,
            **{name: counts[name] for name in ("unserialisable", "unredacted", "retries")},
            **queue,
            "queued": len(self._queue),
        }

    def _store(self, lane: int, record: Record, size: int) -> None:
        if self._plan.spooling is None:
            message = "a durable record needs a spool"
            raise NotStoredError(message)
        receipt = Receipt()
        self._queue.add(lane, record, size, receipt)
        receipt.wait(self._plan.timeout)

    def _start(self) -> None:
        """Start the threads; where none can be had, records wait, and ``flush`` sends them."""
        # Whoever comes second has no need to wait, and may have interrupted the first.
        if not self._starting.acquire(blocking=False):
            return
        try:
            sender = self._sender or self._make_sender()
            if time.monotonic() >= self._start_again:
                self._start_again = time.monotonic() + START_AGAIN_SECONDS
                self._queue.start()
                sender.start()
                self._is_started = True
        except (RuntimeError, MemoryError) as fault:
            self._complaints.say(f"no thread can be started ({fault}); records wait for `flush`")
        finally:
            self._starting.release()

    def _make_sender(self) -> Sender:
        assert self._plan.connect is not None
        self._sender = Sender(
            self._plan.connect(),
            self._queue,
            self._counts,
            self._complaints,
            (self._unwarned.refusals, self._unflushed.refusals),
            batch=self._plan.batch,
            interval=self._plan.interval,
        )
        process.flush_at_exit(self._sender)
        return self._sender

    def _make_queue(self) -> Queue:
        plan = self._plan
        encoder = Encoder(plan.redact, self._counts, self._complaints)
        ripe = min(plan.max_rows, plan.batch)
        buffer = Buffer(plan.max_rows, plan.max_bytes, policy=plan.policy, ripe=ripe)
        if plan.spooling is None:
            return MemoryQueue(buffer, encoder, plan.routes)
        return plan.spooling.queue(buffer, encoder, plan.routes, self._complaints)

    def _gathered(self) -> list[str]:
        return self._unwarned.told(self.stats(), self._fault)[0]
