"""The values that a monitor document is made of."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from service.registry.documents import hint

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"([0-9]{1,6})([smhdw])")


def read_duration(value: object) -> timedelta:
    """Read ``15m``, ``1d`` and the like."""
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        message = "a duration is a number with s, m, h, d or w, such as '15m'"
        raise ValueError(message)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def write_duration(value: timedelta) -> str:
    """Write a duration in its largest whole unit."""
    seconds = int(value.total_seconds())
    for unit, size in (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(read_duration),
    PlainSerializer(write_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"}),
]
Alpha = Annotated[float, Field(gt=0, le=0.5)]
Share = Annotated[float, Field(ge=0, le=1)]
Effect = Annotated[float, Field(ge=0)]


def one_of(known: tuple[str, ...], value: str, what: str) -> str:
    """Return the value, or say which ones are known."""
    if value not in known:
        message = f"{what} are {', '.join(known)}{hint(value, known)}"
        raise ValueError(message)
    return value
