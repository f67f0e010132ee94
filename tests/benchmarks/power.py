"""How often a change is found, among 20 columns and with ``min_effect: 0`` (docs/figures.md).

    python -m tests.benchmarks.power [--windows 200]

Every window has a fresh reference.  Above 10,000 rows the counts are drawn directly.
"""

import argparse
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from scipy.special import ndtr

from service.evaluation.drift import judge_drift
from service.evaluation.drift_columns import DriftPolicy
from service.evaluation.measurement import Verdict
from service.evaluation.quality import QualityPolicy, judge_quality
from service.profiles.binning import NumericBins
from service.profiles.build import profile_features
from service.profiles.profile import FeatureProfile
from tests.benchmarks.false_alarms import (
    ALPHA,
    REFERENCE_ROWS,
    SHIFTED,
    TWENTY,
    Categories,
    Sources,
    a_reference,
    a_table,
    a_window,
    from_counts,
)

Window = Callable[[np.random.Generator], bool]
POLICY = DriftPolicy(alpha=ALPHA, min_effect=0.0)
RARE = "uniform_10"


def rare(share: float) -> Sources:
    """Return the twenty columns, one of them with a class of this share."""
    return {**TWENTY, RARE: Categories(np.array([1 - share, share]))}


def shifted(rows: int, sd: float, reference_rows: int) -> Window:
    """One column of twenty moved by ``sd``."""

    def found(rng: np.random.Generator) -> bool:
        reference = a_reference(rng, TWENTY, reference_rows)
        current = a_window(rng, TWENTY, reference, rows, sd)
        if rows > REFERENCE_ROWS * 2:
            current = moved(rng, reference.binning.columns[SHIFTED], current, rows, sd)
        judged = judge_drift(reference.binning, reference.profile, [], current, POLICY)
        return any(m.subject == SHIFTED and m.verdict is Verdict.ALERT for m in judged)

    return found


def moved(
    rng: np.random.Generator, bins: object, current: FeatureProfile, rows: int, sd: float
) -> FeatureProfile:
    """Draw the counts of the moved column again, from its moved normal distribution."""
    assert isinstance(bins, NumericBins)
    inner = np.diff(ndtr(bins.edges - sd), prepend=0.0, append=1.0)
    shares = np.concatenate((inner, np.zeros(len(bins.atoms))))
    counts = {name: column.counts for name, column in current.columns.items()}
    counts[SHIFTED] = rng.multinomial(rows, shares)
    return from_counts(counts)


def tripled(rows: int) -> Window:
    """A class of 1 % has 3 %."""

    def found(rng: np.random.Generator) -> bool:
        reference = a_reference(rng, rare(0.01), REFERENCE_ROWS)
        table = a_table(rng, rare(0.03), rows)
        current = profile_features(table, reference.columns, reference.binning)
        judged = judge_drift(reference.binning, reference.profile, [], current, POLICY)
        return any(m.subject == RARE and m.verdict is Verdict.ALERT for m in judged)

    return found


def missing(rows: int, share: float) -> Window:
    """One column of twenty has this share of nulls."""

    def found(rng: np.random.Generator) -> bool:
        reference = a_reference(rng, TWENTY, REFERENCE_ROWS)
        table = a_table(rng, TWENTY, rows)
        values = pa.array(table[SHIFTED].to_numpy(), mask=rng.random(rows) < share)
        table = table.set_column(table.column_names.index(SHIFTED), SHIFTED, values)
        current = profile_features(table, reference.columns, reference.binning)
        judged = judge_quality(
            reference.binning,
            reference.profile,
            [],
            current,
            QualityPolicy(alpha=ALPHA),
            columns=reference.columns,
        )
        return any(m.subject == SHIFTED and m.verdict is Verdict.ALERT for m in judged)

    return found


CASES: tuple[tuple[str, float, Window], ...] = (
    ("0.25 sd at n = 1,000", 0.8, shifted(1_000, 0.25, REFERENCE_ROWS)),
    ("0.05 sd at n = 100,000, reference of 100,000", 0.95, shifted(100_000, 0.05, 100_000)),
    ("a class of 1 % has 3 % at n = 1,000", 0.7, tripled(1_000)),
    ("a class of 1 % has 3 % at n = 10,000", 0.99, tripled(10_000)),
    ("40 % nulls at n = 100", 0.95, missing(100, 0.4)),
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--windows", type=int, default=200)
    windows = parser.parse_args().windows
    print(f"one of 20 columns, alpha {ALPHA:.0%}, {windows} windows, fresh references")
    print("| what | found | to reach |\n|---|---|---|")
    for name, reach, window in CASES:
        found = np.mean([window(np.random.default_rng(seed)) for seed in range(windows)])
        print(f"| {name} | {found:.1%} | {reach:.0%} |", flush=True)


if __name__ == "__main__":
    main()
