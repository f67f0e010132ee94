"""How often the verdicts on a model's outputs alert without a change, and with one.

    python -m tests.benchmarks.outputs [--windows 500] [--task binary ...] [--quick]

Rows are drawn from a fixed population of cells, each a label, a prediction and its scores, so that
the profile of any number of rows is a sum of counts.  Every window has a fresh reference.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.detection.calibrator import Calibrator, fit_calibrator
from service.evaluation.drift import DriftPolicy
from service.evaluation.measurement import Verdict
from service.evaluation.performance import PerformancePolicy
from service.evaluation.quality import QualityPolicy
from service.evaluation.window import Baseline, Judgement, Policies, judge
from service.profiles.binning import Binning
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Classes, ManyClasses, Output, Quantity
from service.profiles.freeze import freeze_binning
from service.profiles.profile import FeatureProfile, Performance

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

ALPHA = 0.01
REFERENCE_ROWS = 5_000
SIZES = (100, 300, 1_000, 10_000, 1_000_000)
FAMILIES = ("performance", "estimated_performance", "concept", "drift")


@dataclass(frozen=True)
class Population:
    """Cells with their probabilities, and which metrics their task is judged by."""

    output: Output
    cells: pa.Table
    shares: Floats
    metrics: tuple[str, ...]

    @cached_property
    def binning(self) -> Binning:
        """Return edges frozen on the cells."""
        return freeze_binning(self.cells, [], self.output)

    @cached_property
    def _performance(self) -> tuple[Performance, dict[str, Floats]]:
        rows = [
            profile_performance(self.cells.slice(i, 1), self.binning)
            for i in range(self.cells.num_rows)
        ]
        return rows[0], _stacked(rows)

    @cached_property
    def _features(self) -> tuple[FeatureProfile, dict[str, dict[str, Floats]], dict[str, Floats]]:
        rows = [
            profile_features(self.cells.slice(i, 1), [], self.binning)
            for i in range(self.cells.num_rows)
        ]
        columns = {name: _stacked([r.columns[name] for r in rows]) for name in rows[0].columns}
        own = {name: np.stack([getattr(r, name) for r in rows]) for name in SCORES}
        return rows[0], columns, own

    def draw(self, rng: np.random.Generator, rows: int) -> Counts:
        """Draw how many rows each cell has."""
        return rng.multinomial(rows, self.shares)

    def performance(self, counts: Counts) -> Performance:
        """Return the profile of labelled rows."""
        first, stacks = self._performance
        found: dict[str, Any] = {
            name: np.tensordot(counts, stack, 1) for name, stack in stacks.items()
        }
        for name in ("labelled", "unusable", "zero_labels", "outside_log"):
            if name in found:
                found[name] = int(found[name])
        if hasattr(first, "ranked"):
            found["ranked"] = None
        return replace(first, **found)

    def features(self, counts: Counts) -> FeatureProfile:
        """Return the profile of rows without labels."""
        first, columns, own = self._features
        rows = int(counts.sum())
        made = {}
        for name, stacks in columns.items():
            found: dict[str, Any] = {
                field: np.tensordot(counts, stacks[field], 1)
                for field in ("counts", "weights", "weights_squared", "sums")
            }
            mean = float(counts @ stacks["mean"]) / rows
            spread = float(counts @ (stacks["mean"] - mean) ** 2)
            made[name] = replace(
                first.columns[name], **found, n=rows, missing=0, mean=mean, m2=spread
            )
        sums: dict[str, Any] = {name: np.tensordot(counts, own[name], 1) for name in SCORES}
        return replace(first, rows=rows, weight=float(rows), columns=made, **sums)


SCORES = ("score_counts", "score_weights")


def _stacked(rows: Sequence[Any]) -> dict[str, Floats]:
    found = {}
    for field in fields(rows[0]):
        values = [getattr(row, field.name) for row in rows]
        if all(isinstance(value, int | float | np.ndarray) for value in values):
            shape = np.shape(values[0])
            if all(np.shape(value) == shape for value in values):
                found[field.name] = np.stack([np.asarray(value) for value in values])
    found.pop("names", None)
    return found


def binary(*, accuracy: float = 0.9) -> Population:
    """Return a calibrated binary model: 200 scores, the label drawn from each."""
    grid = np.linspace(0.004, 0.996, 200)
    density = grid ** (-accuracy) + (1 - grid) ** (-accuracy)
    scores = np.repeat(grid, 2)
    labels = np.tile([0, 1], len(grid))
    shares = np.repeat(density, 2) * np.where(labels == 1, scores, 1 - scores)
    cells = pa.table(
        {
            "label": labels.astype(str),
            "prediction": (scores >= 0.5).astype(int).astype(str),
            "score": scores,
        }
    )
    return Population(
        Classes("0", "1"), cells, shares / shares.sum(), ("roc_auc", "accuracy", "recall")
    )


def multiclass() -> Population:
    """Return a calibrated model of three classes: 150 points of the simplex."""
    rng = np.random.default_rng(0)
    points = rng.dirichlet([0.5, 0.4, 0.3], 150)
    names = ("a", "b", "c")
    label = np.tile(np.arange(3), len(points))
    scores = np.repeat(points, 3, axis=0)
    shares = scores[np.arange(len(label)), label]
    table = {
        "label": np.array(names)[label],
        "prediction": np.array(names)[scores.argmax(axis=1)],
        **{f"scores.{name}": scores[:, i] for i, name in enumerate(names)},
    }
    return Population(
        ManyClasses(names), pa.table(table), shares / shares.sum(), ("roc_auc", "accuracy", "f1")
    )


def regression() -> Population:
    """Return a regression: 20 predictions, each with 15 errors of a bell's frequencies."""
    predicted = np.repeat(np.linspace(50, 500, 20), 15)
    deviations = np.tile(np.linspace(-3, 3, 15), 20)
    cells = pa.table({"prediction": predicted, "label": predicted + 10 * deviations})
    shares = np.exp(-(deviations**2) / 2)
    return Population(Quantity(), cells, shares / shares.sum(), ("rmse", "mae"))


TASKS: dict[str, Callable[[], Population]] = {
    "binary": binary,
    "multiclass": multiclass,
    "regression": regression,
}


def worse(population: Population, share: float) -> Population:
    """Return the population with this share of its labels drawn at random: the concept changed."""
    cells = population.cells
    if isinstance(population.output, Quantity):
        label = cells["label"].to_numpy()
        predicted = cells["prediction"].to_numpy()
        moved = pa.array(predicted + (label - predicted) * (1 + share))
        return replace(population, cells=cells.set_column(1, "label", moved))
    names = population.output.names
    size = len(names)
    # The cells of one score stand together, one for each label.
    grouped = population.shares.reshape(-1, size)
    mixed = (1 - share) * grouped + share * grouped.mean(axis=1, keepdims=True)
    return replace(population, shares=mixed.ravel())


def calibrator_of(population: Population, counts: Counts) -> Calibrator | None:
    """Fit on the reference's rows."""
    if not isinstance(population.output, Classes):
        return None
    rows = np.repeat(np.arange(len(counts)), counts)
    cells = population.cells
    columns = {
        name: cells[name].to_numpy(zero_copy_only=False)[rows] for name in cells.column_names
    }
    positive = population.output.positive
    return fit_calibrator(
        columns["score"].astype(float),
        columns["label"] == positive,
        predicted=columns["prediction"] == positive,
    )


def judge_window(
    rng: np.random.Generator, population: Population, rows: int, current: Population | None = None
) -> Judgement:
    """Judge one window, of another population if one is given, against a fresh reference."""
    before = population.draw(rng, REFERENCE_ROWS)
    source = current or population
    after = source.draw(rng, rows)
    baseline = Baseline(
        population.features(before),
        population.performance(before),
        [],
        calibrator_of(population, before),
    )
    policies = Policies(
        DriftPolicy(alpha=ALPHA, min_effect=0.0),
        QualityPolicy(alpha=ALPHA),
        PerformancePolicy(alpha=ALPHA, tolerance=0.0, metrics=population.metrics),
    )
    shared = replace(source, cells=source.cells)
    shared.__dict__["binning"] = population.binning
    return judge(
        population.binning,
        [],
        baseline,
        shared.features(after),
        shared.performance(after),
        policies,
    )


def rates(
    population: Population, rows: int, windows: int, seed: int, current: Population | None = None
) -> Counter[str]:
    """Count the windows in which each family alerts."""
    rng = np.random.default_rng(seed)
    found: Counter[str] = Counter()
    for _ in range(windows):
        verdicts = judge_window(rng, population, rows, current).verdicts
        found.update(name for name, verdict in verdicts.items() if verdict is Verdict.ALERT)
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--windows", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="50 windows")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--task", action="append", choices=tuple(TASKS))
    options = parser.parse_args()
    windows = 50 if options.quick else options.windows
    print(f"alpha {ALPHA:.0%} a family, {windows} windows, fresh references of {REFERENCE_ROWS}")
    for task in options.task or TASKS:
        population = TASKS[task]()
        print(f"\n{task}\n\n| rows | {' | '.join(FAMILIES)} | a tenth worse: {FAMILIES[0]} |")
        print("|---|" + "---|" * (len(FAMILIES) + 1))
        for rows in SIZES:
            quiet = rates(population, rows, windows, options.seed)
            loud = rates(
                population, rows, max(windows // 5, 1), options.seed, worse(population, 0.1)
            )
            cells = [f"{quiet[name] / windows:.2%}" for name in FAMILIES]
            cells.append(f"{loud[FAMILIES[0]] / max(windows // 5, 1):.1%}")
            print(f"| {rows:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
