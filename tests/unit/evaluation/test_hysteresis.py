"""k of n successive windows, however they came."""

from hypothesis import given
from hypothesis import strategies as st

from service.evaluation.hysteresis import confirmed

POSITIONS = st.sets(st.integers(0, 15))


@given(POSITIONS, st.integers(0, 15), st.data())
def test_what_is_confirmed_is_bad_and_near(bad: set[int], at: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 5))
    k = data.draw(st.integers(1, n))
    found = confirmed(bad, at, k, n)
    assert all(position in bad and abs(position - at) < n for position in found)
    assert not found or at in found


@given(POSITIONS, st.integers(1, 5), st.data())
def test_all_windows_together_confirm_the_spans_with_enough(
    bad: set[int], n: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, n))
    together = {position for at in bad for position in confirmed(bad, at, k, n)}
    spans = [set(range(first, first + n)) & bad for first in range(-n, 16)]
    wanted = {position for span in spans if len(span) >= k for position in span}
    assert together == wanted


def test_one_of_one_is_the_window_itself() -> None:
    assert confirmed({0, 1}, 1, 1, 1) == [1]
