"""How much memory a process has, and how much may be had: the machine's, or a container's."""

import resource
from collections.abc import Iterator
from pathlib import Path

_LIMITS = (("", "memory.max"), ("memory", "memory.limit_in_bytes"))
"""Of cgroups of version 2 and 1: where their tree is, and the file of a limit."""


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the bytes that there are for all processes; None where nobody says: not on Linux."""
    return min(_limits(root), default=None)


def own_memory(pid: int) -> int:
    """Return the bytes that a process shares with no other; 0 where nobody says, or it has gone."""
    for line in _lines(Path(f"/proc/{pid}/statm")):
        _, resident, shared, *_ = line.split()
        return (int(resident) - int(shared)) * resource.getpagesize()
    return 0


def _limits(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemTotal:"):
            yield int(line.split()[1]) << 10
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        for tree, name in _LIMITS:
            if tree in controllers.split(","):
                yield from _of_group(root / "sys/fs/cgroup" / tree, path.strip("/"), name)


def _of_group(tree: Path, path: str, name: str) -> Iterator[int]:
    """Yield the limits of a group and of those around it.

    A container may see its own group as the root of the tree, and the path as the machine has it.
    """
    for group in (path, *map(str, Path(path).parents)):
        for line in _lines(tree / group / name):
            if line.isdecimal():
                yield int(line)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
