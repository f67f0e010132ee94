"""Times as microseconds since 1970: what a client may say, and the hour it belongs to."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import msgspec

from service.ingest.limits import FUTURE, PAST
from service.ingest.verdicts import Code, RowError

HOUR = 3_600_000_000
_DAY = 86_400_000_000
_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = -62_135_596_800_000_000
_LAST = 253_402_300_799_999_999
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_WITHOUT_ZONE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?\Z", re.ASCII)


def microseconds(time: datetime) -> int:
    """Convert an aware time, exactly."""
    past = time - _EPOCH
    return past.days * _DAY + past.seconds * _SECOND + past.microseconds


def to_datetime(value: int) -> datetime:
    """Convert back to an aware time in UTC."""
    return datetime.fromtimestamp(value // _SECOND, UTC).replace(microsecond=value % _SECOND)


def seconds_of(value: str) -> float | None:
    """Return a time of RFC 3339, or the beginning of a date in UTC, in seconds since 1970.

    ``None`` if it is neither: without a zone nobody knows when it was.
    """
    try:
        if _DATE.match(value):
            return (date.fromisoformat(value) - _EPOCH.date()) / timedelta(seconds=1)
        time = msgspec.convert(value, datetime, strict=True)
    except ValueError:
        return None
    return None if time.tzinfo is None else to_seconds(time)


def to_seconds(time: datetime) -> float | None:
    """Return an aware time in seconds since 1970, or ``None`` outside of years 1 to 9999 of UTC."""
    value = microseconds(time)
    return value / _SECOND if _FIRST <= value <= _LAST else None


@dataclass(frozen=True, slots=True)
class Kept:
    """How long a model's rows are kept, and since when they are there, in microseconds."""

    retention: int
    since: int

    @classmethod
    def of(cls, retention: timedelta | None, since: datetime | None) -> "Kept | None":
        """Return what is kept, or ``None`` if that is everything."""
        if retention is None and since is None:
            return None
        return cls(
            _LAST if retention is None else retention // timedelta(microseconds=1),
            _FIRST if since is None else microseconds(since),
        )


@dataclass(frozen=True, slots=True)
class Horizon:
    """The times that are accepted at one moment."""

    now: int
    earliest: int
    latest: int

    @classmethod
    def at(cls, now: datetime) -> "Horizon":
        """Return what is accepted ``now``."""
        moment = microseconds(now)
        return cls(moment, microseconds(now - PAST), microseconds(now + FUTURE))

    def kept(self, kept: "Kept") -> "Horizon":
        """Return the part of it that a model keeps."""
        earliest = max(self.earliest, self.now - kept.retention, kept.since)
        return Horizon(self.now, earliest, self.latest)

    def check(self, value: int, field: str) -> None:
        """Raise unless the time is one at which something could have been logged."""
        if not _FIRST <= value <= _LAST:
            raise RowError(
                Code.TIMESTAMP_OUT_OF_RANGE, field, "the time is outside years 1 to 9999"
            )
        if value > self.latest:
            raise RowError(Code.TIMESTAMP_IN_FUTURE, field, "the time is in the future")
        if value < self.earliest:
            raise RowError(Code.TIMESTAMP_TOO_OLD, field, "the time is older than what is kept")

    def parse(self, value: object, field: str) -> int:
        """Read a time of RFC 3339 with its zone; a missing one is never made up here."""
        if not isinstance(value, str):
            raise RowError(Code.BAD_TIMESTAMP, field, "the time is not a string of RFC 3339")
        if _WITHOUT_ZONE.match(value):
            raise RowError(Code.TIMESTAMP_WITHOUT_ZONE, field, "the time has no zone")
        try:
            time = msgspec.convert(value, datetime, strict=True)
        except ValueError:
            time = None
        # A NUL ends the text for msgspec, which finds no zone then and says nothing.
        if time is None or time.tzinfo is None:
            raise RowError(Code.BAD_TIMESTAMP, field, "the time is not one of RFC 3339")
        result = microseconds(time)
        self.check(result, field)
        return result
