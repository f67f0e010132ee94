"""How often the interval of each metric holds the truth: ``python -m tests.benchmarks.coverage``.

Intervals are nominal 95 %.  Every case draws rows of a model whose true figures are those of two
million rows, many windows of it, and counts.  Within 93-97 % are expected: proportions with at
least 50 successes and failures (others on average over their truths), AUC and average precision
with 50 rows of each class and an AUC of at most .95, errors of regressions with light tails from
1,000 rows.  The mean over classes of AUC and of average precision has an upper bound: at least
93 %.  The calibration error has no interval.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from service.detection.metrics import measure
from service.detection.multiclass import Key
from service.profiles.binning import Binning
from service.profiles.build import profile_performance
from service.profiles.columns import Classes, ManyClasses, Output, Quantity
from service.profiles.freeze import freeze_binning
from service.profiles.merge import merge_performance

LOW, HIGH = 0.93, 0.97
TRUTH_ROWS, PART = 2_000_000, 250_000
FEWEST = 50
NAMES = ("a", "b", "c")
WITHOUT = frozenset({"expected_calibration_error"})
# Their error is the mean of the classes' errors: at most too wide.
BOUNDED = frozenset({("roc_auc", None), ("average_precision", None)})

Draw = Callable[[np.random.Generator, int], pa.Table]


@dataclass(frozen=True)
class Case:
    """A model with its output, and the rows of a window; ``holds`` are metrics that must cover."""

    name: str
    output: Output
    draw: Draw
    rows: int
    upper: bool = False


@dataclass(frozen=True)
class Covered:
    """One interval in one case: how often it held, of how many, and whether that is promised."""

    case: str
    key: Key
    rows: int
    truth: float
    share: float
    windows: int
    promised: bool
    upper: bool

    @property
    def is_kept(self) -> bool:
        """Say whether it is where it should be, but for three standard errors of the count."""
        slack = 3 * np.sqrt(0.95 * 0.05 / self.windows)
        too_high = not self.upper and self.share > HIGH + slack
        return not (self.share < LOW - slack or too_high)


def binary(center: float, spread: float, *, weighted: bool = False, noise: float = 0.0) -> Draw:
    """Return rows of a calibrated model: log odds normal, some labels flipped."""

    def draw(rng: np.random.Generator, n: int) -> pa.Table:
        score = 1 / (1 + np.exp(-rng.normal(center, spread, n)))
        truth = (rng.random(n) < score) != (rng.random(n) < noise)
        columns: dict[str, Any] = {
            "score": score,
            "prediction": np.where(score > 0.5, "1", "0"),
            "label": np.where(truth, "1", "0"),
        }
        if weighted:
            columns["weight"] = rng.gamma(2.0, size=n)
        return pa.table(columns)

    return draw


def many(rng: np.random.Generator, n: int) -> pa.Table:
    """Return rows of a calibrated model of three classes."""
    scores, names = rng.dirichlet((1.0, 0.7, 0.4), n), np.array(NAMES)
    label = (scores.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, 2)
    columns = {f"scores.{name}": scores[:, i] for i, name in enumerate(NAMES)}
    return pa.table({"prediction": names[scores.argmax(axis=1)], "label": names[label], **columns})


def numbers(error: Callable[[np.random.Generator, int], Any], *, weighted: bool = False) -> Draw:
    """Return rows of a regression with such errors."""

    def draw(rng: np.random.Generator, n: int) -> pa.Table:
        label = rng.uniform(30, 70, n)
        columns = {"label": label, "prediction": label + error(rng, n)}
        if weighted:
            columns["weight"] = rng.gamma(2.0, size=n)
        return pa.table(columns)

    return draw


def cases() -> Iterator[Case]:
    """Yield every model and size."""
    two = Classes("0", "1")
    models = {
        "balanced, AUC .82": binary(0.0, 1.5),
        "base rate .15": binary(-2.5, 1.5),
        "AUC .94": binary(0.0, 4.0),
        "weighted": binary(0.0, 1.5, weighted=True),
        "miscalibrated": binary(0.5, 2.0, noise=0.15),
    }
    for name, draw in models.items():
        for rows in (400, 1000, 5000):
            yield Case(name, two, draw, rows)
    for rows in (1000, 5000):
        yield Case("three classes", ManyClasses(NAMES), many, rows)
    errors: dict[str, Draw] = {
        "normal errors": numbers(lambda rng, n: 1 + 4 * rng.normal(size=n)),
        "uniform errors": numbers(lambda rng, n: rng.uniform(-5, 8, n)),
        "normal, weighted": numbers(lambda rng, n: 4 * rng.normal(size=n), weighted=True),
    }
    for name, draw in errors.items():
        for rows in (1000, 5000):
            yield Case(name, Quantity(), draw, rows)


def truths(case: Case, binning: Binning) -> dict[Key, float]:
    """Return the figures of very many rows."""
    rng = np.random.default_rng(1)
    parts = [profile_performance(case.draw(rng, PART), binning) for _ in range(TRUTH_ROWS // PART)]
    measured = measure(merge_performance(parts), edges=binning.score_edges)
    return {key: value.value for key, value in measured.items() if value.value is not None}


def cover(case: Case, windows: int, names: list[str] | None = None) -> list[Covered]:
    """Count how often each interval of a case holds the truth."""
    rng = np.random.default_rng(2)
    binning = freeze_binning(case.draw(rng, 20_000), [], case.output)
    expected = truths(case, binning)
    held: defaultdict[Key, int] = defaultdict(int)
    counted: defaultdict[Key, int] = defaultdict(int)
    fewest: dict[Key, float] = {}
    for _ in range(windows):
        profile = profile_performance(case.draw(rng, case.rows), binning)
        for key, value in measure(profile, names, binning.score_edges).items():
            if value.ci_low is None or value.ci_high is None:
                continue
            held[key] += value.ci_low <= expected[key] <= value.ci_high
            counted[key] += 1
            few: float = value.support
            if value.successes is not None:
                few = min(expected[key], 1 - expected[key]) * value.n
            fewest[key] = min(fewest.get(key, few), few)
    return [
        Covered(
            case.name, key, case.rows, expected[key], held[key] / count, count,
            fewest[key] >= FEWEST, isinstance(case.output, ManyClasses) and key in BOUNDED,
        )
        for key, count in counted.items()
    ]  # fmt: skip


def main() -> None:
    """Print the coverage of every interval in every case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="300 windows a case, not 3,000")
    windows = 300 if parser.parse_args().quick else 3000
    print(f"nominal 95 %, {windows} windows a case; (…) is not promised, ! is missed")
    found: defaultdict[Key, list[Covered]] = defaultdict(list)
    columns: dict[tuple[str, int], None] = {}
    for case in cases():
        columns[case.name, case.rows] = None
        for covered in cover(case, windows):
            found[covered.key].append(covered)
        print(f"  {case.name}, n = {case.rows:,}", flush=True)
    missed = 0
    for key, every in found.items():
        print(f"\n{key[0]}{f' of {key[1]}' if key[1] else ''}")
        for one in every:
            missed += one.promised and not one.is_kept
            mark = "!" if one.promised and not one.is_kept else ""
            share = f"{one.share:.1%}" if one.promised else f"({one.share:.1%})"
            print(f"  {share:>9}{mark:1}  {one.truth:8.4f}  n = {one.rows:<6,} {one.case}")
        print(f"  {np.mean([one.share for one in every]):9.1%}   on average")
    print(f"\n{missed} of the promised intervals missed")


if __name__ == "__main__":
    main()
