"""One bad window may be chance: an incident and a request wait until k of n say the same."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class State(StrEnum):
    """What one window says about one cause.

    ``RAISED`` is no alert, but not back below the closing level either; ``UNKNOWN`` is too little
    data, which neither opens nor closes anything.
    """

    ALERT = "alert"
    RAISED = "raised"
    CALM = "calm"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Rule:
    """When an incident opens and closes, in windows.

    It opens once ``k`` of the last ``n`` windows alert, closes once ``close_after`` windows in a
    row that could be judged are calm, and does not open again less than ``cooldown`` windows later.
    """

    k: int = 2
    n: int = 3
    close_after: int = 2
    cooldown: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """An incident in positions of the calendar; ``closed`` is ``None`` while it is open.

    It alerts from ``since`` on, was confirmed by the window ``opened``, and ``closed`` is the last
    window that it took to close it.
    """

    since: int
    opened: int
    closed: int | None = None

    def overlaps(self, other: "Span") -> bool:
        """Say whether two spans have a window in common."""
        return (other.closed is None or self.opened <= other.closed) and (
            self.closed is None or other.opened <= self.closed
        )


def fold(
    states: Mapping[int, State],
    rule: Rule,
    last: Span | None = None,
    ends: Collection[int] = (),
) -> list[Span]:
    """Return the incidents of one cause.

    A fold over the calendar, so it comes out the same in whatever order windows were judged.

    Parameters
    ----------
    states
        What is known of each window, by its position in the calendar.
    rule
        When an incident opens and closes.
    last
        The incident before the windows of ``states``, if there was any.  It stands for all that
        was before: if it is open, the windows after it opened are enough (or those from its newest
        that was not calm on); if it is closed, those after it closed.
    ends
        Positions at which somebody closed the incident that was open.

    Returns
    -------
    list of Span
        In order of time, ``last`` first; at most the last one is open.

    Examples
    --------
    >>> states = dict(enumerate([State.ALERT, State.CALM, State.ALERT, State.RAISED, State.ALERT]))
    >>> fold(states, Rule())
    [Span(since=0, opened=2, closed=None)]
    >>> fold(states | {5: State.CALM, 6: State.UNKNOWN, 7: State.CALM}, Rule())
    [Span(since=0, opened=2, closed=7)]
    """
    spans = [] if last is None else [last]
    alerts: list[int] = []
    calm = 0
    for at in sorted(states):
        state = states[at]
        if spans and spans[-1].closed is None:
            if state is not State.UNKNOWN:
                calm = calm + 1 if state is State.CALM else 0
            if calm >= rule.close_after or at in ends:
                spans[-1] = replace(spans[-1], closed=at)
                alerts = []
        elif state is State.ALERT:
            alerts = [position for position in alerts if position > at - rule.n] + [at]
            if len(alerts) >= rule.k and _cooled_down(spans, at, rule):
                spans.append(Span(alerts[0], at))
                calm = 0
    return spans


def _cooled_down(spans: list[Span], at: int, rule: Rule) -> bool:
    closed = spans[-1].closed if spans else None
    return closed is None or at - closed >= rule.cooldown


def confirmed(bad: Collection[int], at: int, k: int, n: int) -> list[int]:
    """Return the bad windows that stand with the one at ``at`` for the same trouble.

    A fold over the calendar, so it comes out the same in whatever order windows were judged; a
    window without rows is not bad.

    Parameters
    ----------
    bad
        Positions in the calendar of the windows that are bad.
    at
        Position of the window that was just judged.
    k, n
        How many of how many successive windows have to be bad, ``1 <= k <= n``.

    Returns
    -------
    list of int
        The positions, ascending, of the bad windows in the spans of ``n`` successive windows that
        hold ``at`` and at least ``k`` bad ones; empty if there is no such span or the window
        itself is not bad.

    Examples
    --------
    >>> confirmed({1, 3}, 3, k=2, n=3)
    [1, 3]
    >>> confirmed({0, 3}, 3, k=2, n=3)
    []
    """
    if at not in bad:
        return []
    found: set[int] = set()
    for first in range(at - n + 1, at + 1):
        span = [position for position in range(first, first + n) if position in bad]
        if len(span) >= k:
            found.update(span)
    return sorted(found)
