"""Having a reference read and profiled by a process of its own.

What crashes a parser does not take the API down, and neither the rows nor the work that they make
are the API's: it gets what is stored of them, which is as small for millions as for thousands.
"""

import pickle
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from service.errors import BusyError, InvalidDocumentError, TooLargeError
from service.ingest.room import Room
from service.parsing.parser import Job, Parser, ParserDiedError, ParserLateError
from service.registry.privacy import Pseudonyms
from service.registry.values import VersionSpec

CSV = "text/csv"
MEDIA: Mapping[str, str] = {
    "application/vnd.apache.parquet": "Parquet",
    "application/vnd.apache.arrow.stream": "an Arrow stream",
    CSV: "CSV",
    "application/x-ndjson": "NDJSON",
}
MOST_COLUMNS = 600
_FUNCTION = "service.runs.reference_work:answer"
# Two to six times what the columns take was measured; and 1.5 GB of addresses, which are no memory,
# for a reference of hardly any rows.
_TIMES, _ASIDE = 8, 4 << 30
_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Limits:
    """What a reference may grow to, however small its file is."""

    rows: int = 5_000_000
    size: int = 256 << 20
    """Bytes of its columns in memory."""

    def check(self, rows: int, columns: int, size: int) -> None:
        """Refuse what is over a limit."""
        for value, limit, what in (
            (rows, self.rows, "rows"),
            (columns, MOST_COLUMNS, "columns"),
            (size, self.size, "bytes in memory"),
        ):
            if value > limit:
                message = f"the reference has too many {what}"
                raise TooLargeError(message, limit=limit)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on disk, and how its columns are to be read."""

    path: Path
    media: str
    names: Mapping[str, str]
    ignore: frozenset[str]
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Asked:
    """What the process that reads has to know; ``edges`` are those of the model so far."""

    upload: Upload
    version: VersionSpec
    window: str
    timezone: str
    edges: bytes | None
    pseudonyms: Pseudonyms | None


class Work(msgspec.Struct, frozen=True):
    """What is stored of a reference; without ``edges`` it is profiled with those of before."""

    features: list[dict[str, Any]]
    classes: tuple[str, ...] | None
    attributed: bool
    edges: bytes | None
    values: dict[str, Any]


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with it instead; ``bug`` is a trace of what nobody has foreseen."""

    detail: str = ""
    code: str = ""
    title: str = ""
    rejected: list[dict[str, Any]] = []
    limit: int | None = None
    bug: str = ""


class Found(msgspec.Struct, frozen=True):
    """One of the two."""

    work: Work | None = None
    fault: Fault | None = None


class MalformedReferenceError(InvalidDocumentError):
    """The file cannot be read as what it is said to be."""

    code = "malformed-reference"
    title = "Malformed reference"

    def __init__(self, media: str, row: int | None = None) -> None:
        self.row = row
        where = "" if row is None else f"; row {row} is the first bad one"
        rejected = [] if row is None else [{"index": row, "code": self.code}]
        super().__init__(
            f"the body is not {MEDIA[media]} that can be read{where}", rejected=rejected
        )


def read_apart(asked: Asked) -> Work:
    """Read and profile a reference, or raise what is wrong with it."""
    limits = asked.upload.limits
    job = Job(_FUNCTION, _ASIDE + _TIMES * limits.size, processor=2 * _SECONDS, seconds=_SECONDS)
    try:
        with Parser(job) as parser:
            answer = parser.ask(pickle.dumps(asked))
    except ParserDiedError:
        raise MalformedReferenceError(asked.upload.media) from None
    except ParserLateError:
        message = "the reference could not be read in time; send it again later"
        raise BusyError(message) from None
    found = msgspec.msgpack.decode(answer, type=Found)
    if found.fault is not None:
        raise _raised(found.fault)
    assert found.work is not None
    return found.work


def _raised(fault: Fault) -> Exception:
    if fault.bug:
        return RuntimeError(fault.bug)
    if fault.limit is not None:
        return TooLargeError(fault.detail, limit=fault.limit)
    return InvalidDocumentError(
        fault.detail, code=fault.code, title=fault.title, rejected=fault.rejected
    )


class ReferenceRoom:
    """One reference is read at a time: all that are sent together take no more than one does."""

    WAITING = 4
    SECONDS = 10.0

    def __init__(self, limit: int) -> None:
        self.received = Room(limit)
        """Bytes of files that are coming."""
        self.line = threading.Semaphore(1 + self.WAITING)
        """Who waits holds a thread of the API's."""
        self._place = threading.Lock()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Wait for the others for a while, or refuse."""
        if not self.line.acquire(blocking=False):
            raise _full()
        try:
            if not self._place.acquire(timeout=self.SECONDS):
                raise _full()
            try:
                yield
            finally:
                self._place.release()
        finally:
            self.line.release()


def _full() -> BusyError:
    return BusyError("other references are being read; send this one again later")
