"""One number, and what is thought of it."""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

# Of fewer rows nothing is told: a category, a group or a slice that few have says who they are.
SMALLEST_GROUP = 20
SMALL_GROUP = "small_group"


class Verdict(StrEnum):
    """The three answers; too little data is never ``ok``."""

    OK = "ok"
    ALERT = "alert"
    INSUFFICIENT_DATA = "insufficient_data"


class Direction(StrEnum):
    """Which way a number gets worse."""

    HIGHER_IS_WORSE = "higher_is_worse"
    LOWER_IS_WORSE = "lower_is_worse"
    EITHER_IS_WORSE = "either_is_worse"
    INFORMATION = "information"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One number with its interval, counts, method, threshold and verdict.

    ``value`` is ``None`` only together with a ``reason``; a number that is recorded without being
    judged (a second instrument) has the verdict ``None``.  ``detectable_effect`` is the value from
    which on most windows of this size would have been an alert.  No field ever holds NaN or
    infinity.

    Raises
    ------
    ValueError
        If a number is not finite, or a missing value has no reason.
    """

    metric: str
    value: float | None
    n: int
    method: str
    direction: Direction
    verdict: Verdict | None
    subject: str | None = None
    slice: str | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n_eff: float | None = None
    n_reference: int | None = None
    engine: str = "profile"
    reference_value: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    detectable_effect: float | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        for name in (
            "value",
            "ci_low",
            "ci_high",
            "n_eff",
            "reference_value",
            "threshold",
            "p_value",
            "detectable_effect",
        ):
            number = getattr(self, name)
            if number is not None and not isfinite(number):
                message = f"{self.metric} of {self.subject}: {name} is not finite"
                raise ValueError(message)
        if self.value is None and self.reason is None:
            message = f"{self.metric} of {self.subject} has neither a value nor a reason"
            raise ValueError(message)


def unmeasured(
    metric: str,
    n: int,
    reason: str,
    *,
    method: str = "none",
    direction: Direction = Direction.HIGHER_IS_WORSE,
    subject: str | None = None,
    n_reference: int | None = None,
    engine: str = "profile",
) -> Measurement:
    """Return what stands for a number that cannot be told, or not be judged."""
    return Measurement(
        metric=metric,
        value=None,
        n=n,
        method=method,
        direction=direction,
        verdict=Verdict.INSUFFICIENT_DATA,
        subject=subject,
        n_reference=n_reference,
        engine=engine,
        reason=reason,
    )
