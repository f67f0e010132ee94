"""Keys as text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.tokens import digest_of, kid_of, new_token

ONE = new_token("live")


def test_a_key_has_the_form_that_scanners_look_for() -> None:
    assert re.fullmatch(r"mw_live_[0-9a-f]{16}_[0-9A-Za-z]{49}", ONE.text)
    assert kid_of(ONE.text.encode()) == ONE.kid
    assert digest_of(ONE.text.encode()) == ONE.digest


def test_no_two_keys_are_alike() -> None:
    made = [new_token("test") for _ in range(200)]
    assert len({token.text for token in made}) == len({token.kid for token in made}) == 200


@given(st.integers(0, len(ONE.text) - 1), st.characters(codec="ascii"))
def test_a_mistyped_key_is_told_by_its_checksum(place: int, wrong: str) -> None:
    text = ONE.text[:place] + wrong + ONE.text[place + 1 :]
    assert (kid_of(text.encode()) is None) is (text != ONE.text)


@given(st.binary(max_size=200))
def test_anything_else_is_no_key(text: bytes) -> None:
    assert kid_of(text) is None


@pytest.mark.parametrize(
    "text",
    [ONE.text + "\n", " " + ONE.text, ONE.text[:-1], ONE.text * 2],
    ids=["line", "space", "short", "twice"],
)
def test_a_key_stands_alone(text: str) -> None:
    assert kid_of(text.encode()) is None
