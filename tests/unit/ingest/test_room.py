"""How many bytes of requests a process holds."""

import pytest

from service.ingest import service
from service.ingest.service import bytes_in_flight
from service.settings import Settings

MIB = 1 << 20


@pytest.mark.parametrize(
    ("memory", "setting", "expected"),
    [
        (None, 256, 256),
        (24 << 10, 256, 256),
        (1 << 10, 256, 64),
        (1 << 10, 32, 32),
        # A request of 8 MiB that inflates to 32 has room in the smallest container.
        (256, 256, 40),
    ],
)
def test_bodies_take_the_sixteenth_part_of_the_memory_at_most(
    monkeypatch: pytest.MonkeyPatch, memory: int | None, setting: int, expected: int
) -> None:
    there = None if memory is None else memory * MIB
    monkeypatch.setattr(service, "memory_limit", lambda: there)
    assert bytes_in_flight(Settings(max_bytes_in_flight=setting * MIB)) == expected * MIB
