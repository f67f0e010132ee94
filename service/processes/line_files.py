"""Files of JSON documents a line: what they are, and the lines in parcels with their positions."""

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from service.processes.files import LINES, File, SourceError, readable

# In the beginning of the first line: what it is of.
_MARKS: Final = (
    (b'"captureData"', "sagemaker"),
    (b'"groundTruthData"', "sagemaker"),
    (b'"specversion"', "azure"),
    (b'"prediction_id"', "records"),
)
_HEAD_BYTES: Final = 65_536
_LONGEST_LINE: Final = 8 << 20
_PARCEL_BYTES: Final = 2 << 20
# Of SageMaker and of Azure: the hour of a file is in its path.
_FEATURES = re.compile(rb'"features"\s*:\s*\{')
_HOUR = re.compile(r"/(\d{4})/(\d\d)/(\d\d)/(\d\d)/")


@dataclass(frozen=True)
class Parcel:
    """Lines of one file, and the position after the last of them."""

    file: File
    lines: list[bytes]
    position: int


def detect(file: File) -> str:
    """Return ``sagemaker``, ``azure``, ``records`` (of our own) or ``table``."""
    if file.suffix not in LINES:
        return "table"
    with readable(file, "lines"), file.open() as opened:
        first = opened.readline(_HEAD_BYTES)
    form = next((form for mark, form in _MARKS if mark in first), "table")
    # A table may have a column of ids; features in an object of their own it has not.
    if form == "records" and not (_FEATURES.search(first) or b'"label_ts"' in first):
        return "table"
    return form


def head_of(file: File) -> str:
    """Return a digest of a file's beginning, by which it is known again when it has grown."""
    with readable(file, "lines"), file.open() as opened:
        return hashlib.blake2s(opened.read(4_096), digest_size=8).hexdigest()


def hour_of(file: File) -> str | None:
    """Return the hour that a file's path tells."""
    found = _HOUR.search(file.address)
    return None if found is None else f"{found[1]}-{found[2]}-{found[3]}T{found[4]}:00:00Z"


def parcels(file: File, start: int, most: int) -> Iterator[Parcel]:
    """Yield the lines after a position, at most so many at once and not too many bytes."""
    with readable(file, "lines"), file.open() as opened:
        opened.seek(start)
        position = start
        lines: list[bytes] = []
        size = 0
        while line := opened.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:
                message = f"{file.address} has a line of more than {_LONGEST_LINE} bytes"
                raise SourceError(message)
            position += len(line)
            if not line.isspace():
                lines.append(line.rstrip(b"\r\n"))
                size += len(line)
            if lines and (len(lines) == most or size >= _PARCEL_BYTES):
                yield Parcel(file, lines, position)
                lines, size = [], 0
        if lines:
            yield Parcel(file, lines, position)


def by_hour(files: list[File]) -> list[list[File]]:
    """Return files in groups that belong together: those of the same hour, or each alone.

    Azure logs inputs and outputs to folders of their own; sent one after the other, the first
    would wait for the second for longer than halves are kept.
    """
    groups: dict[str, list[File]] = {}
    for file in files:
        groups.setdefault(hour_of(file) or file.address, []).append(file)
    return [sorted(groups[key], key=_by_name) for key in sorted(groups)]


def _by_name(file: File) -> tuple[str, str]:
    return file.name, file.address


def in_turns(streams: list[Iterator[Parcel]]) -> Iterator[Parcel]:
    """Yield a parcel of each stream in turn, until all have ended."""
    waiting = deque(streams)
    while waiting:
        stream = waiting.popleft()
        parcel = next(stream, None)
        if parcel is not None:
            yield parcel
            waiting.append(stream)
