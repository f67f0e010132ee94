"""What a model's host calls."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import weakref
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from modelwatch import adapters, process
from modelwatch.buffer import LABELS, POLICIES, PREDICTIONS, Buffer, Record
from modelwatch.complaints import Complaints
from modelwatch.context import take_id
from modelwatch.encoding import Encoder, said, time_text
from modelwatch.errors import LostRecordsError, NotStoredError
from modelwatch.ids import new_prediction_id
from modelwatch.losses import Losses
from modelwatch.queues import MemoryQueue, Queue
from modelwatch.receipt import Receipt
from modelwatch.sender import Sender
from modelwatch.weighing import RECORD_BYTES, held, weigh

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from modelwatch.encoding import Redact
    from modelwatch.spooling import Spooling

DEFAULT_URL = "http://127.0.0.1:8080"
START_AGAIN_SECONDS = 1.0
MODES = ("on", "off", "memory")


class Monitor:
    """Logs the predictions of one version of a model; safe to share between threads.

    ``url``, ``api_key``, ``mode`` and ``sample`` are taken from ``MODELWATCH_URL``,
    ``MODELWATCH_API_KEY``, ``MODELWATCH_MODE`` and ``MODELWATCH_SAMPLE`` where they are not given.
    """

    watch = adapters.watch
    wrap = adapters.wrap
    log_frame = adapters.log_frame

    _counts: Counter[str]
    _complaints: Complaints
    _unwarned: Losses
    _unflushed: Losses
    _queue: Queue
    _sender: Sender | None
    _fault: str
    _start_again: float
    _is_started: bool
    _is_ending: bool

    def __init__(
        self,
        model: str,
        version: str,
        *,
        url: str | None = None,
        api_key: str | None = None,
        mode: str | None = None,
        sample: float | None = None,
        redact: Redact | None = None,
        policy: str = "newest",
        max_rows: int = 10_000,
        max_bytes: int = 64 << 20,
        batch: int = 1_000,
        interval: float = 0.5,
        timeout: float = 10.0,
        spool: str | os.PathLike[str] | None = None,
        spool_bytes: int = 512 << 20,
        spool_days: float = 7.0,
    ) -> None:
        environment = os.environ  # noqa: TID251 - the SDK's own settings, read once
        self._mode = mode or environment.get("MODELWATCH_MODE") or "on"
        self._rate = float(environment.get("MODELWATCH_SAMPLE") or 1 if sample is None else sample)
        _require("mode", self._mode, MODES)
        _require("policy", policy, POLICIES)
        if not 0 < self._rate <= 1:
            message = "sample is a rate above 0, and at most 1"
            raise ValueError(message)
        if self._rate < 1:
            from modelwatch.sampling import is_sampled  # noqa: PLC0415 - hashlib is slow to import

            self._is_sampled = is_sampled
        self.key = (model, version)
        self._routes = {
            PREDICTIONS: ("/v1/predictions", _head({"model": model, "version": version})),
            LABELS: ("/v1/labels", _head({"model": model})),
        }
        address = url or environment.get("MODELWATCH_URL") or DEFAULT_URL
        key = api_key or environment.get("MODELWATCH_API_KEY")
        self._redact = redact
        self._limits = (max_rows, max_bytes, policy)
        self._pace = (batch, interval)
        self._timeout = timeout
        self._spooling: Spooling | None = None
        if self._mode == "on":
            # Here and not with the package: a host that has it switched off does without.  And
            # not later: a fork in the middle of an import would leave a child with half a module.
            from modelwatch.transport import Transport  # noqa: PLC0415 - as said

            self._connect = partial(Transport, address, key, timeout)
            place = spool or environment.get("MODELWATCH_SPOOL")
            if place:
                from modelwatch.spooling import spooling  # noqa: PLC0415 - as said

                self._spooling = spooling(place, spool_bytes, spool_days, address, model)
        self._reset()
        process.watch_over(self)

    def log(
        self,
        features: Mapping[str, Any],
        prediction: Any,
        *,
        score: float | None = None,
        scores: Mapping[str, float] | None = None,
        prediction_id: str | None = None,
        ts: datetime | float | None = None,
        weight: float | None = None,
        tags: Mapping[str, str] | None = None,
        subject: str | None = None,
        attributions: Mapping[str, float] | None = None,
        durable: bool = False,
    ) -> str:
        """Queue a prediction and return its id; never blocks, never raises.

        The id is the given one, that of the request (see ``correlate``), or a new one.

        Raises
        ------
        NotStoredError
            Only with ``durable``, which waits until the record is committed to the spool.
        """
        identity = ""
        try:
            identity = take_id(self.key) if prediction_id is None else _text(prediction_id)
            if self._mode == "off":
                return identity
            if self._rate < 1:
                if not self._is_sampled(identity, self._rate):
                    self._count("unsampled")
                    return identity
                weight = (1.0 if weight is None else weight) / self._rate
            copied = dict(features)
            prediction, size = held(prediction)
            size += RECORD_BYTES + weigh(copied)
            # The time is fixed here, once: a retry must send the same record.
            record: Record = {
                "prediction_id": identity,
                "ts": _at(ts),
                "features": copied,
                "prediction": prediction,
            }
            if score is not None:
                record["score"] = score
            if weight is not None:
                record["weight"] = weight
            if scores is not None or tags or subject is not None or attributions is not None:
                size += _hold(
                    record, scores=scores, tags=tags, subject=subject, attributions=attributions
                )
            self._add(PREDICTIONS, record, size, durable=durable)
        except NotStoredError:
            raise
        except Exception as fault:  # noqa: BLE001 - monitoring must not break what it watches
            self._fail(fault, durable=durable)
        return identity or new_prediction_id()

    def label(
        self,
        prediction_id: str,
        label: Any,
        *,
        label_ts: datetime | float | None = None,
        durable: bool = False,
    ) -> None:
        """Queue the truth about a prediction, in any process; never blocks, never raises.

        Labels are never sampled away, whatever the rate was when the prediction was logged.

        Raises
        ------
        NotStoredError
            Only with ``durable``, as ``log`` does.
        """
        if self._mode == "off":
            return
        try:
            label, size = held(label)
            record = {
                "prediction_id": _text(prediction_id),
                "label": label,
                "label_ts": _at(label_ts),
            }
            self._add(LABELS, record, size + RECORD_BYTES, durable=durable)
        except NotStoredError:
            raise
        except Exception as fault:  # noqa: BLE001 - as in `log`
            self._fail(fault, durable=durable)

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until what is queued now is sent; return False when some still waits to be.

        Raises
        ------
        LostRecordsError
            If records were lost since the last flush: refused by the server, dropped for want of
            room, or not to be sent at all.  It is raised once; later records are not affected.
        """
        self._collect()
        done = self._sender is None or self._sender.flush(timeout)
        said, lost = self._unflushed.told(self.stats(), self._fault)
        if said:
            message = f"lost since the last flush: {'; '.join(said)}"
            raise LostRecordsError(message, lost)
        return done

    @property
    def records(self) -> list[Record]:
        """In the mode ``memory``, what would have been sent so far, as the server would have it."""
        self._collect()
        return self._kept

    def stats(self) -> dict[str, int]:
        """Return what became of the records of this process.

        Once nothing is in motion, ``logged`` is the sum of ``sent``, ``unsampled``,
        ``unserialisable``, ``unredacted``, ``dropped``, ``errors`` and ``queued``; ``sent`` that
        of ``accepted``, ``duplicates`` and ``rejected``.
        """
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

    def _add(self, lane: int, record: Record, size: int, *, durable: bool) -> None:
        if not self._is_started:
            self._start()
        if durable and self._mode == "on" and self._spooling is None:
            message = "a durable record needs a spool"
            raise NotStoredError(message)
        receipt = Receipt() if durable and self._mode == "on" else None
        self._queue.add(lane, record, size, receipt)
        if receipt is not None:
            receipt.wait(self._timeout)
        if self._is_ending and self._sender is not None:
            self._sender.end(process.seconds_left() or 0.0)

    def _collect(self) -> None:
        while self._mode == "memory" and (batch := self._queue.due(1, sys.maxsize)) is not None:
            shared = json.loads(batch.head + b"]}")
            del shared["records"]
            self._kept += [{**shared, **json.loads(record)} for record in batch.records]
            self._counts["accepted"] += len(batch.records)
            self._queue.acknowledge()

    def _start(self) -> None:
        """Start the thread; where none can be had, records wait, and ``flush`` sends them."""
        # Whoever comes second has no need to wait, and may have interrupted the first.
        if self._mode != "on" or not self._starting.acquire(blocking=False):
            return
        try:
            if self._sender is None:
                batch, interval = self._pace
                self._sender = Sender(
                    self._connect(),
                    self._queue,
                    self._counts,
                    self._complaints,
                    (self._unwarned.refusals, self._unflushed.refusals),
                    batch=batch,
                    interval=interval,
                )
                process.flush_at_exit(self._sender)
                # What is queued is sent even if the host lets go of this; then the thread ends.
                weakref.finalize(self, self._sender.close).atexit = False
            if time.monotonic() >= self._start_again:
                self._start_again = time.monotonic() + START_AGAIN_SECONDS
                self._start_threads(self._sender)
        finally:
            self._starting.release()

    def _start_threads(self, sender: Sender) -> None:
        try:
            self._queue.start()
            sender.start()
            self._is_started = True
        except (RuntimeError, MemoryError) as fault:
            self._complaints.say(f"no thread can be started ({fault}); records wait for `flush`")

    def _count(self, name: str) -> None:
        with self._counting:
            self._counts[name] += 1

    def _fail(self, fault: Exception, *, durable: bool) -> None:
        self._count("errors")
        self._fault = said(fault)
        if durable:
            raise NotStoredError(self._fault) from fault

    def _miscarry(self, fault: Exception) -> None:
        if self._mode != "off":
            self._fail(fault, durable=False)

    def _is_filling(self) -> bool:
        rows, size, _ = self._limits
        queue = self._queue.stats()
        # What is on the disk takes no room in memory.
        waiting = len(self._queue) - queue.get("spooled", 0)
        return 2 * waiting > rows or 2 * queue["queued_bytes"] > size

    def _gathered(self) -> list[str]:
        return self._unwarned.told(self.stats(), self._fault)[0]

    def _reset(self) -> None:
        """Begin with nothing: a forked child has no thread, and its parent sends the rest."""
        self._counts = Counter()
        self._counting = threading.RLock()
        self._starting = threading.Lock()
        self._start_again = float("-inf")
        self._fault = ""
        self._unwarned, self._unflushed = Losses(), Losses()
        self._complaints = Complaints(self._gathered)
        self._queue = self._make_queue()
        self._kept: list[Record] = []
        self._sender = None
        self._is_started = self._is_ending = False

    def _make_queue(self) -> Queue:
        rows, size, policy = self._limits
        encoder = Encoder(self._redact, self._counts, self._complaints)
        buffer = Buffer(rows, size, policy=policy, ripe=min(rows, self._pace[0]))
        if self._spooling is None:
            return MemoryQueue(buffer, encoder, self._routes)
        return self._spooling.queue(buffer, encoder, self._routes, self._complaints)


def _require(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        message = f"{name} is one of {', '.join(known)}"
        raise ValueError(message)


def _at(ts: datetime | float | None) -> float | str:
    """Return an instant in seconds, which are written out later, or as text."""
    if ts is None:
        return time.time()
    return ts if type(ts) is float else time_text(ts)


def _hold(record: Record, **fields: Any) -> int:
    """Add the fields that were given to a record, as they are now; return their size."""
    total = 0
    for name, value in fields.items():
        if value is not None:
            record[name], size = held(value)
            total += size
    return total


def _text(prediction_id: Any) -> str:
    """Return an id as text: those of databases are numbers, or UUIDs."""
    return prediction_id if type(prediction_id) is str else str(prediction_id)


def _head(envelope: dict[str, str]) -> bytes:
    return json.dumps(envelope)[:-1].encode() + b', "records": ['
