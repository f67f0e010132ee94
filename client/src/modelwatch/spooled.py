"""The queue of a monitor with a spool: memory, then the disk, then the sender."""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from modelwatch.bell import Bell
from modelwatch.committer import committer_of
from modelwatch.queues import BREATH, Batch
from modelwatch.spool import SpoolError

if TYPE_CHECKING:
    from modelwatch.buffer import Buffer, Record
    from modelwatch.committer import Committer
    from modelwatch.complaints import Complaints
    from modelwatch.encoding import Encoder
    from modelwatch.outlet import Outlet
    from modelwatch.receipt import Receipt
    from modelwatch.spool import Spool
    from modelwatch.spoolfile import Destination

GROUP_ROWS = 1_000
GROUP_BYTES = 2 << 20
AGAIN_SECONDS = 1.0
SETTLE_SECONDS = 0.005


class Group(NamedTuple):
    """Encoded records of one lane that are to be stored together."""

    records: list[tuple[Destination, bytes]]
    receipts: list[Receipt]
    is_full: bool


class SpoolQueue:
    """Records that outlive the process.

    While the disk takes none, they wait in memory, and the sender has them from there.
    """

    def __init__(
        self,
        spool: Spool,
        buffer: Buffer,
        encoder: Encoder,
        destinations: dict[int, Destination],
        outlet: Outlet,
        complaints: Complaints,
    ) -> None:
        self._spool = spool
        self._buffer = buffer
        self._encoder = encoder
        self._destinations = destinations
        self._outlet = outlet
        self._complaints = complaints
        self._committer: Committer | None = None
        self._handing = threading.Lock()
        self._group: Group | None = None
        self._is_in_hand = False
        self._is_direct = False
        self._is_urgent = False
        self._batch: Batch | None = None
        self._fault = ""
        self._again = 0.0
        # Of those who still wait: a receipt that nobody holds needs no answer.
        self._receipts: weakref.WeakSet[Receipt] = weakref.WeakSet()
        # Its owner may take it again: `log` may be called in what interrupts `log`.
        self._receiving = threading.RLock()
        self._bell = Bell()
        self._expired = 0

    def __len__(self) -> int:
        """Return how many records are not acknowledged, those that others stored included."""
        return len(self._buffer) + max(0, self._outlet.rows)

    def add(self, lane: int, record: Record, size: int, receipt: Receipt | None = None) -> bool:
        """Queue a record; return False when it was dropped."""
        if receipt is None:
            return self._buffer.add(lane, record, size)
        with self._receiving:
            self._receipts.add(receipt)
        if not self._buffer.add(lane, record, size, receipt):
            receipt.refuse("the buffer is full")
            return False
        self._buffer.bell.ring()
        return True

    def start(self) -> None:
        """Have what is in memory committed from now on."""
        self._attach().start()

    def wait(self, seconds: float) -> None:
        """Wait until enough for a batch is due, or it rings."""
        self._bell.wait(seconds)

    def look(self) -> None:
        """Store what is in memory, if there is no time, and count what others stored before."""
        if self._is_urgent:
            self._is_urgent = False
            self._attach().commit()
        try:
            self._outlet.look()
        except SpoolError as fault:
            self.complain(str(fault))

    def ring(self) -> None:
        """Let the sender go on, with what is in memory as well."""
        self._is_urgent = True
        self._bell.ring()

    def settle(self, timeout: float) -> None:
        """Put what is only in memory on the disk."""
        deadline = time.monotonic() + timeout
        self._fault = ""
        committer = self._attach()
        if not committer.is_running:
            committer.commit()
        # By its own thread: a disk may hang, and the process has to end.
        while len(self._buffer) and not self._fault and time.monotonic() < deadline:
            committer.bell.ring()
            time.sleep(SETTLE_SECONDS)

    def due(self, rows: int, size: int) -> Batch | None:
        """Return the next batch, the same one until it is acknowledged."""
        if self._batch is None:
            committer = self._attach()
            if not committer.is_running:
                committer.commit()
            try:
                self._batch = self._outlet.due(rows, size)
            except SpoolError as fault:
                self.complain(str(fault))
            self._batch = self._batch or self._from_memory()
        return self._batch

    def acknowledge(self, refused: int = 0) -> None:
        """Forget the batch that was due."""
        self._settle(refused, 0)

    def give_back(self, left: int, refused: int) -> bool:
        """Let other processes have the rest of the batch; only memory has no other sender."""
        if self._is_direct:
            return False
        self._settle(refused, left)
        return True

    def stats(self) -> dict[str, int]:
        """Return what became of the records that were added, and what is on the disk."""
        buffer = self._buffer
        return {
            "offered": buffer.offered,
            "dropped": buffer.dropped,
            "queued_bytes": buffer.bytes,
            "spooled": max(0, self._outlet.rows),
            "expired": self._expired,
        }

    def gather(self) -> Group | None:
        """Return what is to be stored next, for ``keep`` or ``forget`` to follow."""
        with self._handing:
            waits = self._fault and not self._receipts and time.monotonic() < self._again
            if waits or self._is_direct or not self._fill():
                return None
            self._is_in_hand = True
            return self._group

    def forget(self) -> None:
        """Know that the group is on the disk."""
        with suppress(SpoolError):
            # Before they leave the memory: a record is counted there or here.
            self._outlet.count()
        self._fault = ""
        self._forget_group()
        if self._outlet.rows >= GROUP_ROWS:
            self._bell.ring_if_heard()

    def keep(self, fault: str) -> None:
        """Know that the group could not be stored."""
        with self._handing:
            self._is_in_hand = False
            self._fault = fault
            self._again = time.monotonic() + AGAIN_SECONDS
        with self._receiving:
            receipts = list(self._receipts)
        self._dismiss(receipts)
        for receipt in receipts:
            receipt.refuse(fault)
        self.complain(fault)

    def complain(self, fault: str) -> None:
        """Tell that the disk is not as it should be."""
        self._complaints.say(f"{fault}; records wait in memory")

    def tell_expired(self, rows: int) -> None:
        """Tell that records were dropped because they were too old."""
        self._expired += rows
        self._complaints.say(f"{rows} records were dropped from the spool: too old")

    def _settle(self, refused: int, left: int) -> None:
        self._batch = None
        if self._is_direct:
            self._forget_group()
            return
        try:
            self._outlet.settle(refused, left)
        except SpoolError as fault:
            self.complain(str(fault))

    def _attach(self) -> Committer:
        """Have a part in what the committer does."""
        # Not before the first record: a fork lets the parent's committer go.
        if self._committer is None:
            self._committer = committer_of(self._spool)
            self._committer.attach(self)
            self._buffer.bell = self._committer.bell
        return self._committer

    def _dismiss(self, receipts: list[Receipt]) -> None:
        with self._receiving:
            self._receipts.difference_update(receipts)

    def _from_memory(self) -> Batch | None:
        """Return what the disk does not take, or nothing where it does."""
        with self._handing:
            if not self._fault or self._is_in_hand or not self._fill():
                return None
            assert self._group is not None
            self._is_direct = True
            to = self._group.records[0][0]
            return Batch(to.path, to.head, [body for _, body in self._group.records])

    def _fill(self) -> bool:
        """Encode the next group, unless there is one; return whether there is one."""
        while self._group is None:
            lane, entries = self._buffer.due(GROUP_ROWS, GROUP_BYTES)
            if not entries:
                return False
            to = self._destinations[lane]
            records, receipts = [], []
            for index, (record, _, receipt) in enumerate(entries):
                if index % BREATH == BREATH - 1:
                    time.sleep(0)
                body = self._encoder.encode(lane, record)
                if body is not None:
                    records.append((to, body))
                if receipt is not None and body is not None:
                    receipts.append(receipt)
                elif receipt is not None:
                    self._dismiss([receipt])
                    receipt.refuse("it cannot be sent")
            if records:
                self._group = Group(records, receipts, len(entries) == GROUP_ROWS)
            else:
                self._buffer.acknowledge()
        return True

    def _forget_group(self) -> None:
        with self._handing:
            assert self._group is not None
            receipts = self._group.receipts
            self._group = None
            self._buffer.acknowledge()
            self._is_in_hand = self._is_direct = False
        self._dismiss(receipts)
        for receipt in receipts:
            receipt.confirm()
