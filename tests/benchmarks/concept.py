"""How often unchanged scores surprise, and how often labels do of which a few are turned round.

    python -m tests.benchmarks.concept [--references 100] [--rows 5000]

Every window has a fresh reference.  Rows are drawn as counts from 20,001 scores, so that windows of
a million rows cost no more than those of a hundred.
"""

import argparse
from collections import Counter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from service.detection.estimates import fit_calibrators
from service.evaluation.concept import judge_concept
from service.evaluation.measurement import Verdict
from service.evaluation.performance import PerformancePolicy
from service.profiles.arrays import score_index
from service.profiles.binning import Binning
from service.profiles.build import profile_performance
from service.profiles.columns import Classes
from service.profiles.freeze import freeze_binning
from service.profiles.profile import PerformanceProfile

SCORES = 20_001
SIZES = (100, 1_000, 10_000, 1_000_000)
# The logits' mean and deviation: even classes, sharp ones, and rare positives.
POPULATIONS = {"even": (0.0, 1.5), "sharp": (0.0, 4.0), "rare": (-3.5, 1.5)}
FLIPPED = 0.06

Counts = NDArray[np.int64]


def draw(
    rng: np.random.Generator, logits: NDArray[np.float64], rows: int, flipped: float = 0.0
) -> tuple[Counts, Counts]:
    """Return rows and positives by score, the scores being a little too sure."""
    truth = expit(0.8 * logits)
    counts = rng.multinomial(rows, np.full(SCORES, 1 / SCORES))
    return counts, rng.binomial(counts, truth * (1 - flipped) + (1 - truth) * flipped)


def to_profile(
    counts: Counts, positives: Counts, scores: NDArray[np.float64], binning: Binning
) -> PerformanceProfile:
    """Return the profile of rows that are counted by score; the upper half is called positive."""
    size = len(binning.score_edges) + 1
    cell = (np.arange(SCORES) >= SCORES // 2) * size + score_index(scores, binning.score_edges)
    sums = [np.bincount(cell, of, 2 * size) for of in (counts - positives, positives)]
    table = np.array(sums, dtype=np.float64).reshape(2, 2, -1)
    confusion = table.sum(axis=2)
    return PerformanceProfile(
        int(confusion.sum()), 0, confusion.astype(np.int64), confusion, confusion,
        table.astype(np.int64), table, np.zeros((2, 4)),
    )  # fmt: skip


def judge_windows(seed: int, name: str, rows: int) -> Counter[tuple[str, int]]:
    """Judge a window of each size against one fresh reference, and count the alerts."""
    rng = np.random.default_rng(seed)
    mean, deviation = POPULATIONS[name]
    logits = mean + deviation * ndtri((np.arange(SCORES) + 0.5) / SCORES)
    scores = expit(logits)
    counts, positives = draw(rng, logits, rows)
    labels = np.concatenate([np.zeros(rows - positives.sum(), int), np.ones(positives.sum(), int)])
    score = np.repeat(np.tile(scores, 2), np.concatenate([counts - positives, positives]))
    predicted = (score >= scores[SCORES // 2]).astype(int)
    table = pa.table(
        {"score": score, "label": labels.astype(str), "prediction": predicted.astype(str)}
    )
    binning = freeze_binning(table, [], Classes("0", "1"))
    reference = profile_performance(table, binning)
    calibrator = fit_calibrators(table, binning.output)
    found: Counter[tuple[str, int]] = Counter()
    for size in SIZES:
        for what, flipped in (("false", 0.0), ("power", FLIPPED)):
            current = to_profile(*draw(rng, logits, size, flipped), scores, binning)
            policy = PerformancePolicy(tolerance=0.0)
            judged = judge_concept(binning, reference, [], calibrator, current, size, policy)
            found[what, size] += any(m.verdict is Verdict.ALERT for m in judged)
    return found


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--references", type=int, default=100)
    parser.add_argument("--rows", type=int, default=5_000)
    options = parser.parse_args()
    print("| population | rows | alerts without a change | with 6 % of labels turned round |")
    print("|---|---|---|---|")
    for name in POPULATIONS:
        found: Counter[tuple[str, int]] = Counter()
        for seed in range(options.references):
            found += judge_windows(seed, name, options.rows)
        for size in SIZES:
            false, power = (found[what, size] / options.references for what in ("false", "power"))
            print(f"| {name} | {size:,} | {100 * false:.2f} % | {power:.2f} |")


if __name__ == "__main__":
    main()
