"""What empties the queue: a thread in the background, or ``flush`` where none can be started."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING

from modelwatch import process
from modelwatch.bell import Bell
from modelwatch.refusals import Refusals

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from modelwatch.complaints import Complaints
    from modelwatch.queues import Batch, Queue
    from modelwatch.transport import Answer, Transport

FIRST_DELAY = 0.2
LONGEST_DELAY = 30.0
LOCKED_OUT_DELAY = 30.0
LONGEST_RETRY_AFTER = 300.0
BATCH_BYTES = 2 << 20
"""Of one body, before it is compressed: far below what a server reads."""
MOST_FAULTS = 10
"""Answers 500 before a batch is halved: it may be one of its records that breaks the server."""
UNAUTHENTICATED = 401
FORBIDDEN = 403
SERVER_FAULT = 500


class Sender:
    """Sends batches of one monitor's records until they are taken."""

    def __init__(
        self,
        transport: Transport,
        queue: Queue,
        counts: Counter[str],
        complaints: Complaints,
        refusals: tuple[Refusals, ...],
        *,
        batch: int,
        interval: float,
    ) -> None:
        self._transport = transport
        self._queue = queue
        self._counts = counts
        self._complaints = complaints
        self._refusals = refusals
        self._batch = batch
        self._interval = interval
        # Our own: a host that has seeded the global one must see it undisturbed.
        self._random = random.Random()  # noqa: S311 - no secret
        self._parts: list[Batch] = []
        self._delay = FIRST_DELAY
        self._faults = 0
        self._is_told_when = False
        self._is_closing = False
        self._settled = self._goal = 0
        self._asked = self._answered = 0
        self._rows = self._refused = 0
        self._nudge = Bell()
        self._thread: threading.Thread | None = None
        self._turn = threading.Lock()
        self._idle = threading.Condition()

    @property
    def is_running(self) -> bool:
        """Whether the thread lives."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; it never keeps the process alive."""
        thread = threading.Thread(target=self._run, name="modelwatch-sender", daemon=True)
        thread.start()
        self._thread = thread

    def hurry(self) -> None:
        """Let the thread send what there is, unless the server has said when."""
        self._nudge.ring()
        self._queue.ring()

    def close(self) -> None:
        """Let the thread end once nothing is queued any more; takes no lock, for finalisers."""
        self._is_closing = True
        self._queue.ring()
        if not self.is_running:
            self._transport.close()

    def end(self, timeout: float) -> None:
        """Keep and send what can be in the process's last seconds."""
        deadline = time.monotonic() + timeout
        self._queue.settle(timeout)
        self.flush(max(0.0, deadline - time.monotonic()))

    def take_leave(self) -> None:
        """Tell what is lost with the process."""
        left = len(self._queue) - self._queue.stats().get("spooled", 0)
        told = f"the process ends with {left} not sent" if left > 0 else ""
        self._complaints.say_last(told)

    def flush(self, timeout: float) -> bool:
        """Wait until what is queued now is sent; where no thread runs, send it here."""
        deadline = time.monotonic() + timeout
        if not self.is_running:
            return self._flush_here(deadline)
        with self._idle:
            self._asked += 1
            asked = self._asked
            self.hurry()
            # The thread counts what is to be sent: a disk may hang, and other processes' records
            # may be before ours.
            said = self._idle.wait_for(lambda: self._answered >= asked or self._is_idle, timeout)
            goal = self._goal
            left = max(0.0, deadline - time.monotonic())
            return said and self._idle.wait_for(lambda: self._has_settled(goal), left)

    @property
    def _is_idle(self) -> bool:
        return not len(self._queue)

    def _has_settled(self, goal: int) -> bool:
        return self._settled >= goal or self._is_idle

    def _flush_here(self, deadline: float) -> bool:
        while len(self._queue) and (left := deadline - time.monotonic()) > 0:
            # Not for ever: a signal handler may have interrupted the one whose turn it is.
            if not self._turn.acquire(timeout=left):
                return False
            try:
                rest = self._step(left)
            finally:
                self._turn.release()
            if rest is None:
                break
            time.sleep(max(0.0, min(rest, deadline - time.monotonic())))
        return not len(self._queue)

    def _run(self) -> None:
        while not (self._is_closing and self._is_idle):
            self._queue.wait(self._interval)
            self._nudge.wait(0)
            try:
                self._send_waiting()
            except Exception as fault:  # noqa: BLE001 - nothing may end the thread
                self._complaints.say(f"records wait: {type(fault).__name__} before sending")
            self._complaints.say()
            with self._idle:
                self._idle.notify_all()
        self._transport.close()
        process.let_go(self)

    def _send_waiting(self) -> None:
        goal = self._count_waiting()
        while not self._has_settled(goal):
            with self._turn:
                rest = self._step()
            if rest is None:
                break
            if rest:
                self._rest(rest)

    def _count_waiting(self) -> int:
        """Return how many records are settled when all that wait now are."""
        asked = self._asked
        self._queue.look()
        # What comes while this is sent waits for its own turn, so that batches stay large.
        goal = self._settled + len(self._queue)
        with self._idle:
            self._answered, self._goal = asked, goal
            self._idle.notify_all()
        return goal

    def _rest(self, seconds: float) -> None:
        """Wait before the next try; ``flush`` has it at once, unless the server said when."""
        if self._is_told_when:
            time.sleep(seconds)
        else:
            self._nudge.wait(seconds)

    def _step(self, timeout: float | None = None) -> float | None:
        """Send one request; return the seconds until the next, or ``None`` if nothing is due."""
        try:
            if not self._parts:
                batch = self._queue.due(self._batch, BATCH_BYTES)
                if batch is None:
                    return None
                self._rows, self._refused = len(batch.records), 0
                self._parts = list(_parts(batch))[::-1]
            part = self._parts[-1]
            body = part.head + b",".join(part.records) + b"]}"
            rest = self._settle(part, self._transport.post(part.path, body, timeout))
            if rest and not self._faults:
                self._give_back()
        except Exception as fault:  # noqa: BLE001 - nothing may end the thread
            self._complaints.say(f"records wait: {type(fault).__name__} while sending")
            return LONGEST_DELAY
        return rest

    def _settle(self, part: Batch, answer: Answer) -> float:
        """Do what the answer to a part of the batch asks for."""
        broken = False
        if answer.is_locked_out:
            return self._wait_for_people(answer)
        if answer.is_retryable:
            self._faults += answer.status == SERVER_FAULT
            broken = self._faults >= MOST_FAULTS
            if not broken:
                return self._back_off(answer)
        self._delay, self._faults = FIRST_DELAY, 0
        self._parts.pop()
        if (answer.is_divisible or broken) and len(part.records) > 1:
            self._parts += _halves(part)
        else:
            self._count(part, answer)
        if not self._parts:
            self._queue.acknowledge(self._refused)
            self._settled += self._rows
        return 0.0

    def _count(self, part: Batch, answer: Answer) -> None:
        accepted, duplicates = answer.taken
        self._counts["accepted"] += accepted
        self._counts["duplicates"] += duplicates
        if (refused := len(part.records) - accepted - duplicates) > 0:
            self._counts["rejected"] += refused
            self._refused += refused
            for refusals in self._refusals:
                refusals.add(refused, answer.status, answer.document)

    def _give_back(self) -> None:
        """Let other processes have what waits here: one may have another key, or a person."""
        left = sum(len(part.records) for part in self._parts)
        if self._queue.give_back(left, self._refused):
            self._settled += self._rows - left
            self._parts = []

    def _back_off(self, answer: Answer) -> float:
        self._counts["retries"] += 1
        self._complaints.say(self._why_not(answer))
        # Full jitter: a thousand hosts that were cut off together do not return together.
        wait = self._random.uniform(0, self._delay)
        self._delay = min(2 * self._delay, LONGEST_DELAY)
        self._is_told_when = answer.retry_after > 0
        return max(wait, min(answer.retry_after, LONGEST_RETRY_AFTER))

    def _wait_for_people(self, answer: Answer) -> float:
        """Return when to try again; a host that hammers on the door helps nobody."""
        self._counts["retries"] += 1
        self._complaints.say(self._why_locked_out(answer), logging.ERROR)
        self._is_told_when = True
        return self._random.uniform(LOCKED_OUT_DELAY / 2, LOCKED_OUT_DELAY)

    def _why_not(self, answer: Answer) -> str:
        address = self._transport.address
        if answer.status is None:
            return f"the server at {address} cannot be reached ({answer.cause}); records wait"
        return f"the server at {address} answers {answer.status}; records wait"

    def _why_locked_out(self, answer: Answer) -> str:
        where = f"the server at {self._transport.address}"
        if answer.status == UNAUTHENTICATED:
            return f"{where} does not know the key, or got none (MODELWATCH_API_KEY); records wait"
        if answer.status == FORBIDDEN:
            return f"{where} does not take predictions with this key; records wait"
        return (
            f"{where} answers {answer.status}, and is not modelwatch (MODELWATCH_URL); records wait"
        )


def _parts(batch: Batch) -> Iterator[Batch]:
    """Yield a batch in bodies that are not too large."""
    part: list[bytes] = []
    size = 0
    for record in batch.records:
        if part and size + len(record) > BATCH_BYTES:
            yield batch._replace(records=part)
            part, size = [], 0
        part.append(record)
        size += len(record)
    yield batch._replace(records=part)


def _halves(part: Batch) -> list[Batch]:
    """Return both, the first half last."""
    middle = len(part.records) // 2
    return [part._replace(records=half) for half in (part.records[middle:], part.records[:middle])]
