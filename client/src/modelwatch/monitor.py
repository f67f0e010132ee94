"""What a model's host calls."""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from modelwatch import adapters
from modelwatch.buffer import Buffer
from modelwatch.context import take_id
from modelwatch.encoding import time_text
from modelwatch.errors import LostRecordsError
from modelwatch.sender import Sender
from modelwatch.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

DEFAULT_URL = "http://127.0.0.1:8080"
EXIT_SECONDS = 2.0
MODES = ("on", "off")
LOSSES = ("rejected", "unserialisable", "dropped", "errors")

_monitors: weakref.WeakSet[Monitor] = weakref.WeakSet()


class Monitor:
    """Logs the predictions of one version of a model; safe to share between threads.

    ``url``, ``api_key`` and ``mode`` are taken from ``MODELWATCH_URL``, ``MODELWATCH_API_KEY``
    and ``MODELWATCH_MODE`` where they are not given.
    """

    watch = adapters.watch
    wrap = adapters.wrap
    log_frame = adapters.log_frame

    _sender: Sender | None
    _predictions: Buffer
    _labels: Buffer
    _logged: int
    _errors: int
    _fault: str
    _told: dict[str, int]

    def __init__(
        self,
        model: str,
        version: str,
        *,
        url: str | None = None,
        api_key: str | None = None,
        mode: str | None = None,
        max_rows: int = 10_000,
        batch: int = 500,
        interval: float = 0.5,
        timeout: float = 10.0,
    ) -> None:
        environment = os.environ  # noqa: TID251 - the SDK's own settings, read once
        self._url = url or environment.get("MODELWATCH_URL") or DEFAULT_URL
        self._key = api_key or environment.get("MODELWATCH_API_KEY")
        chosen = mode or environment.get("MODELWATCH_MODE") or "on"
        if chosen not in MODES:
            message = f"mode is one of {', '.join(MODES)}"
            raise ValueError(message)
        self._off = chosen == "off"
        self.key = (model, version)
        self._heads = (
            _head({"model": model, "version": version}),
            _head({"model": model}),
        )
        self._limits = (max_rows, batch, interval, timeout)
        self._reset()
        _monitors.add(self)

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
    ) -> str:
        """Queue a prediction and return its id; never blocks, never raises.

        The id is the given one, that of the request (see ``correlate``), or a new one.
        """
        identity = prediction_id or take_id(self.key)
        if self._off:
            return identity
        self._logged += 1
        try:
            # The time is fixed here, once: a retry must send the same record.
            record: dict[str, Any] = {
                "prediction_id": identity,
                "ts": time_text(time.time() if ts is None else ts),
                "features": dict(features),
                "prediction": prediction,
            }
            if score is not None:
                record["score"] = score
            if scores is not None:
                record["scores"] = dict(scores)
            if weight is not None:
                record["weight"] = weight
            if tags is not None:
                record["tags"] = dict(tags)
            if subject is not None:
                record["subject"] = subject
            if attributions is not None:
                record["attributions"] = dict(attributions)
            self._queue(self._predictions, record)
        except Exception as fault:  # noqa: BLE001 - monitoring must not break what it watches
            self._fail(fault)
        return identity

    def label(
        self, prediction_id: str, label: Any, *, label_ts: datetime | float | None = None
    ) -> None:
        """Queue the truth about a prediction; never blocks, never raises."""
        if self._off:
            return
        self._logged += 1
        try:
            at = time_text(time.time() if label_ts is None else label_ts)
            record = {"prediction_id": prediction_id, "label": label, "label_ts": at}
            self._queue(self._labels, record)
        except Exception as fault:  # noqa: BLE001 - as in `log`
            self._fail(fault)

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until all records are sent; return False when some still wait to be.

        Raises
        ------
        LostRecordsError
            If records were lost since the last flush: refused by the server, dropped for want of
            room, or not to be sent at all.  It is raised once; later records are not affected.
        """
        done = self._wait(timeout)
        self._tell_losses()
        return done

    def stats(self) -> dict[str, int]:
        """Return what became of the records of this process.

        Once nothing is in motion, ``logged`` is the sum of ``sent``, ``unserialisable``,
        ``dropped``, ``errors`` and ``queued``; ``sent`` that of ``accepted``, ``duplicates`` and
        ``rejected``.
        """
        counts = self._sender.counts if self._sender is not None else {}
        answered = {name: counts.get(name, 0) for name in ("accepted", "duplicates", "rejected")}
        return {
            "logged": self._logged,
            "sent": sum(answered.values()),
            **answered,
            **{name: counts.get(name, 0) for name in ("unserialisable", "retries")},
            "dropped": self._predictions.dropped + self._labels.dropped,
            "errors": self._errors,
            "queued": len(self._predictions) + len(self._labels),
        }

    def _wait(self, timeout: float) -> bool:
        return self._sender is None or self._sender.flush(timeout)

    def _tell_losses(self) -> None:
        now = self.stats()
        lost = {name: now[name] - self._told.get(name, 0) for name in LOSSES}
        self._told = now
        refused = self._sender.unflushed.told() if self._sender is not None else ""
        parts = (
            (lost["rejected"], refused or f"{lost['rejected']} rejected"),
            (lost["unserialisable"], f"{lost['unserialisable']} hold what JSON cannot"),
            (lost["dropped"], f"{lost['dropped']} dropped: the buffer was full"),
            (lost["errors"], f"{lost['errors']} could not be queued ({self._fault})"),
        )
        if said := [text for rows, text in parts if rows]:
            message = f"lost since the last flush: {'; '.join(said)}"
            raise LostRecordsError(message, {name: rows for name, rows in lost.items() if rows})

    def _miscarry(self, fault: Exception) -> None:
        if not self._off:
            self._logged += 1
            self._fail(fault)

    def _is_filling(self) -> bool:
        return 2 * (len(self._predictions) + len(self._labels)) > self._limits[0]

    def _fail(self, fault: Exception) -> None:
        self._errors += 1
        self._fault = repr(fault)

    def _queue(self, buffer: Buffer, record: dict[str, Any]) -> None:
        if self._sender is None:
            self._start()
        buffer.add(record)

    def _start(self) -> None:
        with self._starting:
            if self._sender is not None:
                return
            _, batch, interval, timeout = self._limits
            sender = Sender(
                Transport(self._url, self._key, timeout),
                [
                    ("/v1/predictions", self._heads[0], self._predictions),
                    ("/v1/labels", self._heads[1], self._labels),
                ],
                batch=batch,
                interval=interval,
            )
            sender.start()
            self._sender = sender

    def _reset(self) -> None:
        """Begin with nothing: a forked child has no thread, and its parent sends the rest."""
        self._predictions = Buffer(self._limits[0])
        self._labels = Buffer(self._limits[0])
        self._starting = threading.Lock()
        self._sender = None
        self._logged = 0
        self._errors = 0
        self._fault = ""
        self._told = {}


def _head(envelope: dict[str, str]) -> bytes:
    return json.dumps(envelope)[:-1].encode() + b', "records": ['


def _after_fork() -> None:
    for monitor in list(_monitors):
        monitor._reset()  # noqa: SLF001 - this module's own class


def _at_exit() -> None:
    deadline = time.monotonic() + EXIT_SECONDS
    for monitor in list(_monitors):
        monitor._wait(max(0.0, deadline - time.monotonic()))  # noqa: SLF001 - as above


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
