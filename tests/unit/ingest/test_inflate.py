"""Compressed bodies, by each coding that is read."""

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequestError, TooLargeError
from service.ingest.inflate import INFLATERS


def zstd(body: bytes) -> bytes:
    packed: bytes = pa.compress(body, codec="zstd", asbytes=True)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd}
CODINGS = st.sampled_from(sorted(INFLATERS))


def test_every_coding_is_tested() -> None:
    assert PACKERS.keys() == INFLATERS.keys()


@given(CODINGS, st.binary(min_size=1, max_size=300), st.integers(0, 300))
def test_inflating_gives_back_what_was_compressed_or_says_that_it_is_too_large(
    coding: str, body: bytes, limit: int
) -> None:
    compressed = PACKERS[coding](body)
    if len(body) > limit:
        with pytest.raises(TooLargeError):
            INFLATERS[coding](compressed, limit)
    else:
        assert INFLATERS[coding](compressed, limit) == body


@given(CODINGS, st.binary(min_size=1, max_size=200), st.binary(min_size=1, max_size=200))
def test_members_follow_each_other(coding: str, first: bytes, second: bytes) -> None:
    pack = PACKERS[coding]
    assert INFLATERS[coding](pack(first) + pack(second), 400) == first + second


@given(CODINGS, st.binary(min_size=1, max_size=100), st.data())
def test_what_ends_early_is_refused(coding: str, body: bytes, data: Any) -> None:
    compressed = PACKERS[coding](body)
    end = data.draw(st.integers(0, len(compressed) - 1))
    with pytest.raises(BadRequestError) as caught:
        INFLATERS[coding](compressed[:end], 1_000)
    assert caught.value.code == f"bad-{coding}"


@given(CODINGS, st.binary(max_size=300))
def test_noise_is_refused_and_nothing_else_happens(coding: str, noise: bytes) -> None:
    with pytest.raises((BadRequestError, TooLargeError)):
        INFLATERS[coding](noise, 1_000)


def test_endless_empty_members_are_refused() -> None:
    with pytest.raises(BadRequestError):
        INFLATERS["gzip"](gzip.compress(b"") * 100_000, 1_000)


@pytest.mark.parametrize("coding", sorted(INFLATERS))
def test_a_bomb_is_not_inflated_beyond_its_limit(
    coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    real = zlib.decompressobj

    def watched(window: int) -> Any:
        member = real(window)

        class Watched:
            eof = property(lambda _: member.eof)
            unused_data = property(lambda _: member.unused_data)

            def decompress(self, body: bytes, most: int) -> bytes:
                piece = member.decompress(body, most)
                sizes.append(len(piece))
                return piece

        return Watched()

    monkeypatch.setattr(zlib, "decompressobj", watched)
    before = pa.total_allocated_bytes()
    with pytest.raises(TooLargeError):
        INFLATERS[coding](PACKERS[coding](b" " * 10_000_000), 1_000)
    assert sum(sizes) == (1_001 if coding == "gzip" else 0)
    assert pa.total_allocated_bytes() - before < 1 << 20
