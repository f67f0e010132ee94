"""Checks of how many rows a window has: against its owner's floor, and against what is usual."""

from dataclasses import replace

from service.detection.volume import MOST_WEEKS, floor_tail, usual_rows, volume_tail
from service.evaluation.measurement import Direction
from service.evaluation.quality_check import Check
from service.evaluation.traffic import Earlier

# Under half of what is usual, or over twice as much.
LEAST_CHANGE = 0.5
# Of fewer rows nothing can be told from chance.
FEWEST_USUAL = 30
HOURS_A_DAY = 24


def check_volume(rows: int, earlier: Earlier | None, floor: float | None) -> list[Check]:
    """Check the rows of a window; of two checks only the one that says more is recorded.

    More rows than usual are an alert only where four seasons have been seen: versions are rolled
    out step by step.
    """
    count = Check(
        "rows", None, "count", float(rows), rows, direction=Direction.INFORMATION, p_value=None
    )
    if earlier is None:
        return [count]
    usual = replace(_check_usual(rows, earlier), direction=Direction.LOWER_IS_WORSE)
    if floor is None:
        return [usual]
    expected = floor * earlier.hours
    floored = replace(
        usual, method="poisson", reference_value=None, threshold=expected, reason=None,
        p_value=floor_tail(rows, expected), beyond=rows < expected,
        finding=f"{rows} rows, fewer than the floor of {expected:,.0f}",
    )  # fmt: skip
    told = floored.beyond or usual.reason is not None
    return [replace(floored, recorded=told), replace(usual, recorded=not told)]


def _check_usual(rows: int, earlier: Earlier) -> Check:
    check = Check("rows", None, "seasonal", float(rows), rows)
    usual = usual_rows(
        earlier.rows, lag=earlier.lag, step=earlier.step, days=earlier.hours / HOURS_A_DAY
    )
    if usual is None:
        return replace(check, reason="there are too few earlier windows to know what is usual")
    if usual.rows < FEWEST_USUAL:
        few = f"only {usual.rows:.0f} rows are usual at this time"
        return replace(check, reference_value=usual.rows, reason=few)
    seen = len(earlier.rows) >= MOST_WEEKS * earlier.lag
    least, most = usual.rows * LEAST_CHANGE, usual.rows / LEAST_CHANGE
    finding = f"{rows:,} rows where {usual.rows:,.0f} are usual"
    if rows == 0:
        since = f" since {earlier.last}" if earlier.last else ""
        finding = f"no traffic{since}, where {usual.rows:,.0f} rows are usual"
    return replace(
        check, reference_value=usual.rows, threshold=least if rows <= usual.rows else most,
        p_value=volume_tail(rows, usual), beyond=rows < least or (seen and rows > most),
        finding=finding,
    )  # fmt: skip
