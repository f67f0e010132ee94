"""How often Evidently's tests call equal windows drifted, at their own thresholds.

``python -m tests.benchmarks.fixed_thresholds [--windows 200]`` draws reference and window from one
distribution: six even categories, or normal numbers.
"""

import argparse
import warnings
from typing import Any

import numpy as np
import pandas as pd

SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=200)
    windows = parser.parse_args().windows
    warnings.simplefilter("ignore")
    from evidently.legacy.calculations.stattests import (
        chi_stat_test,
        jensenshannon_stat_test,
        psi_stat_test,
        wasserstein_stat_test,
    )
    from evidently.legacy.core import ColumnType

    rng = np.random.default_rng(SEED)

    def classes(rows: int) -> Any:
        return pd.Series(rng.choice(list("abcdef"), rows))

    def numbers(rows: int) -> Any:
        return pd.Series(rng.normal(size=rows))

    def told(test: Any, kind: Any, draw: Any, reference: int, rows: int) -> None:
        limit = test.default_threshold
        found = [test.func(draw(reference), draw(rows), kind, limit)[1] for _ in range(windows)]
        print(f"{test.name} at {limit}, {reference} against {rows} rows: {np.mean(found):.1%}")

    for rows in (100, 1_000, 5_000):
        told(chi_stat_test, ColumnType.Categorical, classes, 1_000, rows)
    for test in (wasserstein_stat_test, jensenshannon_stat_test, psi_stat_test):
        for rows in (100, 1_000):
            told(test, ColumnType.Numerical, numbers, 10_000, rows)


if __name__ == "__main__":
    main()
