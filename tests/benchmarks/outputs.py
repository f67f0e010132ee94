"""How often the verdicts on a model's outputs alert without a change, and with one.

    python -m tests.benchmarks.outputs [--windows 500] [--task binary ...] [--alone]

Rows are drawn from a fixed population of cells, each a label, a prediction and its scores, so that
the profile of any number of rows is a sum of counts.  Every window has a fresh reference with its
own calibrator; the sizes share it, so that their rates are not independent of each other.
``--alone`` judges the performance only, and every metric by itself.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from time import perf_counter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.detection.estimates import fit_calibrators
from service.detection.metrics import METRICS_OF, RECORDED
from service.detection.multiclass_joint import joint_scores
from service.evaluation.drift_columns import DriftPolicy
from service.evaluation.maturity import assess_labels
from service.evaluation.measurement import Verdict
from service.evaluation.performance import PerformancePolicy, is_worse, judge_performance
from service.evaluation.quality import QualityPolicy
from service.evaluation.window import Baseline, Policies, judge
from service.profiles.profile import FeatureProfile, Performance
from tests.benchmarks.populations import TASKS, Population

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

ALPHA = 0.01
REFERENCE_ROWS = 5_000
SIZES = (100, 300, 1_000, 10_000, 1_000_000)
FAMILIES = ("performance", "estimated_performance", "concept", "drift", "quality", "selection")
LABELLED = 0.5
LOSSES = ("performance", "concept")


def a_reference(rng: np.random.Generator, population: Population) -> tuple[Counts, pa.Table]:
    """Draw how many rows each cell has, and the rows."""
    counts = population.draw(rng, REFERENCE_ROWS)
    return counts, population.cells.take(pa.array(np.repeat(np.arange(len(counts)), counts)))


def a_baseline(rng: np.random.Generator, population: Population) -> Baseline:
    """Draw a reference, and fit its calibrators on its rows."""
    counts, rows = a_reference(rng, population)
    calibrators = fit_calibrators(rows, population.output)
    return Baseline(
        population.features(counts),
        population.performance(counts),
        [],
        calibrators,
        joint=joint_scores(rows, population.output),
    )


def judge_windows(
    seed: int, population: Population, sizes: Sequence[int], losses: int = 10
) -> Counter[tuple[str, int]]:
    """Judge a window of each size against one fresh reference, and count the alerts.

    After every ``losses``-th seed there is one whose concept has changed, too.
    """
    rng = np.random.default_rng(seed)
    baseline = a_baseline(rng, population)
    found: Counter[tuple[str, int]] = Counter()
    for rows in sizes:
        found.update((name, rows) for name in alerts(rng, population, baseline, rows))
        selected = assess_labels(
            population.binning, *half_labelled(rng, population, rows), horizon_passed=None
        )
        found["selection", rows] += selected.withheld is not None
        if seed % losses == 0:
            lost = alerts(rng, population.worse, baseline, rows)
            found.update((f"{name}, worse", rows) for name in lost)
    return found


def alerts(
    rng: np.random.Generator, population: Population, baseline: Baseline, rows: int
) -> list[str]:
    """Return the families that alert in one window."""
    after = population.draw(rng, rows)
    policies = Policies(
        DriftPolicy(alpha=ALPHA, min_effect=0.0),
        QualityPolicy(alpha=ALPHA),
        PerformancePolicy(alpha=ALPHA, tolerance=0.0, metrics=population.metrics),
    )
    judged = judge(
        population.binning,
        [],
        baseline,
        population.features(after),
        population.performance(after),
        policies,
    )
    return [name for name, verdict in judged.verdicts.items() if verdict is Verdict.ALERT]


def half_labelled(
    rng: np.random.Generator, population: Population, rows: int
) -> tuple[FeatureProfile, Performance]:
    """Draw a window of which any half has labels."""
    counts = population.draw(rng, rows)
    labelled = rng.multivariate_hypergeometric(counts, round(LABELLED * rows))
    return population.features(counts), population.performance(labelled)


def judge_alone(
    seed: int, population: Population, sizes: Sequence[int]
) -> Counter[tuple[str, int]]:
    """Count the metrics that would alert in a window of each size if they were judged alone."""
    rng = np.random.default_rng(seed)
    known = METRICS_OF[type(population.performance(population.draw(rng, 1)))]
    metrics = [name for name in known if name not in RECORDED]
    policy = PerformancePolicy(alpha=ALPHA, tolerance=0.0, metrics=metrics)
    counts, drawn = a_reference(rng, population)
    reference, joint = population.performance(counts), joint_scores(drawn, population.output)
    found: Counter[tuple[str, int]] = Counter()
    for rows in sizes:
        current = population.performance(population.draw(rng, rows))
        edges = population.binning.score_edges
        judged = judge_performance(reference, [], current, rows, policy, edges, joint)
        judged = [m for m in judged if m.metric in metrics]
        for m in judged:
            # Without the adjustment for the others.
            p_value = 1.0 if m.p_value is None else 1 - (1 - m.p_value) ** (1 / len(judged))
            if p_value < ALPHA and is_worse(m.metric, m.value, m.reference_value, m.threshold):
                found[f"{m.metric} {m.subject or ''}".strip(), rows] += 1
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--windows", type=int, default=500)
    parser.add_argument("--alone", action="store_true", help="each metric of performance by itself")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--task", action="append", choices=tuple(TASKS))
    options = parser.parse_args()
    first = options.seed * 1_000_000
    seeds = range(first, first + options.windows)
    print(f"alpha {ALPHA:.0%}, {len(seeds)} windows, fresh references of {REFERENCE_ROWS}")
    for task in options.task or TASKS:
        population, began = TASKS[task](), perf_counter()
        judge_one = judge_alone if options.alone else judge_windows
        found = sum((judge_one(seed, population, SIZES) for seed in seeds), Counter())
        print(f"\n{task}, {perf_counter() - began:.0f} s\n")
        if options.alone:
            print_metrics(found, len(seeds))
        else:
            print_families(found, len(seeds), sum(seed % 10 == 0 for seed in seeds))


def print_metrics(found: Counter[tuple[str, int]], windows: int) -> None:
    """Print a row for each metric."""
    print(f"| metric | {' | '.join(f'{rows:,}' for rows in SIZES)} |")
    print("|---" * (len(SIZES) + 1) + "|")
    for name in sorted({name for name, _ in found}):
        cells = [f"{found[name, rows] / windows:.2%}" for rows in SIZES]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def print_families(found: Counter[tuple[str, int]], windows: int, lost: int) -> None:
    """Print a row for each size."""
    worse_found = [f"{name}, a tenth worse" for name in LOSSES]
    print(f"| rows | {' | '.join((*FAMILIES, *worse_found))} |")
    print("|---" * (1 + len(FAMILIES) + len(LOSSES)) + "|")
    for rows in SIZES:
        cells = [f"{found[name, rows] / windows:.2%}" for name in FAMILIES]
        cells += [f"{found[f'{name}, worse', rows] / max(lost, 1):.1%}" for name in LOSSES]
        print(f"| {rows:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
