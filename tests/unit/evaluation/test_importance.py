"""Importance scales what is worth an alarm, and tells what the model hardly uses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.evaluation.importance import ALIKE, Importance

VALUES = st.dictionaries(st.text(max_size=3), st.floats(0, 1e6), max_size=8)


@given(VALUES, st.text(max_size=3))
def test_weights_average_one_and_scales_are_bounded(values: dict[str, float], other: str) -> None:
    importance = Importance(values)
    names = [*values, other]
    assert all(0.5 <= importance.scale(name) <= 2 for name in names)
    assert all(importance.weight(name) >= 0 for name in names)
    if sum(values.values()) > 0:
        mean = sum(importance.weight(name) for name in values) / len(values)
        assert mean == pytest.approx(1)
    if other not in values:
        assert importance.weight(other) == importance.scale(other) == 1


@given(VALUES, st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(values: dict[str, float], unit: float) -> None:
    scaled = Importance({name: value * unit for name, value in values.items()})
    for name in values:
        if Importance(values).weight(name) > 1e-9:
            assert scaled.weight(name) == pytest.approx(Importance(values).weight(name))


def test_where_nothing_is_known_all_count_alike() -> None:
    for importance in (ALIKE, Importance({"a": 0.0, "b": 0.0})):
        assert importance.weight("a") == importance.scale("a") == 1
        assert not importance.is_negligible("a")


def test_what_is_negligible_by_hand() -> None:
    importance = Importance({"income": 0.7, "age": 0.291, "row_hash": 0.009})
    assert importance.is_negligible("row_hash")
    assert not importance.is_negligible("age")
    assert not importance.is_negligible("unknown")
    # Each of two hundred has 0.5 %, and is like any other.
    equal = Importance({str(number): 1.0 for number in range(200)})
    assert not equal.is_negligible("7")


def test_a_derived_column_is_as_important_as_its_feature() -> None:
    importance = Importance({"signup": 3.0, "age": 1.0}, {"signup.hour": "signup"})
    assert importance.weight("signup.hour") == 1.5
    assert importance.scale("signup.hour") == pytest.approx(2 / 3)
