"""How often the interval of each metric holds the truth: ``python -m tests.benchmarks.coverage``.

Intervals are nominal 95 %.  Every case draws rows of a model whose true figures are those of two
million rows, many windows of it, and counts.  Within 93-97 % are expected: proportions with at
least 50 successes and failures (others on average over their truths), AUC and average precision
with 50 rows of each class and an AUC of at most .95, errors of regressions with light tails from
1,000 rows.  The error of a mean over classes of AUC and of average precision rests on how rows of
the reference are ranked: where the model has lost much since, it may be too large, so that at least
93 % are expected.  The calibration error has no interval.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from service.detection.metrics import measure
from service.detection.multiclass import Key
from service.detection.multiclass_joint import joint_scores
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
REFERENCE_ROWS = 20_000
# Their error rests on the reference's rows.
JOINT = frozenset({("roc_auc", None), ("average_precision", None)})

Draw = Callable[[np.random.Generator, int], pa.Table]


@dataclass(frozen=True)
class Case:
    """A model with its output, and the rows of a window.

    ``reference`` draws the reference's rows where these are others; ``upper`` are too wide means.
    """

    name: str
    output: Output
    draw: Draw
    rows: int
    reference: Draw | None = None
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


def evidence(
    before: Sequence[float], after: Sequence[float], sharp: float, noise: float = 0.0
) -> Draw:
    """Return rows of a model that was calibrated on other shares of classes, or on less noise."""
    prior, shares = np.array(before) / np.sum(before), np.array(after) / np.sum(after)
    names = np.array([f"c{i}" for i in range(len(prior))])

    def draw(rng: np.random.Generator, n: int) -> pa.Table:
        label = rng.choice(len(prior), n, p=shares)
        seen = rng.normal(0, np.hypot(1, noise), (n, len(prior)))
        seen[np.arange(n), label] += sharp
        odds = prior * np.exp(sharp * seen)
        scores = odds / odds.sum(axis=1, keepdims=True)
        columns = {f"scores.{name}": scores[:, i] for i, name in enumerate(names)}
        predicted = names[scores.argmax(axis=1)]
        return pa.table({"prediction": predicted, "label": names[label], **columns})

    return draw


def of_many() -> Iterator[Case]:
    """Yield models of many classes; windows spread over them like the reference, or otherwise."""
    uneven, ten = (0.6, 0.3, 0.1), (0.1,) * 10
    models = {
        "three classes, .6 .3 .1": (uneven, uneven, 1.2, 0.0),
        "three classes, windows .2 .3 .5": (uneven, (0.2, 0.3, 0.5), 1.2, 0.0),
        "three classes, windows noisier": (uneven, uneven, 1.2, 1.0),
        "five classes, .5 to .05": ((0.5, 0.2, 0.15, 0.1, 0.05), None, 1.5, 0.0),
        "ten classes": (ten, ten, 1.5, 0.0),
        "ten classes, windows .05 to .15": (ten, range(5, 15), 1.5, 0.0),
    }
    for name, (before, after, sharp, noise) in models.items():
        output = ManyClasses(tuple(f"c{i}" for i in range(len(before))))
        draw = evidence(before, before if after is None else after, sharp, noise)
        for rows in (1000, 5000):
            yield Case(name, output, draw, rows, evidence(before, before, sharp), noise > 0)


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
    yield from of_many()
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
    reference = (case.reference or case.draw)(rng, REFERENCE_ROWS)
    binning, joint = (
        freeze_binning(reference, [], case.output),
        joint_scores(reference, case.output),
    )
    expected = truths(case, binning)
    held: defaultdict[Key, int] = defaultdict(int)
    counted: defaultdict[Key, int] = defaultdict(int)
    fewest: dict[Key, float] = {}
    for _ in range(windows):
        profile = profile_performance(case.draw(rng, case.rows), binning)
        for key, value in measure(profile, names, binning.score_edges, joint).items():
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
            fewest[key] >= FEWEST, case.upper and key in JOINT,
        )
        for key, count in counted.items()
    ]  # fmt: skip


def main() -> None:
    """Print the coverage of every interval in every case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="300 windows a case, not 3,000")
    parser.add_argument("--only", default="", help="cases with this in their name")
    options = parser.parse_args()
    windows = 300 if options.quick else 3000
    print(f"nominal 95 %, {windows} windows a case; (…) is not promised, ! is missed")
    found: defaultdict[Key, list[Covered]] = defaultdict(list)
    columns: dict[tuple[str, int], None] = {}
    for case in (case for case in cases() if options.only in case.name):
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
        kept = [one.share for one in every if one.promised and not one.upper]
        if kept:
            print(f"  {min(kept):9.1%}   least, {max(kept):.1%} most, of what is promised")
    print(f"\n{missed} of the promised intervals missed")


if __name__ == "__main__":
    main()
