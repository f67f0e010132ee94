"""False alarms and power of the verdicts on slices and fairness.

    python -m tests.benchmarks.slices [--windows 2000]

Every window has a fresh reference; counts are drawn directly.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from service.evaluation.fairness import DISPARITIES, FairnessPolicy, FairnessRule, judge_fairness
from service.evaluation.measurement import Measurement, Verdict
from service.evaluation.performance import PerformancePolicy
from service.evaluation.slices import Floor, SlicePolicy, SliceRule, judge_slices
from service.profiles.columns import Classes
from service.profiles.profile import PerformanceProfile
from service.profiles.slices import SliceProfile

ALPHA = 0.01
SLICES = 20
REFERENCE = 5_000
REGION = ("region",)
ACCURACY = 0.9
METRICS = ("accuracy", "recall", "precision", "f1", "false_positive_rate")


def a_slice(n: int, accuracy: float, draw: np.random.Generator) -> SliceProfile:
    """Draw the counts of n rows, 30 % of them positive."""
    right, wrong = accuracy, 1 - accuracy
    cells = np.array([[0.7 * right, 0.7 * wrong], [0.3 * wrong, 0.3 * right]])
    table: NDArray[np.int64] = draw.multinomial(n, cells.ravel()).reshape(2, 2)
    weights = table.astype(np.float64)
    scores = np.zeros((2, 2, 1), np.int64)
    performance = PerformanceProfile(
        n, 0, table, weights, weights, scores, scores.astype(np.float64), np.zeros((2, 4))
    )
    predicted = table.sum(axis=0)
    floats = predicted.astype(np.float64)
    return SliceProfile(REGION, 0, n, predicted, floats, floats, performance)


def judge(n: int, draw: np.random.Generator, *, broken: float | None = None) -> list[Measurement]:
    """Judge one window whose first slice has another accuracy, if one is given."""
    policy = SlicePolicy(
        PerformancePolicy(alpha=ALPHA, tolerance=0.0, metrics=METRICS),
        (SliceRule(columns=REGION), SliceRule(name="critical", floor=Floor("accuracy", ACCURACY))),
    )
    names = [*(f"region={i}" for i in range(SLICES)), "critical"]
    before = {name: a_slice(REFERENCE, ACCURACY, draw) for name in names}
    now = {name: a_slice(n, ACCURACY, draw) for name in names}
    if broken is not None:
        now["region=0"] = a_slice(n, broken, draw)
    return judge_slices(before, {}, now, policy)


def judge_groups(n: int, draw: np.random.Generator) -> list[Measurement]:
    """Judge the fairness of one window with equal groups, limits that any difference crosses."""
    limits = dict(zip(DISPARITIES, (1.0, 0.0, 0.0, 0.0), strict=True))
    rules = [FairnessRule(column="region", limits=limits)]
    groups = {f"region={i}": a_slice(n, ACCURACY, draw) for i in range(5)}
    policy = FairnessPolicy(rules=rules, alpha=ALPHA)
    return judge_fairness(groups, Classes("0", "1"), policy)


def share(windows: list[list[Measurement]], only: str | None = None) -> float:
    """Return the share of windows with an alert, of one slice if it is named."""
    return float(
        np.mean(
            [
                any(m.verdict is Verdict.ALERT and only in {None, m.slice} for m in window)
                for window in windows
            ]
        )
    )


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=2_000)
    windows = parser.parse_args().windows
    draw = np.random.default_rng(1)
    print(f"alpha {ALPHA:.0%}, {SLICES + 1} slices, {len(METRICS)} metrics, {windows} windows")
    print("| rows a slice | slices | fairness | accuracy .9 to .7 in one slice found |")
    print("|---|---|---|---|")
    for n in (100, 300, 1_000, 10_000, 1_000_000):
        quiet = share([judge(n, draw) for _ in range(windows)])
        fair = share([judge_groups(n, draw) for _ in range(windows)])
        found = share([judge(n, draw, broken=0.7) for _ in range(windows // 10)], "region=0")
        print(f"| {n:,} | {quiet:.2%} | {fair:.2%} | {found:.1%} |", flush=True)


if __name__ == "__main__":
    main()
