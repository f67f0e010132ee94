"""Records as JSON: times in UTC, numbers that JSON has, scalars of numpy as plain ones."""

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
    item = getattr(value, "item", None)
    if callable(item):
        plain = item()
        return None if isinstance(plain, float) and not math.isfinite(plain) else plain
    if isinstance(value, (date, datetime)):
        return value.isoformat()
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
