"""How much memory there is, as the machine and its cgroups say, and how much a process has."""

import mmap
import os
from pathlib import Path

import pytest

from service.isolation.memory import memory_limit, own_memory

MACHINE = "MemTotal:       16777216 kB\nMemFree:         1000 kB\n"


def a_system(root: Path, cgroup: str, limits: dict[str, str]) -> Path:
    """Write what the kernel would show."""
    files = {"proc/meminfo": MACHINE, "proc/self/cgroup": cgroup}
    for name, content in (files | {f"sys/fs/cgroup/{k}": v for k, v in limits.items()}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected"),
    [
        ("0::/\n", {"memory.max": "1073741824\n"}, 1 << 30),
        ("0::/\n", {"memory.max": "max\n"}, 16 << 30),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "4096\n"}, 4096),
        # The path is the machine's, the tree the container's.
        ("0::/docker/1f\n", {"memory.max": "8192\n"}, 8192),
        ("4:memory:/d/1\n0::/\n", {"memory/d/1/memory.limit_in_bytes": "4096\n"}, 4096),
        ("4:cpu,memory:/d/1\n", {"cpu/x": "", "memory/memory.limit_in_bytes": "8192\n"}, 8192),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 16 << 30),
        ("1:cpu:/\n", {"memory.max": "1\n"}, 16 << 30),
    ],
)
def test_the_least_of_what_machine_and_groups_allow(
    tmp_path: Path, cgroup: str, limits: dict[str, str], expected: int
) -> None:
    assert memory_limit(a_system(tmp_path, cgroup, limits)) == expected


def test_where_nobody_says_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None


def test_memory_that_others_have_as_well_is_not_a_process_s_own() -> None:
    size = 64 << 20
    before = own_memory(os.getpid())
    with mmap.mmap(-1, size) as shared:
        shared.write(b"x" * size)
        assert own_memory(os.getpid()) < before + size // 2
