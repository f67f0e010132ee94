"""How often drift alerts on undrifted data, and how often on a quarter of a standard deviation.

    python -m tests.benchmarks.false_alarms [--quick] [--windows 2000] [--processes 2]
        [--method psi --method ks ... | --method all] [--reference previous]

Every window has a fresh reference of 5,000 rows: a rate over windows that share a reference would
be the luck of that reference.  The sizes share it, so that their rates are not independent of
each other.  Above 10,000 rows the counts are drawn directly from the bins' probabilities.  With
``--reference`` that reference gives the edges alone, and the window is compared with fresh ones of
its own size: the previous one, 10 before it, or 4 of its season, each a chunk.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from time import perf_counter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.detection.methods import METHODS
from service.evaluation.drift import judge_drift
from service.evaluation.drift_columns import DriftPolicy
from service.evaluation.measurement import Verdict
from service.profiles.binning import Binning, CategoricalBins, NumericBins
from service.profiles.build import profile_features
from service.profiles.columns import Classes, Column, Kind
from service.profiles.freeze import freeze_binning
from service.profiles.merge import merge_features
from service.profiles.profile import ColumnProfile, FeatureProfile

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

ALPHA = 0.01
REFERENCE_ROWS = 5_000
LARGEST_SAMPLED = 10_000
SIZES = (100, 300, 320, 1_000, 10_000, 1_000_000)
EFFECTS = {"0": 0.0, "default": None}
DEFAULT_METHOD = DriftPolicy().method
SHIFT = 0.25
SHIFTED = "normal_0"
SHIFT_SIZES = (300, 1_000)
# Of how many windows what a window is compared with is made; 0: of the reference itself.
PERIODS = {"training": 0, "previous": 1, "trailing": 10, "seasonal": 4}
LARGEST_SAMPLED_PERIOD = 1_000
NO_SCORES = np.zeros((2, 1), dtype=np.int64)


@dataclass(frozen=True)
class Numbers:
    """Zero with probability ``zeros``, else a normal value or its exponential."""

    zeros: float
    exponential: bool

    def sample(self, rng: np.random.Generator, n: int) -> pa.Array:
        values = rng.standard_normal(n)
        if self.exponential:
            values = np.exp(values)
        values[rng.random(n) < self.zeros] = 0.0
        return pa.array(values)

    def probabilities(self, bins: NumericBins | CategoricalBins) -> Floats:
        from scipy.special import ndtr

        assert isinstance(bins, NumericBins)
        with np.errstate(divide="ignore"):
            edges = np.log(bins.edges) if self.exponential else bins.edges
        inner = np.diff(ndtr(edges), prepend=0.0, append=1.0)
        if not len(edges):
            inner = np.array([0.0, 1.0])
        atoms = np.where(bins.atoms == 0.0, self.zeros, 0.0)
        return np.concatenate((inner * (1 - self.zeros), atoms))


@dataclass(frozen=True)
class Categories:
    """Named values with the given probabilities."""

    shares: Floats

    @property
    def names(self) -> pa.Array:
        return pa.array([f"v{i}" for i in range(len(self.shares))])

    def sample(self, rng: np.random.Generator, n: int) -> pa.Array:
        codes = np.searchsorted(np.cumsum(self.shares)[:-1], rng.random(n), side="right")
        return self.names.take(pa.array(codes))

    def probabilities(self, bins: NumericBins | CategoricalBins) -> Floats:
        assert isinstance(bins, CategoricalBins)
        shares = dict(zip(self.names.to_pylist(), self.shares.tolist(), strict=True))
        top = [shares.pop(name) for name in bins.categories]
        rest = sum(shares.pop(name) for name in bins.rest)
        return np.array([*top, rest, sum(shares.values())])


def uniform(n: int) -> Categories:
    """Return ``n`` equally frequent categories."""
    return Categories(np.full(n, 1 / n))


def zipf(n: int) -> Categories:
    """Return ``n`` categories, the k-th with a frequency like 1/k."""
    shares = 1 / np.arange(1, n + 1)
    return Categories(shares / shares.sum())


CONSTANT = Numbers(1.0, exponential=False)
TWENTY: dict[str, Numbers | Categories] = {
    **{f"normal_{i}": Numbers(0.0, exponential=False) for i in range(4)},
    **{f"lognormal_{i}": Numbers(0.0, exponential=True) for i in range(4)},
    **{f"zeros_{share}": Numbers(share, exponential=True) for share in (0.03, 0.6, 0.95)},
    "constant": CONSTANT,
    **{f"uniform_{n}": uniform(n) for n in (10, 100, 300, 1_000)},
    **{f"zipf_{n}": zipf(n) for n in (10, 100, 300, 1_000)},
}


@dataclass(frozen=True)
class Reference:
    """A fresh reference with its edges."""

    columns: Sequence[Column]
    binning: Binning
    profile: FeatureProfile

    def places(self) -> dict[str, Floats]:
        """Return the mean value of each bin; the nearest value seen where no row is."""
        places = {}
        for name, column in self.profile.columns.items():
            bins = self.binning.columns.get(name)
            nearest = np.zeros(len(column.counts))
            if isinstance(bins, NumericBins) and bins.minimum is not None:
                nearest[0], nearest[max(len(bins.edges), 1)] = bins.minimum, bins.maximum
            rows = column.counts
            places[name] = np.divide(column.sums, rows, out=nearest, where=rows > 0)
        return places

    def chunks(self, rng: np.random.Generator, rows: int) -> list[FeatureProfile]:
        """Split the reference at random into chunks of at least ``rows`` rows each."""
        pieces = self.profile.rows // rows
        if pieces < 2:
            return []
        of_row = np.arange(self.profile.rows) * pieces // self.profile.rows
        tables = {}
        for name, column in self.profile.columns.items():
            bins = len(column.counts)
            labels = rng.permutation(np.repeat(np.arange(bins), column.counts))
            flat = np.bincount(of_row * bins + labels, minlength=pieces * bins)
            tables[name] = flat.reshape(pieces, bins)
        return [
            from_counts({name: table[k] for name, table in tables.items()}) for k in range(pieces)
        ]


def from_counts(
    counts: dict[str, Counts], places: dict[str, Floats] | None = None
) -> FeatureProfile:
    """Return a profile that holds counts, and sums where the mean of each bin is given."""
    columns = {}
    for name, rows in counts.items():
        nothing, n = np.zeros(len(rows)), int(rows.sum())
        sums = nothing if places is None else rows * places[name]
        columns[name] = ColumnProfile(
            rows, nothing, nothing, sums, 0, n, None, None, 0.0, 0.0, 0, {}
        )
    total = max((column.n for column in columns.values()), default=0)
    return FeatureProfile(total, float(total), columns, NO_SCORES, NO_SCORES.astype(np.float64))


Sources = dict[str, Numbers | Categories]


def a_table(rng: np.random.Generator, sources: Sources, rows: int) -> pa.Table:
    """Draw rows of all columns."""
    return pa.table({name: source.sample(rng, rows) for name, source in sources.items()})


def a_reference(rng: np.random.Generator, sources: Sources, rows: int) -> Reference:
    """Draw a reference and freeze its edges."""
    columns = [
        Column(name, Kind.NUMERIC if isinstance(source, Numbers) else Kind.CATEGORICAL)
        for name, source in sources.items()
    ]
    table = a_table(rng, sources, rows)
    binning = freeze_binning(table, columns, Classes("0", "1"))
    profile = profile_features(table, columns, binning)
    # No predictions are drawn, and a column without rows would be judged for nothing.
    kept = {name: binning.columns[name] for name in sources}
    return Reference(columns, Binning(kept, binning.output, binning.score_edges, None), profile)


def a_window(
    rng: np.random.Generator,
    sources: Sources,
    reference: Reference,
    rows: int,
    shift: float = 0.0,
    largest_sampled: int = LARGEST_SAMPLED,
) -> FeatureProfile:
    """Draw a window, directly as counts if it is large."""
    if rows > largest_sampled:
        bins = reference.binning.columns
        return from_counts(
            {
                name: rng.multinomial(rows, source.probabilities(bins[name]))
                for name, source in sources.items()
            },
            reference.places(),
        )
    table = a_table(rng, sources, rows)
    if shift:
        moved = pa.array(table[SHIFTED].to_numpy() + shift)
        table = table.set_column(table.column_names.index(SHIFTED), SHIFTED, moved)
    return profile_features(table, reference.columns, reference.binning)


def judge_window(
    seed: int,
    *,
    sources: Sources = TWENTY,
    sizes: Sequence[int] = SIZES,
    shift_sizes: Sequence[int] = SHIFT_SIZES,
    reference_rows: int = REFERENCE_ROWS,
    methods: Sequence[str] = (DEFAULT_METHOD,),
    periods: int = 0,
) -> Counter[tuple[str, ...]]:
    """Judge one window of each size against one fresh reference, and count the alerts.

    All methods judge the same windows: their rates are not independent of each other either.
    """
    rng = np.random.default_rng(seed)
    reference = a_reference(rng, sources, reference_rows)
    found: Counter[tuple[str, ...]] = Counter()
    for rows in (*sizes, *(-size for size in shift_sizes)):
        shift = SHIFT if rows < 0 else 0.0
        size = abs(rows)
        before, chunks, largest = reference.profile, reference.chunks(rng, size), LARGEST_SAMPLED
        if periods:
            largest = LARGEST_SAMPLED_PERIOD
            chunks = [
                a_window(rng, sources, reference, size, largest_sampled=largest)
                for _ in range(periods)
            ]
            before = merge_features(chunks)
            chunks = chunks if periods > 1 else []
        current = a_window(rng, sources, reference, size, shift, largest)
        for method, (effect, least) in product(methods, EFFECTS.items()):
            policy = DriftPolicy(method=method, alpha=ALPHA, min_effect=least)
            start = perf_counter()
            judged = judge_drift(reference.binning, before, chunks, current, policy)
            key = method, str(size), effect
            found["microseconds", *key] += round((perf_counter() - start) * 1e6)
            alerts = {m.subject: m.reason for m in judged if m.verdict is Verdict.ALERT}
            if shift:
                found["power", *key] += SHIFTED in alerts
                continue
            found["any", *key] += bool(alerts)
            found["rare", *key] += any("rare" in str(r) for r in alerts.values())
            for subject in alerts:
                found["column", *key, str(subject)] += 1
    return found


def run(
    seeds: Sequence[int], judge: Callable[[int], Counter[tuple[str, ...]]], processes: int
) -> Counter[tuple[str, ...]]:
    """Judge all windows and add up."""
    if processes <= 1:
        return sum(map(judge, seeds), Counter())
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return sum(pool.map(judge, seeds, chunksize=10), Counter())


def print_table(
    found: Counter[tuple[str, ...]], windows: int, method: str, *, columns: bool
) -> None:
    """Print the shares of one method as docs/figures.md shows them."""
    print(f"\n{method}\n")
    print("| rows | any drift alert, min_effect 0 | by rare cells | any, default min_effect | ms |")
    print("|---|---|---|---|---|")
    for rows in map(str, SIZES):
        key = method, rows
        shares = (
            found["any", *key, "0"], found["rare", *key, "0"], found["any", *key, "default"],
        )  # fmt: skip
        cells = " | ".join(f"{100 * share / windows:.2f} %" for share in shares)
        spent = found["microseconds", *key, "default"] / windows / 1e3
        print(f"| {int(rows):,} | {cells} | {spent:.1f} |")
    print(f"\n| rows | alert on {SHIFT} sd in one column, min_effect 0 | default |\n|---|---|---|")
    for rows in map(str, SHIFT_SIZES):
        powers = " | ".join(f"{found['power', method, rows, e] / windows:.3f}" for e in EFFECTS)
        print(f"| {int(rows):,} | {powers} |")
    if columns:
        for (what, *of), count in sorted(found.items()):
            if what == "column" and of[0] == method and of[2] == "0":
                print(*of[1:], count)


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--windows", type=int, default=2_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="100 windows instead of 2,000")
    parser.add_argument("--columns", action="store_true", help="alerts by column, too")
    parser.add_argument("--method", action="append", choices=("all", *METHODS))
    parser.add_argument("--reference", choices=PERIODS, default="training")
    options = parser.parse_args()
    asked = options.method or [DEFAULT_METHOD]
    methods = tuple(METHODS if "all" in asked else dict.fromkeys(asked))
    windows = 100 if options.quick else options.windows
    seeds = range(options.seed * 1_000_000, options.seed * 1_000_000 + windows)
    start = perf_counter()
    judge = partial(judge_window, methods=methods, periods=PERIODS[options.reference])
    found = run(seeds, judge, options.processes)
    print(f"{windows} windows a row, 20 columns, a fresh reference of {REFERENCE_ROWS} each")
    if options.reference != "training":
        print(f"for the edges; compared with {PERIODS[options.reference]} windows of the same size")
    for method in methods:
        print_table(found, windows, method, columns=options.columns)
    print(f"\n{perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
