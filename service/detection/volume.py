"""How many rows a window should have, by what the same hours of earlier weeks had."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log1p, sqrt

from scipy.special import pdtr, stdtr

# Means of more weeks follow a change of the traffic too slowly.
MOST_WEEKS = 4
FEWEST_RESIDUALS = 7


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual: ``mean`` of log(1 + rows) over ``seasons`` earlier windows.

    ``variance`` is that of a single window beyond the chance of counting, and ``days`` over how
    many days it was learnt.
    """

    mean: float
    seasons: int
    variance: float
    days: float

    @property
    def rows(self) -> float:
        """Return how many rows are usual."""
        return exp(self.mean) - 1


def usual_rows(earlier: Sequence[int], *, lag: int, step: int, days: float) -> Usual | None:
    """Learn how many rows a window should have from those before it.

    With two seasons or more, windows are compared with the means of the same hours of up to four
    earlier weeks; the spread is that of earlier windows around theirs.  With one to two, all
    windows before are alike: the night is inside the spread then.

    Parameters
    ----------
    earlier
        Rows of the windows before, the newest first, one for each step of the calendar, windows
        without rows included.
    lag
        Steps in a season: a week, or the window itself where it is longer.
    step
        Steps in a window, 1 unless windows slide.
    days
        Length of the window.

    Returns
    -------
    Usual or None
        ``None`` with less than a season, or fewer than seven windows to learn the spread from.

    Examples
    --------
    >>> week = [100, 100, 100, 100, 100, 20, 20]
    >>> usual = usual_rows(week[::-1] * 3, lag=7, step=1, days=1.0)
    >>> round(usual.rows), usual.seasons, usual.variance
    (100, 3, 0.0)
    """
    values = [log1p(rows) for rows in earlier]
    if len(values) < lag:
        return None
    # A silence that goes on is no part of what is usual.
    silent = next((place for place, rows in enumerate(earlier) if rows), len(values))
    first = step - 1 + -(-silent // step) * step
    if len(values) < 2 * lag:
        own = values[first::step]
        if len(own) < FEWEST_RESIDUALS:
            return None
        mean = sum(own) / len(own)
        spread = _beyond_counting([(v - mean, mean, 0.0) for v in own])
        return Usual(mean, len(own), spread, _learnt(len(own) - 1, days))
    residuals = []
    for place in range(first, len(values) - lag, step):
        before = values[place + lag :: lag][:MOST_WEEKS]
        mean = sum(before) / len(before)
        residuals.append((values[place] - mean, mean, 1 / len(before)))
    if len(residuals) < FEWEST_RESIDUALS:
        return None
    before = values[lag - 1 :: lag][:MOST_WEEKS]
    mean = sum(before) / len(before)
    learnt = _learnt(len(residuals), days)
    return Usual(mean, len(before), _beyond_counting(residuals), learnt)


def _learnt(windows: int, days: float) -> float:
    """Return from how many days there is something to learn: hours of one rise and fall alike."""
    return max(windows * min(days, 1.0), 1.0)


def _beyond_counting(residuals: Sequence[tuple[float, float, float]]) -> float:
    """Return the variance of logarithms that is left when each count had its own Poisson's."""
    each = [residual**2 / (1 + share) - exp(-mean) for residual, mean, share in residuals]
    return max(sum(each) / len(each), 0.0)


def volume_tail(rows: int, usual: Usual) -> float:
    """Return how probable a window is that is as far from what is usual, either way.

    Parameters
    ----------
    rows
        Rows of the window.
    usual
        What is usual.

    Returns
    -------
    float
        In (0, 1]: Student's t of the logarithm, with the spread between windows and that of
        counting, on as many degrees of freedom as there are days to learn from.

    Examples
    --------
    >>> usual = Usual(log1p(1000), 4, 0.01, 28.0)
    >>> volume_tail(1000, usual)
    1.0
    >>> volume_tail(400, usual) < 1e-7
    True
    """
    variance = (usual.variance + exp(-usual.mean)) * (1 + 1 / usual.seasons)
    return float(2 * stdtr(usual.days, -abs(log1p(rows) - usual.mean) / sqrt(variance)))


def floor_tail(rows: int, floor: float) -> float:
    """Return how probable at most so many rows are where ``floor`` are expected: Poisson's law.

    Examples
    --------
    >>> round(floor_tail(0, 3.0), 6)
    0.049787
    """
    return float(pdtr(rows, floor)) if floor > 0 else 1.0
