"""How often quality alerts on healthy windows, and how often on broken ones.

    python -m tests.benchmarks.quality [--quick] [--windows 1000] [--processes 2]

Twenty columns of which half miss 10 % of their values, a fresh reference of 5,000 rows for every
window, five weeks of earlier windows whose rows vary by a third.  Above 10,000 rows counts are
drawn directly from the bins' probabilities; no two such rows are alike.  ``level`` is without any
tolerance: what chance alone does to the tests.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
import pyarrow as pa

from service.evaluation.measurement import Measurement, Verdict
from service.evaluation.quality import QualityPolicy, judge_quality
from service.evaluation.traffic import Earlier, Traffic
from service.profiles.binning import NumericBins
from service.profiles.build import profile_features
from service.profiles.contents import sketch_contents
from service.profiles.profile import ColumnProfile, FeatureProfile
from tests.benchmarks.false_alarms import (
    ALPHA,
    LARGEST_SAMPLED,
    REFERENCE_ROWS,
    TWENTY,
    Reference,
    a_reference,
    a_table,
    a_window,
    run,
)

SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
BROKEN_SIZES = (100, 1_000, 10_000)
MISSING = 0.1
NO_TOLERANCE = QualityPolicy(alpha=ALPHA, missing=0.0, out_of_range=0.0, unseen=0.0, duplicates=0.0)
DEFAULT = QualityPolicy(alpha=ALPHA)
BROKEN = {
    "missing_ratio": "40 % of a column missing",
    "constant": "a column stands still",
    "unit_change": "metres for feet in a column",
    "duplicate_ratio": "10 % of the rows sent twice",
    "rows": "30 % of the usual rows",
}
NUMBER = "lognormal_0"


def with_gaps(rng: np.random.Generator, table: pa.Table, share: float = MISSING) -> pa.Table:
    """Take values out of every other column."""
    for position, name in list(enumerate(table.column_names))[::2]:
        values = table[name].combine_chunks()
        gaps = pa.array(rng.random(len(values)) < share)
        table = table.set_column(position, name, pa.compute.if_else(gaps, None, values))
    return table


def drawn(rng: np.random.Generator, reference: Reference, rows: int) -> FeatureProfile:
    """Draw a large healthy window as counts, with what quality needs beside them."""
    whole = a_window(rng, TWENTY, reference, rows)
    columns: dict[str, ColumnProfile] = {}
    for position, (name, column) in enumerate(whole.columns.items()):
        missing = int(rng.binomial(rows, MISSING)) if position % 2 == 0 else 0
        counts = column.counts - rng.multivariate_hypergeometric(column.counts, missing)
        bins, outside = reference.binning.columns[name], 0
        if isinstance(bins, NumericBins):
            outside = int(counts[0] + counts[max(len(bins.edges) - 1, 0) + 1])
        filled = np.flatnonzero(counts)
        low, high = (0.0, 1.0) if len(filled) > 1 else (0.0, 0.0)
        columns[name] = replace(
            column, counts=counts, missing=missing, n=rows - missing, out_of_range=outside,
            minimum=low, maximum=high,
        )  # fmt: skip
    hashes = rng.integers(0, 2**63, rows // 100).astype(np.uint64) // np.uint64(100)
    contents = replace(sketch_contents(hashes), rows=rows)
    return replace(whole, columns=columns, contents=contents)


def healthy(rng: np.random.Generator, reference: Reference, rows: int) -> FeatureProfile:
    """Draw a healthy window."""
    if rows > LARGEST_SAMPLED:
        return drawn(rng, reference, rows)
    return profile(reference, with_gaps(rng, a_table(rng, TWENTY, rows)))


def profile(reference: Reference, table: pa.Table) -> FeatureProfile:
    """Profile rows under the reference's edges."""
    return profile_features(table, reference.columns, reference.binning)


def broken(rng: np.random.Generator, reference: Reference, rows: int, what: str) -> FeatureProfile:
    """Draw a window that is broken in one way."""
    table = with_gaps(rng, a_table(rng, TWENTY, rows))
    position = table.column_names.index(NUMBER)
    values = table[NUMBER].to_numpy(zero_copy_only=False)
    if what == "missing_ratio":
        values = np.where(rng.random(rows) < 0.4, np.nan, values)
    elif what == "constant":
        values = np.full(rows, values[~np.isnan(values)][0])
    elif what == "unit_change":
        values = values * 0.3048
    elif what == "duplicate_ratio":
        table = pa.concat_tables([table.slice(0, rows - rows // 10), table.slice(0, rows // 10)])
        return profile(reference, table)
    values = pa.array(values, from_pandas=True)
    return profile(reference, table.set_column(position, NUMBER, values))


def traffic(rng: np.random.Generator, rows: int, share: float = 1.0) -> Traffic:
    """Draw five weeks of days before a window that has ``share`` of its rows."""
    week = np.array([1.0, 1.0, 1.0, 1.0, 0.9, 0.4, 0.3])
    usual = rows / share / rng.gamma(10, 0.1)
    earlier = rng.poisson(usual * np.tile(week, 5) * rng.gamma(10, 0.1, 35))
    return Traffic(earlier=Earlier(tuple(earlier[::-1].tolist()), 7, 1, 24.0))


def judge_window(seed: int, *, sizes: Sequence[int] = SIZES) -> Counter[tuple[str, ...]]:
    """Judge a healthy window of each size, and broken ones, against one fresh reference."""
    rng = np.random.default_rng(seed)
    made = a_reference(rng, TWENTY, REFERENCE_ROWS)
    table = with_gaps(rng, a_table(rng, TWENTY, REFERENCE_ROWS))
    reference = a_reference_of(made, table)
    found: Counter[tuple[str, ...]] = Counter()
    for rows in sizes:
        current = healthy(rng, reference, rows)
        before = traffic(rng, rows)
        for name, policy in (("level", NO_TOLERANCE), ("default", DEFAULT)):
            start = perf_counter()
            judged = judge(reference, current, policy, before)
            found["microseconds", name, str(rows)] += round((perf_counter() - start) * 1e6)
            alerts = {m.metric for m in judged if m.verdict is Verdict.ALERT}
            found["any", name, str(rows)] += bool(alerts)
            for metric in alerts:
                found["metric", name, str(rows), metric] += 1
    for rows in BROKEN_SIZES:
        for what in BROKEN:
            window = broken(rng, reference, rows, what)
            before = traffic(rng, rows, 0.3 if what == "rows" else 1.0)
            judged = judge(reference, window, DEFAULT, before)
            found["power", str(rows), what] += any(
                m.metric == what and m.verdict is Verdict.ALERT for m in judged
            )
    return found


def a_reference_of(made: Reference, table: pa.Table) -> Reference:
    """Freeze the edges of a table with the columns of another reference."""
    from service.profiles.columns import Classes
    from service.profiles.freeze import freeze_binning

    binning = freeze_binning(table, made.columns, Classes("0", "1"))
    kept = {name: binning.columns[name] for name in table.column_names}
    binning = replace(binning, columns=kept, score_bins=None)
    return Reference(made.columns, binning, profile_features(table, made.columns, binning))


def judge(
    reference: Reference, current: FeatureProfile, policy: QualityPolicy, before: Traffic
) -> list[Measurement]:
    """Judge a window."""
    return judge_quality(
        reference.binning, reference.profile, [], current, policy,
        columns=reference.columns, traffic=before,
    )  # fmt: skip


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--windows", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="100 windows instead of 1,000")
    options = parser.parse_args()
    windows = 100 if options.quick else options.windows
    seeds = range(options.seed * 1_000_000, options.seed * 1_000_000 + windows)
    start = perf_counter()
    found = run(seeds, judge_window, options.processes)
    print(f"{windows} windows a row, alpha {ALPHA:.0%}, a fresh reference of {REFERENCE_ROWS} each")
    print(
        "\n| rows | any alert without tolerance | any, default tolerances | ms |\n|---|---|---|---|"
    )
    for rows in map(str, SIZES):
        shares = [f"{100 * found['any', n, rows] / windows:.2f} %" for n in ("level", "default")]
        spent = found["microseconds", "default", rows] / windows / 1e3
        print(f"| {int(rows):,} | {' | '.join(shares)} | {spent:.1f} |")
    print(f"\n| one column of 20 | {' | '.join(f'{rows:,}' for rows in BROKEN_SIZES)} |")
    print("|---" * (len(BROKEN_SIZES) + 1) + "|")
    for what, told in BROKEN.items():
        powers = [f"{found['power', str(rows), what] / windows:.3f}" for rows in BROKEN_SIZES]
        print(f"| {told} | {' | '.join(powers)} |")
    for key, count in sorted(found.items()):
        if key[0] == "metric":
            print(*key[1:], count)
    print(f"\n{perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
