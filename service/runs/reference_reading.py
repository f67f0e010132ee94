"""Having a reference read and profiled by a process of its own.

What crashes its process does not take the API down, and neither the rows nor the work that they
make are the API's: it gets what is stored of them, which is as small for millions as for thousands.
"""

import pickle
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from service.errors import (
    BadRequestError,
    BusyError,
    InvalidDocumentError,
    TooLargeError,
)
from service.ingest.room import Room, Share
from service.isolation.memory import memory_limit
from service.isolation.process import (
    IsolatedProcess,
    Job,
    ProcessDiedError,
    ProcessGrownError,
    ProcessKilledError,
    ProcessLateError,
    ProcessSlowError,
)
from service.registry.privacy import Pseudonyms
from service.registry.values import VersionSpec

CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
NDJSON = "application/x-ndjson"
MEDIA: Mapping[str, str] = {
    PARQUET: "Parquet",
    "application/vnd.apache.arrow.stream": "an Arrow stream",
    CSV: "CSV",
    NDJSON: "NDJSON",
}
MOST_COLUMNS = 600
_FUNCTION = "service.runs.reference_work:answer"
# Two to four times what the columns take was measured, beside 165 MB for the libraries.
_TIMES, _ASIDE = 6, 256 << 20
# 256 MiB of words took 43 seconds of a processor, of numbers 10.
_SECONDS_ASIDE, _SECONDS_A_MIB = 60, 1
# A busy machine has not a whole processor for it.
_WAITED = 2


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

    @property
    def memory(self) -> int:
        """Bytes that may be had to read it: no more than half of what there are at all."""
        needed = _ASIDE + _TIMES * self.size
        there = memory_limit()
        return needed if there is None else min(needed, there // 2)

    @property
    def seconds(self) -> int:
        """Seconds of a processor that reading it may take."""
        return _SECONDS_ASIDE + _SECONDS_A_MIB * (self.size >> 20)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on disk, and how its columns are to be read."""

    path: Path
    media: str
    names: Mapping[str, str]
    ignore: frozenset[str]
    limits: Limits = Limits()
    gzip: bool = False
    descriptors: Sequence[int] = ()
    """Of a file that has no name but ``/dev/fd``."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the process that reads has to know; ``edges`` are those of the model so far."""

    upload: Upload
    version: VersionSpec
    window: str
    timezone: str
    edges: bytes | None
    pseudonyms: Pseudonyms | None
    memory: int = 0


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


class OutOfMemoryError(TooLargeError):
    """The reference needs more memory than a process that reads one may have."""

    def __init__(self, memory: int, *, killed: bool = False) -> None:
        what = (
            "what read the reference was killed, as a rule for want of memory"
            if killed
            else f"reading the reference takes more than the {memory >> 20} MiB of memory for it"
        )
        super().__init__(
            f"{what}: send fewer rows or columns, or give the API more memory", limit=memory
        )


class ReferencesBusyError(BusyError):
    """Others are sent or read; that takes longer than rows do."""

    retry_after = 15

    def __init__(self) -> None:
        super().__init__("other references are being read; send this one again later")


class BadGzipError(BadRequestError):
    """The body is not gzip to its end."""

    code = "bad-gzip"
    title = "Bad gzip"

    def __init__(self) -> None:
        super().__init__("the body is not a complete gzip stream")


def read_apart(asked: Asked) -> Work:
    """Read and profile a reference, or raise what is wrong with it."""
    upload = asked.upload
    memory, seconds = upload.limits.memory, upload.limits.seconds
    job = Job(_FUNCTION, memory, processor=seconds, seconds=_WAITED * seconds)
    try:
        with closing(IsolatedProcess(job, upload.descriptors)) as process:
            answer = process.ask(pickle.dumps(replace(asked, memory=memory)))
    except (ProcessGrownError, ProcessKilledError) as error:
        killed = isinstance(error, ProcessKilledError)
        raise OutOfMemoryError(memory, killed=killed) from None
    except ProcessSlowError:
        message = "reading the reference takes too many seconds: send fewer rows or columns"
        raise TooLargeError(message, limit=seconds) from None
    except ProcessDiedError:
        raise MalformedReferenceError(upload.media) from None
    except ProcessLateError:
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
    if fault.code == BadGzipError.code:
        return BadGzipError()
    if fault.limit is not None:
        return TooLargeError(fault.detail, limit=fault.limit)
    return InvalidDocumentError(
        fault.detail, code=fault.code, title=fault.title, rejected=fault.rejected
    )


class ReferenceRoom:
    """One reference is read at a time: all that are sent together take no more than one does."""

    UPLOADS = 8
    WAITING = 4
    SECONDS = 10.0

    def __init__(self, limit: int) -> None:
        self.received = Room(limit)
        """Bytes of files that are coming."""
        self.uploads = threading.Semaphore(self.UPLOADS)
        """Files that are coming, however slowly, or wait to be read."""
        self.line = threading.Semaphore(1 + self.WAITING)
        """Who waits holds a thread of the API's."""
        self._place = threading.Lock()

    @contextmanager
    def upload(self) -> Iterator[Share]:
        """Take part in what is received, or be refused before anything is."""
        with _taken(self.uploads), self.received.share() as share:
            yield share

    @contextmanager
    def place(self) -> Iterator[None]:
        """Wait for the others for a while, or refuse."""
        with _taken(self.line):
            if not self._place.acquire(timeout=self.SECONDS):
                raise ReferencesBusyError
            try:
                yield
            finally:
                self._place.release()


@contextmanager
def _taken(places: threading.Semaphore) -> Iterator[None]:
    if not places.acquire(blocking=False):
        raise ReferencesBusyError
    try:
        yield
    finally:
        places.release()
