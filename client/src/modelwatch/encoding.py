"""Records as JSON: times in UTC, numbers that JSON has, plain values for those of numpy."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from typing import TYPE_CHECKING, Any, Callable

from modelwatch.buffer import PREDICTIONS

if TYPE_CHECKING:
    from collections import Counter

    from modelwatch.buffer import Record
    from modelwatch.complaints import Complaints

MOST_SAID = 300
Redact = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes a prediction's record as it would be sent, and returns the one that may be."""


class Encoder:
    """Makes of records what is sent; what it cannot send it counts."""

    def __init__(self, redact: Redact | None, counts: Counter[str], complaints: Complaints) -> None:
        self._redact = redact
        self._counts = counts
        self._complaints = complaints

    def encode(self, lane: int, record: Record) -> bytes | None:
        """Return one record as JSON, or ``None`` where it is lost."""
        try:
            record = _with_time(record)
            if self._redact is None or lane != PREDICTIONS:
                return encode(record)
            redacted = self._redacted(self._redact, record)
            return None if redacted is None else encode(redacted)
        except KeyboardInterrupt:
            raise
        except BaseException as fault:  # noqa: BLE001 - a host's object may raise anything
            self._lose("unserialisable", f"a record cannot be sent: {said(fault)}")
            return None

    def _redacted(self, redact: Redact, record: Record) -> Record | None:
        try:
            redacted = redact(record)
            if isinstance(redacted, dict):
                return redacted
            cause = "it returned no record"
        except KeyboardInterrupt:
            raise
        except BaseException as fault:  # noqa: BLE001 - a host's callback may raise anything
            # In its own words it might tell what was to be kept out.
            cause = type(fault).__name__
        self._lose("unredacted", f"`redact` failed: {cause}")
        return None

    def _lose(self, count: str, text: str) -> None:
        self._counts[count] += 1
        self._complaints.say(text)


def encode(record: dict[str, Any]) -> bytes:
    """Return one record as JSON; non-finite numbers become null.

    Raises
    ------
    TypeError, ValueError
        If the record holds what JSON cannot.
    """
    try:
        text = _encode(record)
    except (TypeError, ValueError):
        text = _encode(_plainly(record))
    return text.encode()


def time_text(ts: Any) -> str:
    """Return an instant as RFC 3339.

    A ``datetime`` without a zone is local time; those of numpy and pandas are in UTC.
    """
    at = _of_numpy(ts) if _kind(ts) == "M" else ts
    if not isinstance(at, datetime):
        at = datetime.fromtimestamp(at, timezone.utc)
    elif at.tzinfo is None and (at is not ts or hasattr(at, "to_datetime64")):
        at = at.replace(tzinfo=timezone.utc)
    text = at.astimezone(timezone.utc).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def _kind(value: Any) -> str:
    return getattr(getattr(value, "dtype", None), "kind", "")


def _of_numpy(times: Any) -> Any:
    """Return times or durations of numpy as those of Python, which have microseconds."""
    return times.astype(f"{times.dtype.kind}8[us]").tolist()


def _with_time(record: Record) -> Record:
    """Write out the time that ``log`` only took: seconds since 1970."""
    for name in ("ts", "label_ts"):
        if type(record.get(name)) is float:
            record[name] = time_text(record[name])
    return record


def _plain(value: Any) -> Any:
    """Return what JSON has instead of a value that it lacks."""
    if isinstance(value, (date, timedelta)) or _kind(value) in {"M", "m"}:
        return _temporal(value)
    if isinstance(value, Enum):
        return value.value
    # By their names: nothing is imported for a host that has none of it.
    name = type(value).__name__
    if name == "NAType":
        return None
    if name in {"Decimal", "Fraction"}:
        return _finite(float(value))
    if name in {"UUID", "Period", "Interval"}:
        return str(value)
    plain = getattr(value, "tolist", None)
    if callable(plain):
        return _plainly(plain())
    message = f"{type(value).__name__} is no JSON value"
    raise TypeError(message)


def _temporal(value: Any) -> Any:
    """Return a time as text, a duration in seconds, and null where it is missing."""
    if getattr(value, "shape", ()):
        return [_temporal(one) for one in value]
    at = _of_numpy(value) if _kind(value) else value
    if at is None or str(at) == "NaT":
        return None
    if isinstance(at, timedelta):
        return at.total_seconds()
    return time_text(value) if isinstance(at, datetime) else at.isoformat()


_encode = json.JSONEncoder(
    default=_plain, allow_nan=False, ensure_ascii=False, separators=(",", ":")
).encode


def _plainly(value: Any) -> Any:
    """Return a value with null for each number that is none, and with texts for its keys."""
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, dict):
        return {str(key): _plainly(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plainly(inner) for inner in value]
    return value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def said(fault: BaseException) -> str:
    """Return the words of a fault, the first of them, unless they cannot be had."""
    try:
        return repr(fault)[:MOST_SAID]
    except Exception:  # noqa: BLE001 - a host's exception may raise as well
        return type(fault).__name__
