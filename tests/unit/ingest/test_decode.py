"""Bodies to records."""

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequestError, TooLargeError, UnsupportedTypeError
from service.ingest.decode import (
    content_coding,
    inflate,
    load_record,
    read_envelope,
    read_lines,
)
from service.ingest.verdicts import RowError


@given(st.binary(max_size=300), st.integers(0, 300))
def test_inflating_gives_back_what_was_compressed_or_says_that_it_is_too_large(
    body: Any, limit: Any
) -> None:
    compressed = gzip.compress(body)
    if len(body) > limit:
        with pytest.raises(TooLargeError):
            inflate(compressed, limit)
    else:
        assert inflate(compressed, limit) == body


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_members_of_gzip_follow_each_other(first: Any, second: Any) -> None:
    assert inflate(gzip.compress(first) + gzip.compress(second), 400) == first + second


@given(st.binary(min_size=1, max_size=100), st.data())
def test_gzip_that_ends_early_is_refused(body: Any, data: Any) -> None:
    compressed = gzip.compress(body)
    end = data.draw(st.integers(0, len(compressed) - 1))
    with pytest.raises(BadRequestError):
        inflate(compressed[:end], 1_000)


def test_endless_empty_members_are_refused() -> None:
    with pytest.raises(BadRequestError):
        inflate(gzip.compress(b"") * 100_000, 1_000)


def test_a_bomb_is_not_inflated_beyond_its_limit(monkeypatch: Any) -> None:
    sizes = []
    real = zlib.decompressobj

    def watched(window: Any) -> Any:
        member = real(window)

        class Watched:
            eof = property(lambda _: member.eof)
            unused_data = property(lambda _: member.unused_data)

            def decompress(self, body: Any, most: Any) -> Any:
                piece = member.decompress(body, most)
                sizes.append(len(piece))
                return piece

        return Watched()

    monkeypatch.setattr(zlib, "decompressobj", watched)
    with pytest.raises(TooLargeError):
        inflate(gzip.compress(b" " * 10_000_000), 1_000)
    assert sum(sizes) == 1_001


@pytest.mark.parametrize("value", ["br", "zstd", "gzip, gzip", "deflate", "gzip;q=1"])
def test_other_codings_are_refused(value: Any) -> None:
    with pytest.raises(UnsupportedTypeError):
        content_coding(value)


def test_a_syntax_error_wins_over_a_wrong_shape() -> None:
    for body in (b'{"other": 1', b"[1, 2"):
        with pytest.raises(BadRequestError) as caught:
            read_envelope(body)
        assert caught.value.code == "malformed-json"


def test_blank_lines_do_not_count() -> None:
    assert read_lines(b"1\n\n \r\n2\r\n3") == [b"1", b"2\r", b"3"]


def nested(levels: Any) -> Any:
    return "[" * levels + "]" * levels


def test_a_document_nests_eight_levels_and_not_nine() -> None:
    for above in (0, 2):
        assert load_record(nested(8 - above).encode(), above) is not None
        with pytest.raises(RowError):
            load_record(nested(9 - above).encode(), above)
    assert load_record(json.dumps({"a": [{"b": [1]}]}).encode(), 4) == {"a": [{"b": [1]}]}
