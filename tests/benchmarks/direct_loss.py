"""How often the estimated errors of a regression alert without a change, and where rows got harder.

    python -m tests.benchmarks.direct_loss [--windows 150] [--population even | growing]

Every window has a fresh reference of 5,000 rows with its own models; the sizes share it.  ``even``
errors are normal and alike, ``growing`` ones lognormal and a share of the prediction that depends
on features.  In harder rows what the errors grow with has moved by half a standard deviation.
Features have few distinct values, so that rows of a kind need one prediction.
"""

import argparse
from collections import Counter
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from service.detection import expected_loss
from service.detection.direct_loss import predict_losses
from service.evaluation.direct_loss import Fitted, judge_direct_loss
from service.evaluation.measurement import Measurement, Verdict
from service.evaluation.performance import PerformancePolicy
from service.profiles.columns import Column, Kind
from service.profiles.profile import Floats

ALPHA = 0.01
REFERENCE_ROWS = 5_000
SIZES = (100, 1_000, 10_000, 100_000)
METRICS = ("mae", "rmse", "rmsle", "mape")
HARDER, HARDER_ROWS = 0.5, 1_000
COLUMNS = (
    Column("size", Kind.NUMERIC),
    Column("place", Kind.CATEGORICAL),
    Column("other", Kind.NUMERIC),
)
POPULATIONS = ("even", "growing")


def once(model: Any, inputs: Floats) -> Floats:
    """Predict the loss of each kind of rows once."""
    # Any direction tells the kinds apart.
    _, first, kind = np.unique(
        inputs @ np.sqrt([2.0, 3.0, 5.0, 7.0]), return_index=True, return_inverse=True
    )
    return predict_losses(model, inputs[first])[kind]


def draw(rng: np.random.Generator, n: int, population: str, moved: float = 0.0) -> pa.Table:
    """Draw rows with their labels, all of them positive."""
    size = np.rint(4 * rng.normal(moved, 1, n)) / 4
    place = rng.choice(["x", "y", "z"], n)
    predicted = 500 + 50 * size
    error = rng.normal(0, 20, n) * (1.0 if population == "even" else 0.0)
    label = (predicted + error).clip(1.0)
    if population == "growing":
        spread = 0.05 * np.exp(0.3 * size) * np.where(place == "z", 2.0, 1.0)
        label = predicted * np.exp(spread * rng.normal(size=n))
    columns = {"size": size, "place": place, "other": rng.integers(0, 5, n) * 1.0}
    return pa.table({**columns, "prediction": predicted, "label": label})


def judge_windows(seed: int, population: str) -> Counter[tuple[str, int]]:
    """Judge a window of each size against one fresh reference, and count the alerts."""
    rng, fitted = np.random.default_rng(seed), Fitted()
    reference = draw(rng, REFERENCE_ROWS, population)
    policy = PerformancePolicy(alpha=ALPHA, tolerance=0.0, metrics=METRICS)

    def judge(rows: pa.Table) -> list[Measurement]:
        return judge_direct_loss(reference, rows, COLUMNS, policy, fitted)

    found: Counter[tuple[str, int]] = Counter()
    for n in SIZES:
        judged = judge(draw(rng, n, population))
        found["any", n] += any(m.verdict is Verdict.ALERT for m in judged)
        for m in judged:
            # Without the adjustment for the others.
            assert m.p_value is not None
            alone = 1 - (1 - m.p_value) ** (1 / len(judged))
            found[m.metric.removeprefix("estimated_"), n] += alone < ALPHA
    harder = judge(draw(rng, HARDER_ROWS, population, HARDER))
    found["harder", HARDER_ROWS] += any(m.verdict is Verdict.ALERT for m in harder)
    return found


def main() -> None:
    """Print a table for each population."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--windows", type=int, default=150)
    parser.add_argument("--population", action="append", choices=POPULATIONS)
    options = parser.parse_args()
    print(f"alpha {ALPHA:.0%}, {options.windows} windows, fresh references of {REFERENCE_ROWS}")
    for population in options.population or POPULATIONS:
        began, found = perf_counter(), Counter[tuple[str, int]]()
        with patch.object(expected_loss, "predict_losses", once):
            for seed in range(options.windows):
                found += judge_windows(seed, population)
        print(f"\n{population}, {perf_counter() - began:.0f} s\n")
        print(f"| rows | any of four | {' | '.join(METRICS)} |\n{'|---' * 6}|")
        for n in SIZES:
            cells = (f"{found[name, n] / options.windows:.2%}" for name in ("any", *METRICS))
            print(f"| {n:,} | {' | '.join(cells)} |")
        share = found["harder", HARDER_ROWS] / options.windows
        print(f"harder rows, {HARDER_ROWS:,}: {share:.1%}", flush=True)


if __name__ == "__main__":
    main()
