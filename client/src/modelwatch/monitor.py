"""What a model's host calls."""

from __future__ import annotations

import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Callable

from modelwatch import adapters, process
from modelwatch.buffer import LABELS, PREDICTIONS, Record
from modelwatch.context import take_id
from modelwatch.encoding import time_text
from modelwatch.engine import Engine
from modelwatch.errors import NotStoredError
from modelwatch.ids import new_prediction_id
from modelwatch.plan import make_plan, sample_rate
from modelwatch.weighing import PLAIN, RECORD_BYTES, held, weigh

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from datetime import datetime

    from modelwatch.encoding import Redact


class Monitor:
    """Logs the predictions of one version of a model; safe to share between threads.

    ``url``, ``api_key``, ``mode``, ``sample`` and ``spool`` are taken from ``MODELWATCH_URL``,
    ``MODELWATCH_API_KEY``, ``MODELWATCH_MODE``, ``MODELWATCH_SAMPLE`` and ``MODELWATCH_SPOOL``
    where they are not given.

    Raises
    ------
    ValueError
        If ``mode`` or ``policy`` is none that there is, or a number out of its range.
    """

    watch = adapters.watch
    wrap = adapters.wrap
    log_frame = adapters.log_frame

    _engine: Engine

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
        spool: str | os.PathLike[str] | None = None,
        spool_bytes: int = 1 << 30,
        spool_days: float = 7.0,
        policy: str = "newest",
        max_rows: int = 10_000,
        max_bytes: int = 64 << 20,
        batch: int = 1_000,
        interval: float = 0.5,
        timeout: float = 10.0,
    ) -> None:
        self.key = (model, version)
        self._rate = sample_rate(sample)
        if self._rate < 1:
            from modelwatch.sampling import is_sampled  # noqa: PLC0415 - hashlib is slow to import

            self._is_sampled = is_sampled
        options: dict[str, Any] = {
            "url": url,
            "api_key": api_key,
            "mode": mode,
            "redact": redact,
            "spool": spool,
            "spool_bytes": spool_bytes,
            "spool_days": spool_days,
            "policy": policy,
            "max_rows": max_rows,
            "max_bytes": max_bytes,
            "batch": batch,
            "interval": interval,
            "timeout": timeout,
        }
        self._plan = make_plan(model, version, **options)
        self._options = {**options, "sample": sample}
        self._is_off = self._plan.mode == "off"
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
            if self._is_off:
                return identity
            if self._rate < 1:
                if not self._is_sampled(identity, self._rate):
                    self._engine.count("unsampled")
                    return identity
                weight = (1.0 if weight is None else weight) / self._rate
            copied = dict(features)
            size = RECORD_BYTES + weigh(copied)
            # What most calls have costs them no call: at 500 a second each is in no cache.
            if type(prediction) not in PLAIN:
                prediction, more = held(prediction)
                size += more
            # The time is fixed here, once: a retry must send the same record.
            record: Record = {
                "prediction_id": identity,
                "ts": time.time() if ts is None else _at(ts),
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
            self._engine.add(PREDICTIONS, record, size, durable=durable)
        except NotStoredError:
            raise
        except Exception as fault:  # noqa: BLE001 - monitoring must not break what it watches
            self._engine.fail(fault, durable=durable)
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
        if self._is_off:
            return
        try:
            label, size = held(label)
            record = {
                "prediction_id": _text(prediction_id),
                "label": label,
                "label_ts": _at(label_ts),
            }
            self._engine.add(LABELS, record, size + RECORD_BYTES, durable=durable)
        except NotStoredError:
            raise
        except Exception as fault:  # noqa: BLE001 - as in `log`
            self._engine.fail(fault, durable=durable)

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until what is queued now is sent; return False when some still waits to be.

        Raises
        ------
        LostRecordsError
            If records were lost since the last flush: refused by the server, dropped for want of
            room, or not to be sent at all.  It is raised once; later records are not affected.
        """
        return self._engine.flush(timeout)

    @property
    def records(self) -> list[Record]:
        """In the mode ``memory``, what would have been sent so far, as the server would have it."""
        return self._engine.records()

    def stats(self) -> dict[str, int]:
        """Return what became of the records of this process.

        Once nothing is in motion, ``logged`` is the sum of ``sent``, ``unsampled``,
        ``unserialisable``, ``unredacted``, ``dropped``, ``errors`` and ``queued``; ``sent`` that
        of ``accepted``, ``duplicates`` and ``rejected``.
        """
        return self._engine.stats()

    def __copy__(self) -> Monitor:
        return self

    def __deepcopy__(self, _memo: object) -> Monitor:
        return self

    def __reduce__(self) -> tuple[Callable[..., Monitor], tuple[Any, ...]]:
        """Be made again in another process, with the key of that: none is in a stored model."""
        options = {name: value for name, value in self._options.items() if name != "api_key"}
        return partial(type(self), **options), self.key

    def _miscarry(self, fault: Exception) -> None:
        self._engine.fail(fault)

    def _is_filling(self) -> bool:
        return self._engine.is_filling()

    def _reset(self) -> None:
        """Begin with nothing: a forked child has no thread, and its parent sends the rest."""
        self._engine = Engine(self._plan)
        # What is queued is sent even if the host lets go of this; then the thread ends.
        weakref.finalize(self, self._engine.close).atexit = False


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
