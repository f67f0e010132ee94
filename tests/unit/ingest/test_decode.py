"""Bodies to records."""

import json
from typing import Any

import pytest

from service.errors import BadRequestError, UnsupportedTypeError
from service.ingest.decode import (
    content_coding,
    load_record,
    read_envelope,
    read_lines,
)
from service.ingest.verdicts import RowError


@pytest.mark.parametrize("value", ["br", "zstd, gzip", "gzip, gzip", "deflate", "gzip;q=1"])
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


@pytest.mark.parametrize("sign", ["", "-"])
def test_an_integer_that_no_double_holds_is_no_number(sign: Any) -> None:
    assert load_record(f'{{"a":[{sign}{10**308}]}}'.encode(), 0)
    with pytest.raises(RowError) as caught:
        load_record(f'{{"a":[{sign}{10**309}]}}'.encode(), 0)
    assert caught.value.code == "malformed-json"


def test_a_document_nests_eight_levels_and_not_nine() -> None:
    for above in (0, 2):
        assert load_record(nested(8 - above).encode(), above) is not None
        with pytest.raises(RowError):
            load_record(nested(9 - above).encode(), above)
    assert load_record(json.dumps({"a": [{"b": [1]}]}).encode(), 4) == {"a": [{"b": [1]}]}
