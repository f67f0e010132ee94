"""Incidents are a fold over the calendar: laws, then stories worked by hand."""

import random
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.evaluation.hysteresis import Rule, Span, State, fold

A, R, C, U = State.ALERT, State.RAISED, State.CALM, State.UNKNOWN
HISTORIES = st.dictionaries(st.integers(0, 25), st.sampled_from(State), max_size=26)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    n = draw(st.integers(1, 5))
    return Rule(
        draw(st.integers(1, n)), n, draw(st.integers(1, 3)), cooldown=draw(st.integers(0, 4))
    )


def story(*states: State) -> dict[int, State]:
    return dict(enumerate(states))


@given(HISTORIES, rules(), st.randoms())
def test_any_order_gives_the_same_incidents(
    states: Mapping[int, State], rule: Rule, randomness: random.Random
) -> None:
    shuffled = list(states.items())
    randomness.shuffle(shuffled)
    assert fold(dict(shuffled), rule) == fold(states, rule)


@given(HISTORIES, rules())
def test_there_is_one_incident_at_a_time(states: Mapping[int, State], rule: Rule) -> None:
    spans = fold(states, rule)
    for one, following in pairwise(spans):
        assert one.closed is not None
        assert one.closed < following.since <= following.opened
        assert following.opened - one.closed >= rule.cooldown
    assert not any(one.overlaps(other) for one in spans for other in spans if one is not other)


@given(HISTORIES, rules())
def test_an_incident_opens_on_k_of_n_and_closes_on_calm_windows_in_a_row(
    states: Mapping[int, State], rule: Rule
) -> None:
    for span in fold(states, rule):
        near = [
            at for at in range(span.opened - rule.n + 1, span.opened + 1) if states.get(at) is A
        ]
        assert len(near) >= rule.k
        assert states[span.opened] is states[span.since] is A
        if span.closed is not None:
            judged = [s for at, s in sorted(states.items()) if at <= span.closed and s is not U]
            assert judged[-rule.close_after :] == [C] * rule.close_after


@given(HISTORIES, rules(), st.integers(-1, 26))
def test_what_is_known_of_the_last_incident_stands_for_all_that_was_before(
    states: Mapping[int, State], rule: Rule, split: int
) -> None:
    whole = fold(states, rule)
    before = [
        Span(s.since, s.opened, s.closed if s.closed is not None and s.closed < split else None)
        for s in whole
        if s.opened < split
    ]
    if not before:
        lower = split - rule.n
        last = None
    else:
        last = before[-1]
        if last.closed is not None:
            lower = max(last.closed, split - rule.n)
        else:
            resets = [at for at, s in states.items() if last.opened <= at < split and s in (A, R)]
            lower = max(resets)
    rest = {at: state for at, state in states.items() if at > lower}
    assert before[:-1] + fold(rest, rule, last) == whole


@given(st.lists(st.sampled_from([A, R]), min_size=3), rules())
def test_a_value_that_swings_around_its_threshold_opens_at_most_one_incident(
    swings: list[State], rule: Rule
) -> None:
    assert len(fold(story(*swings), rule)) <= 1


@given(HISTORIES, rules(), st.integers(0, 25))
def test_a_window_that_could_not_be_judged_changes_nothing(
    states: Mapping[int, State], rule: Rule, at: int
) -> None:
    without = {position: state for position, state in states.items() if position != at}
    assert fold({**without, at: U}, rule) == fold(without, rule)


@pytest.mark.parametrize(
    ("states", "spans"),
    [
        ([A, C, C, A, C, C], []),
        ([A, A], [Span(0, 1)]),
        ([A, C, A], [Span(0, 2)]),
        ([A, C, U, A], []),
        ([A, A, C, R, C], [Span(0, 1)]),
        ([A, A, C, U, C], [Span(0, 1, 4)]),
        ([A, A, C, C, A], [Span(0, 1, 3)]),
        # What alerted before the end does not count for the next one.
        ([A, A, C, C, A, A], [Span(0, 1, 3), Span(4, 5)]),
    ],
)
def test_stories_by_hand(states: list[State], spans: list[Span]) -> None:
    assert fold(story(*states), Rule(2, 3, 2)) == spans


def test_within_the_cooldown_it_does_not_open_again_but_after_it_does() -> None:
    states = story(A, A, C, C, A, A, A, A)
    assert fold(states, Rule(2, 3, 2, cooldown=4)) == [Span(0, 1, 3), Span(5, 7)]


def test_what_somebody_closed_opens_again_if_it_goes_on() -> None:
    states = story(A, A, A, A, A, C)
    assert fold(states, Rule(2, 3, 2), ends={2}) == [Span(0, 1, 2), Span(3, 4)]
