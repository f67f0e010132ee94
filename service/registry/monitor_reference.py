"""The part of a monitor document that tells what a window is compared with."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from service.registry.documents import hint
from service.registry.monitor_values import read_duration, write_duration

Length = Literal["1h", "6h", "1d", "1w", "1mo"]

# What late rows and labels change: the windows that look back on them are judged again.
MOST_WINDOWS = 200
MOST_SEASONS = 60

PLAIN = ("training", "previous_window")
KINDS = (*PLAIN, "trailing", "seasonal", "version")
SEASONS = (
    "same hour last week",
    "same hour of the last 4 weeks",
    "same hour yesterday",
    "same hour of the last 7 days",
    "same weekday last week",
    "same weekday of the last 4 weeks",
)

# At most: a month has no fixed length.
LENGTHS = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "1d": timedelta(days=1),
    "1w": timedelta(weeks=1),
    "1mo": timedelta(days=31),
}
_SEASON = re.compile(
    r"same (hour|weekday) (?:(yesterday)|(last week)|of the last ([0-9]{1,2}) (days|weeks))"
)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Season:
    """The same local time ``count`` times: each of the days or weeks (``step``) before."""

    of: Literal["hour", "weekday"]
    step: Literal["1d", "1w"]
    count: int
    words: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a window is compared with; the field of its ``kind`` is set, if that has one."""

    kind: Literal["training", "previous_window", "trailing", "seasonal", "version"] = "training"
    trailing: timedelta | None = None
    seasonal: Season | None = None
    version: str | None = None


TRAINING = Comparison()


def read_comparison(value: object) -> object:
    """Read ``training``, ``{trailing: 30d}`` and the like."""
    if isinstance(value, Comparison):
        return value
    kind, content = value, None
    if isinstance(value, Mapping) and len(value) == 1:
        [(kind, content)] = value.items()
    known = PLAIN if content is None else KINDS[len(PLAIN) :]
    if not isinstance(kind, str) or kind not in known:
        message = (
            "a reference is training, previous_window, or one of trailing: 30d,"
            f" seasonal: {SEASONS[0]} and version: 6{hint(kind, known)}"
        )
        raise ValueError(message)
    if kind == "trailing":
        return _trailing(content)
    if kind == "seasonal":
        return Comparison("seasonal", seasonal=read_season(content))
    return Comparison("version", version=_version(content)) if kind == "version" else _plain(kind)


def _plain(kind: str) -> Comparison:
    return TRAINING if kind == "training" else Comparison("previous_window")


def _trailing(content: object) -> Comparison:
    length = read_duration(content)
    assert isinstance(length, timedelta)
    return Comparison("trailing", trailing=length)


def _version(content: object) -> str:
    # YAML reads a bare 6 as a number.
    name = str(content) if type(content) is int else content
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        message = "version is the name of another version of the model, such as '6'"
        raise ValueError(message)
    return name


def read_season(text: object) -> Season:
    """Read which earlier times are the same season.

    Raises
    ------
    ValueError
        If the words are others, or mean nothing.
    """
    found = _SEASON.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        known = "; ".join(SEASONS)
        message = f"a season is in words like: {known}{hint(text, SEASONS)}"
        raise ValueError(message)
    of, yesterday, _, count, unit = found.groups()
    step: Literal["1d", "1w"] = "1d" if yesterday or unit == "days" else "1w"
    number = int(count or 1)
    if not 1 <= number <= MOST_SEASONS:
        message = f"a season goes back 1 to {MOST_SEASONS} times"
        raise ValueError(message)
    if of == "weekday" and step == "1d":
        message = "the same weekday comes once a week: 'same weekday of the last 4 weeks'"
        raise ValueError(message)
    return Season("hour" if of == "hour" else "weekday", step, number, found[0])


def write_comparison(value: Comparison) -> str | dict[str, str]:
    """Write what ``read_comparison`` reads."""
    if value.trailing is not None:
        return {"trailing": write_duration(value.trailing)}
    if value.seasonal is not None:
        return {"seasonal": value.seasonal.words}
    return {"version": value.version} if value.version is not None else value.kind


def require_fit(comparison: Comparison, window: str, every: str) -> None:
    """Refuse a comparison that a window of this length cannot have.

    Raises
    ------
    ValueError
        If it would overlap the window itself, or look back over too many.
    """
    own = LENGTHS[window]
    if (length := comparison.trailing) is not None:
        said = write_duration(length)
        if length < own:
            message = f"reference: trailing: {said} is shorter than the window, {window}"
            raise ValueError(message)
        if length > MOST_WINDOWS * LENGTHS[every]:
            message = (
                f"reference: trailing: {said} is more than {MOST_WINDOWS} windows every {every};"
                " take longer steps or a shorter time"
            )
            raise ValueError(message)
    season = comparison.seasonal
    if season is None:
        return
    if season.of == "weekday" and own < timedelta(days=1):
        message = (
            f"reference: a window of {window} is no weekday; 'same hour of the last"
            f" {season.count} weeks' has the weekday and the hour"
        )
        raise ValueError(message)
    if own > LENGTHS[season.step]:
        longest = "a day" if season.step == "1d" else "a week"
        message = (
            f"reference: seasonal: a window of {window} is longer than {longest}, and would be"
            " compared with itself"
        )
        raise ValueError(message)


def _one_key(key: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key: schema},
        "required": [key],
        "additionalProperties": False,
    }


Reference = Annotated[
    Comparison,
    BeforeValidator(read_comparison),
    PlainSerializer(write_comparison, return_type=str | dict[str, str]),
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "string", "enum": list(PLAIN)},
                _one_key("trailing", {"type": "string", "examples": ["30d"]}),
                _one_key("seasonal", {"type": "string", "examples": list(SEASONS)}),
                _one_key("version", {"type": "string", "pattern": _NAME.pattern}),
            ]
        }
    ),
]
