"""Records as JSON: times in UTC, numbers that JSON has, what numpy has as plain values."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, timezone
from typing import Any


def encode(record: dict[str, Any]) -> bytes:
    """Return one record as JSON; non-finite numbers become null.

    Raises
    ------
    TypeError, ValueError
        If the record holds what JSON cannot.
    """
    try:
        text = json.dumps(record, default=_plain, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(record), default=_plain, allow_nan=False)
    return text.encode()


def time_text(ts: float | datetime) -> str:
    """Return an instant as RFC 3339; a datetime without a zone is local time."""
    at = ts if isinstance(ts, datetime) else datetime.fromtimestamp(ts, timezone.utc)
    text = at.astimezone(timezone.utc).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return None if str(value) == "NaT" else time_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if type(value).__name__ == "NAType":
        return None
    if getattr(getattr(value, "dtype", None), "kind", "") == "M" and not value.shape:
        # A time of numpy is in UTC, and its text has no zone.
        text = str(value.astype("datetime64[us]"))
        return None if text == "NaT" else f"{text}Z"
    plain = getattr(value, "tolist", None)
    if callable(plain):
        return _finite(plain())
    message = f"{type(value).__name__} is no JSON value"
    raise TypeError(message)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
