"""Files wherever they are: beside the command, or in object storage through fsspec."""

import gzip
import os
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, cast

from service.errors import ModelwatchSetupError

TABLES: Final = frozenset({".parquet", ".pq", ".csv"})
LINES: Final = frozenset({".jsonl", ".ndjson", ".json"})
_BLOCK: Final = 4 << 20
# What files that are not what they are called raise, in whichever library.
_OF_CONTENT: Final = (OSError, ValueError, TypeError, LookupError, NotImplementedError)


class SourceError(ModelwatchSetupError):
    """A file cannot be read as it was asked for."""


@dataclass(frozen=True)
class File:
    """One file; its address is what people call it."""

    address: str
    size: int
    opener: Callable[[], BinaryIO]
    path: Path | None = None
    """Where it is, if it is on this machine."""

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
    return File(str(path), path.stat().st_size, lambda: path.open("rb"), path)


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
    import fsspec

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
    return File(address, size, _Remote(system, path, size))


class _Remote:
    """Opens a remote file, or a copy of it where the server gives no parts of files."""

    def __init__(self, system: Any, path: str, size: int) -> None:
        self._system = system
        self._path = path
        self._size = size
        self._copy: Path | None = None
        self._gives_parts = False

    def __call__(self) -> BinaryIO:
        """Open it for reading from anywhere."""
        if self._copy is None:
            opened: BinaryIO = self._system.open(self._path, "rb", block_size=_BLOCK)
            if self._gives_parts or self._try_parts(opened):
                return opened
            opened.close()
            self._copy = self._copied()
        return self._copy.open("rb")

    def _try_parts(self, opened: BinaryIO) -> bool:
        try:
            opened.seek(max(0, self._size - 1))
            opened.read(1)
            opened.seek(0)
        except (OSError, ValueError):
            return False
        self._gives_parts = True
        return True

    def _copied(self) -> Path:
        number, name = tempfile.mkstemp(prefix="modelwatch-import-")
        os.close(number)
        copy = Path(name)
        weakref.finalize(self, copy.unlink, missing_ok=True)
        self._system.get_file(self._path, name)
        return copy


class readable:  # noqa: N801 - reads as a verb in `with`
    """Turn what libraries and file systems say into one line that names the file."""

    def __init__(self, file: File, kind: str) -> None:
        self._file = file
        self._kind = kind

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, fault: BaseException | None, _trace: object) -> None:
        if not isinstance(fault, Exception) or isinstance(fault, ModelwatchSetupError):
            return
        # What the libraries of object storage raise has no class in common.
        if "://" in self._file.address or isinstance(fault, _OF_CONTENT):
            cause = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
            message = f"{self._file.address} cannot be read as {self._kind}: {cause}"
            raise SourceError(message) from fault


def _is_known(file: File) -> bool:
    hidden = file.name.startswith((".", "_"))
    return file.suffix in TABLES | LINES and file.size > 0 and not hidden


def _by_address(file: File) -> str:
    return file.address
