"""What is known of the traffic of a window beside the rows that were stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Earlier:
    """Rows of the windows before, the newest first, one for each step of the calendar.

    ``lag`` is how many steps make a season, ``step`` how many a window; ``hours`` is its length.
    ``last`` says when the last row came, where the window has none.
    """

    rows: tuple[int, ...]
    lag: int
    step: int
    hours: float
    last: str | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """What ingest counted while the rows of a window came, and how many came before.

    ``type_errors`` are rows that lost a feature by its name, ``rejected`` rows that were not stored
    by code, ``unknown_features`` rows that were not stored by the name that the schema lacks, and
    under no name those of too many others.
    """

    type_errors: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    unknown_features: Mapping[str, int] = field(default_factory=dict)
    earlier: Earlier | None = None


NO_TRAFFIC = Traffic()
