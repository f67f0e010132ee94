"""Files wherever they are: beside the command, or in object storage through fsspec."""

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, cast

from service.errors import ModelwatchSetupError

TABLES: Final = frozenset({".parquet", ".pq", ".csv"})
LINES: Final = frozenset({".jsonl", ".ndjson", ".json"})
_BLOCK: Final = 4 << 20


class SourceError(ModelwatchSetupError):
    """A file cannot be read as it was asked for."""


@dataclass(frozen=True)
class File:
    """One file; its address is what people call it."""

    address: str
    size: int
    opener: Callable[[], BinaryIO]

    @property
    def name(self) -> str:
        """The last part of the address."""
        return PurePosixPath(self.address).name

    @property
    def suffix(self) -> str:
        """What the file is, compressed or not."""
        name = PurePosixPath(self.name.lower().removesuffix(".gz").partition("?")[0])
        return name.suffix

    @property
    def compressed(self) -> bool:
        """Whether it is gzip of what its suffix says."""
        return self.name.lower().endswith(".gz")

    def open(self) -> BinaryIO:
        """Open its bytes, decompressed."""
        raw = self.opener()
        return cast("BinaryIO", _Inflated(raw)) if self.compressed else raw


class _Inflated(gzip.GzipFile):
    """What is in gzip; closing it closes the file below."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__(fileobj=raw)
        self._raw = raw

    def close(self) -> None:
        super().close()
        self._raw.close()


def local_file(path: Path) -> File:
    """Return a file of this machine."""
    return File(str(path), path.stat().st_size, lambda: path.open("rb"))


def find_files(address: str) -> list[File]:
    """Return the file at an address, or those below it that can be read, in order.

    Raises
    ------
    SourceError
        If there is nothing, or what reads such addresses is not installed.
    """
    if "://" not in address:
        found = _local(Path(address))
    else:
        try:
            found = _remote(address)
        except ImportError as fault:
            message = f"{address}: install what reads it: {fault}"
            raise SourceError(message) from None
        except (OSError, ValueError) as fault:
            message = f"{address} cannot be read: {fault or type(fault).__name__}"
            raise SourceError(message) from None
    if not found:
        message = f"{address} has no file of Parquet, CSV or JSON lines"
        raise SourceError(message)
    return found


def _local(path: Path) -> list[File]:
    if path.is_dir():
        below = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
        return sorted((f for f in map(local_file, below) if _is_known(f)), key=_by_address)
    if not path.is_file():
        message = f"{path} does not exist"
        raise SourceError(message)
    return [local_file(path)]


def _remote(address: str) -> list[File]:
    import fsspec  # noqa: PLC0415 - takes 0.15 s, and only addresses need it

    system, path = fsspec.core.url_to_fs(address)
    scheme = address.partition("://")[0]
    if system.isfile(path):
        return [_remote_file(system, path, address)]
    found = [
        _remote_file(system, own, own if "://" in own else f"{scheme}://{own.lstrip('/')}")
        for own in system.find(path)
    ]
    return sorted(filter(_is_known, found), key=_by_address)


def _remote_file(system: Any, path: str, address: str) -> File:
    size = system.size(path)
    if size is None:
        message = "the server does not say how large it is"
        raise OSError(message)
    return File(address, size, lambda: system.open(path, "rb", block_size=_BLOCK))


def _is_known(file: File) -> bool:
    hidden = file.name.startswith((".", "_"))
    return file.suffix in TABLES | LINES and file.size > 0 and not hidden


def _by_address(file: File) -> str:
    return file.address
