"""How far an import has come, in a small file that only grows.

It saves work and no more: every id is told by the content, so what is sent twice is stored once.
A line is written after the answer to what it speaks of; one that was torn by a crash is left out.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TextIO


class Checkpoint:
    """The positions in the files of one import."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._known: dict[str, tuple[str, int]] = {}

    def __enter__(self) -> Self:
        """Read what is there, and open it for more."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            for line in self._path.read_text(errors="replace").splitlines():
                try:
                    address, fingerprint, position = json.loads(line)
                    self._known[str(address)] = (str(fingerprint), int(position))
                except (ValueError, TypeError):
                    continue
        self._file = self._path.open("a")
        # A torn line before it must not take the next one with it.
        self._file.write("\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close it; after an import that came to its end nothing is left to remember."""
        assert self._file is not None
        self._file.close()
        if kind is None:
            self._path.unlink(missing_ok=True)

    def position(self, address: str, fingerprint: str) -> int:
        """Return how far a file was sent; 0 if it is not the file that was sent."""
        known, position = self._known.get(address, ("", 0))
        return position if known == fingerprint else 0

    def save(self, address: str, fingerprint: str, position: int) -> None:
        """Remember that everything before a position is committed."""
        assert self._file is not None
        self._file.write(json.dumps([address, fingerprint, position]) + "\n")
        self._file.flush()


def default_path(folder: Path, identity: Sequence[str]) -> Path:
    """Return where the same import finds its checkpoint again."""
    name = hashlib.blake2s("\0".join(identity).encode(), digest_size=8).hexdigest()
    return folder / "imports" / f"{name}.jsonl"
