"""False alarms and power of the verdicts on slices, declared and found, and fairness.

    python -m tests.benchmarks.slices [--windows 2000] [--only declared]
        [--reference 10000 --rows 5000]

Every window has a fresh reference; counts of declared slices are drawn directly.  ``--reference``
and ``--rows`` are of the search for slices, which has a tenth of the windows.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa

from service.evaluation.discovery import DiscoveryPolicy, discover
from service.evaluation.fairness import DISPARITIES, FairnessPolicy, FairnessRule, judge_fairness
from service.evaluation.measurement import Measurement, Verdict
from service.evaluation.performance import PerformancePolicy
from service.evaluation.slices import Floor, SlicePolicy, SliceRule, judge_slices
from service.profiles.columns import Classes, Column, Kind, Quantity
from service.profiles.freeze import freeze_binning
from service.profiles.profile import (
    REGRESSION_SUMS,
    MulticlassProfile,
    Performance,
    PerformanceProfile,
    RegressionProfile,
)
from service.profiles.slices import SliceProfile

ALPHA = 0.01
SLICES = 20
REFERENCE = 5_000
REGION = ("region",)
ACCURACY = 0.9
METRICS_OF = {
    "binary": ("accuracy", "recall", "precision", "f1", "false_positive_rate"),
    "multiclass": ("accuracy", "balanced_accuracy", "recall", "precision", "f1"),
    "regression": ("rmse", "mae"),
}
# Of more rows the sums are drawn.
DRAWN = 3_000


def a_slice(
    n: int, accuracy: float, draw: np.random.Generator, task: str = "binary"
) -> SliceProfile:
    """Draw the counts of n rows; of two classes 30 % are positive, of three each is a third."""
    performance: Performance
    if task == "regression":
        # Errors as large as accuracy .9 has many, .7 then three times as many.
        performance = of_errors(n, ((1 - accuracy) / (1 - ACCURACY)) ** 0.5, draw)
        predicted = np.array([n])
    elif task == "multiclass":
        wrong = (1 - accuracy) / 6
        cells = np.full((3, 3), wrong) + np.eye(3) * (accuracy / 3 - wrong)
        table = draw.multinomial(n, cells.ravel()).reshape(3, 3)
        weights = table.astype(np.float64)
        shape = (3, 2, 2, 1)
        performance = MulticlassProfile(
            ("a", "b", "c"), n, 0, table, weights, weights,
            np.zeros(shape, np.int64), np.zeros(shape), np.zeros((3, 2)),
        )  # fmt: skip
        predicted = table.sum(axis=0)
    else:
        right, wrong = accuracy, 1 - accuracy
        cells = np.array([[0.7 * right, 0.7 * wrong], [0.3 * wrong, 0.3 * right]])
        table = draw.multinomial(n, cells.ravel()).reshape(2, 2)
        weights = table.astype(np.float64)
        scores = np.zeros((2, 2, 1), np.int64)
        performance = PerformanceProfile(
            n, 0, table, weights, weights, scores, scores.astype(np.float64), np.zeros((2, 4))
        )
        predicted = table.sum(axis=0)
    floats = predicted.astype(np.float64)
    return SliceProfile(REGION, 0, n, predicted, floats, floats, performance)


def of_errors(n: int, spread: float, draw: np.random.Generator) -> RegressionProfile:
    """Draw normal errors; of many rows their sums, by the central limit theorem."""
    if n <= DRAWN:
        errors = np.abs(draw.normal(0, 1, n))
        first, second, fourth = errors.sum(), (errors**2).sum(), (errors**4).sum()
    else:
        absolute = np.sqrt(2 / np.pi)
        covariance = [
            [1 - 2 / np.pi, absolute, 5 * absolute], [absolute, 2, 12], [5 * absolute, 12, 96],
        ]  # fmt: skip
        means = np.array([absolute, 1, 3])
        first, second, fourth = n * means + np.sqrt(n) * draw.multivariate_normal(
            np.zeros(3), covariance
        )
    sums = {"w": n, "ww": n, "abs_e": first * spread, "e2": second * spread**2,
            "e4": fourth * spread**4}  # fmt: skip
    values = np.array([float(sums.get(name, 0.0)) for name in REGRESSION_SUMS])
    return RegressionProfile(n, 0, 0, 0, values)


def judge(
    n: int, draw: np.random.Generator, *, broken: float | None = None, task: str = "binary"
) -> list[Measurement]:
    """Judge one window whose first slice has another accuracy, if one is given."""
    floor = Floor("rmse", 1.0) if task == "regression" else Floor("accuracy", ACCURACY)
    policy = SlicePolicy(
        PerformancePolicy(alpha=ALPHA, tolerance=0.0, metrics=METRICS_OF[task]),
        (SliceRule(columns=REGION), SliceRule(name="critical", floor=floor)),
    )
    names = [*(f"region={i}" for i in range(SLICES)), "critical"]
    before = {name: a_slice(REFERENCE, ACCURACY, draw, task) for name in names}
    now = {name: a_slice(n, ACCURACY, draw, task) for name in names}
    if broken is not None:
        now["region=0"] = a_slice(n, broken, draw, task)
    return judge_slices(before, {}, now, policy)


FEATURES = [
    Column("region", Kind.CATEGORICAL),
    *(Column(f"x{i}", Kind.NUMERIC) for i in range(5)),
    *(Column(f"c{i}", Kind.CATEGORICAL) for i in range(4)),
]


def some_rows(
    n: int, draw: np.random.Generator, *, regression: bool, broken: float | None = None
) -> pa.Table:
    """Draw rows of ten mixed features; the north is 4 % of them, and may have broken."""
    rows: dict[str, Any] = {
        "region": np.where(draw.random(n) < 0.04, "north", draw.choice(["s", "w", "e"], n)),
        **{f"x{i}": draw.normal(0, 1, n) if i % 2 else draw.exponential(1e3, n) for i in range(5)},
        **{f"c{i}": draw.choice([f"v{j}" for j in range(2 + 2 * i)], n) for i in range(4)},
    }
    errors = np.where((rows["region"] == "north") & (broken is not None), 1 - (broken or 0.9), 0.1)
    if regression:
        label = draw.normal(0, 1, n)
        return pa.table(
            {**rows, "label": label, "prediction": label + draw.normal(0, 1, n) * errors**0.5}
        )
    code = (draw.random(n) < 0.3).astype(int)
    wrong = draw.random(n) < errors
    named = {"label": code.astype(str), "prediction": (code ^ wrong).astype(str)}
    return pa.table({**rows, **named})


def find(
    n: int,
    draw: np.random.Generator,
    *,
    regression: bool = False,
    broken: float | None = None,
    before: int = REFERENCE,
) -> list[Measurement]:
    """Look for slices in one window."""
    output = Quantity() if regression else Classes("0", "1")
    reference = some_rows(before, draw, regression=regression)
    current = some_rows(n, draw, regression=regression, broken=broken)
    metrics = ("rmse",) if regression else ("accuracy",)
    policy = DiscoveryPolicy(
        performance=PerformancePolicy(alpha=ALPHA, tolerance=0.0, metrics=metrics)
    )
    binning = freeze_binning(reference.select(["prediction"]), [], output)
    return discover(reference, current, FEATURES, binning, policy).measurements


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
    """Print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=2_000)
    parser.add_argument("--only", choices=("declared", "found"))
    parser.add_argument("--reference", type=int, default=REFERENCE)
    parser.add_argument("--rows", type=int, action="append")
    options = parser.parse_args()
    draw = np.random.default_rng(1)
    if options.only != "found":
        declared(options.windows, draw)
    if options.only != "declared":
        rows = options.rows or (500, 1_000, 5_000, 50_000)
        discovery(max(options.windows // 10, 1), draw, rows, options.reference)


def declared(windows: int, draw: np.random.Generator) -> None:
    """Print how often declared slices alert, and groups that are equal."""
    print(f"alpha {ALPHA:.0%}, {SLICES + 1} slices, {windows} windows")
    print("| rows a slice | binary | multiclass | regression | fairness | .9 to .7 found |")
    print("|---|---|---|---|---|---|")
    for n in (100, 300, 1_000, 10_000, 1_000_000):
        quiet = [share([judge(n, draw, task=t) for _ in range(windows)]) for t in METRICS_OF]
        fair = share([judge_groups(n, draw) for _ in range(windows)])
        found = [
            share([judge(n, draw, broken=0.7, task=t) for _ in range(windows // 10)], "region=0")
            for t in METRICS_OF
        ]
        cells = [*(f"{rate:.2%}" for rate in (*quiet, fair)), " ".join(f"{f:.1%}" for f in found)]
        print(f"| {n:,} | {' | '.join(cells)} |", flush=True)


def discovery(windows: int, draw: np.random.Generator, rows: Sequence[int], before: int) -> None:
    """Print how often a slice is found that there is, or that there is not."""
    print(f"\n{windows} windows, {len(FEATURES)} features, a reference of {before:,} rows")
    print("| rows | found by chance | of a regression | .9 to .7 in 4 % found | seconds |")
    print("|---|---|---|---|---|")
    for n in rows:
        began, search = perf_counter(), partial(find, n, draw, before=before)
        quiet = share([search() for _ in range(windows)])
        seconds = (perf_counter() - began) / windows
        other = share([search(regression=True) for _ in range(windows)])
        found = share([search(broken=0.7) for _ in range(windows)], "region=north")
        print(f"| {n:,} | {quiet:.1%} | {other:.1%} | {found:.1%} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
