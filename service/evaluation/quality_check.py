"""One check of the input with its p-value, before all checks of a window are judged together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.detection.calibration import pearson_x2
from service.detection.rare import fisher_tail
from service.detection.variability import measure_variability, variable_tail
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.multiplicity import sidak_adjust, sidak_level


@dataclass(frozen=True, slots=True)
class Check:
    """What was found, how probable it is by chance, and whether it is large enough to matter.

    ``reference_rows`` is -1 where no reference is needed.  ``beyond`` says that the effect matters,
    ``finding`` what an alert tells; ``reason`` why there can be no verdict.  A check that is not
    ``recorded`` is a test like any other, and found nothing that is worth a measurement.
    """

    metric: str
    subject: str | None
    method: str
    value: float | None
    rows: int
    reference_rows: int = -1
    reference_value: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    beyond: bool = False
    finding: str | None = None
    reason: str | None = None
    direction: Direction = Direction.HIGHER_IS_WORSE
    recorded: bool = True
    interval: tuple[float, float] | None = None


def ratio_check(
    metric: str,
    subject: str | None,
    method: str,
    counted: tuple[int, int],
    reference: tuple[int, float],
    tolerance: float,
) -> Check:
    """Return the check of a share of rows; ``reference`` is its rows and its own share.

    The share matters above the reference's by more than the tolerance; halfway to 1 where that
    overshoots.
    """
    count, rows = counted
    reference_rows, level = reference
    threshold = min(level + tolerance, (1 + level) / 2)
    value = count / rows if rows else None
    beyond = value is not None and value > threshold
    finding = None
    if value is not None:
        finding = f"{100 * value:.1f} % is beyond {100 * threshold:.1f} %"
    return Check(
        metric, subject, method, value, rows, reference_rows, level, threshold,
        beyond=beyond, finding=finding,
    )  # fmt: skip


def more_often(
    after: tuple[int, int], before: tuple[int, int], pieces: Sequence[tuple[int, int]]
) -> float:
    """Return the p-value of a count that is higher than the reference's own variability allows.

    Both windows are a count of all rows; pieces are counts and the other rows.
    """
    return max(fisher_tail(*after, *before), varying_tail(after, before, pieces))


def varying_tail(
    after: tuple[int, int], before: tuple[int, int], pieces: Sequence[tuple[int, int]]
) -> float:
    """Return the p-value under the reference's own variability, 0 where it has none."""
    variability = measure_variability(np.array(pieces, dtype=np.int64).reshape(-1, 2))
    if variability.rho <= 0:
        return 0.0
    table = np.array([[count, rows - count] for count, rows in (before, after)])
    return variable_tail(*pearson_x2(table), 1 / after[1] + 1 / before[1], variability)


def require(check: Check, min_rows: int, what: str) -> Check:
    """Name what is too little for a verdict, if anything is."""
    if check.reason is not None:
        return check
    if check.rows == 0:
        where = " of this column" if check.subject else ""
        return replace(check, reason=f"the window has no {what}{where}")
    if check.rows < min_rows:
        return replace(check, reason=f"the window has {check.rows} {what}, fewer than {min_rows}")
    if 0 <= check.reference_rows < min_rows:
        found = f"{check.reference_rows} {what}"
        return replace(check, reason=f"the reference has {found}, fewer than {min_rows}")
    return check


def measure_checks(checks: list[Check], alpha: float) -> list[Measurement]:
    """Judge all checks of a window under one error rate, and return those worth recording."""
    tests = sum(check.reason is None and check.p_value is not None for check in checks)
    return [_measure(check, tests, alpha) for check in checks if check.recorded]


def _measure(check: Check, tests: int, alpha: float) -> Measurement:
    verdict: Verdict | None = Verdict.INSUFFICIENT_DATA
    reason, p_value = check.reason, None
    if check.direction is Direction.INFORMATION:
        verdict = None
    if reason is None and check.value is not None and check.p_value is not None:
        p_value = sidak_adjust(check.p_value, tests)
        bad = check.beyond and check.p_value < sidak_level(alpha, tests)
        verdict = Verdict.ALERT if bad else Verdict.OK
        if bad:
            reason = check.finding
    low, high = check.interval or (None, None)
    return Measurement(
        metric=check.metric,
        subject=check.subject,
        value=check.value,
        ci_low=low,
        ci_high=high,
        n=check.rows,
        n_reference=max(check.reference_rows, 0),
        method=check.method,
        direction=check.direction,
        verdict=verdict,
        reference_value=check.reference_value,
        threshold=check.threshold,
        p_value=p_value,
        reason=reason,
    )
