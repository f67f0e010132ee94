"""One bad window may be chance: a request waits until k of n say the same."""

from collections.abc import Collection


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
