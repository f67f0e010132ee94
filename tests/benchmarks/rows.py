"""How often the verdicts on rows alert without a change: multivariate, and Evidently's scores.

    python -m tests.benchmarks.rows [--windows 200] [--sizes 100 1000] [--only multivariate]

Every window has a fresh reference.  A column that is watched by one of Evidently's tests alerts
where our own test of chance alerts, too, so that Evidently is asked about such windows alone.  A
window of more than 10,000 rows is a sample of so many.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from time import perf_counter

import numpy as np
import pyarrow as pa

from service.detection.evidently_methods import DEFAULT_METHODS, METHODS, PREFIX
from service.evaluation.drift import judge_drift
from service.evaluation.drift_columns import DriftPolicy
from service.evaluation.evidently import measure
from service.evaluation.evidently_drift import by_chance_alone, judge_by_scores
from service.evaluation.measurement import Verdict
from service.evaluation.multivariate import (
    MultivariatePolicy,
    judge_classifier,
    judge_embeddings,
    judge_reconstruction,
)
from service.evaluation.performance import PerformancePolicy
from service.evaluation.quality import QualityPolicy
from service.evaluation.rows import Sampled
from service.evaluation.window import Policies
from service.profiles.build import profile_features
from service.profiles.columns import Classes, Column, Kind
from service.profiles.freeze import freeze_binning
from tests.benchmarks.false_alarms import ALPHA, TWENTY, Numbers, a_table

REFERENCE_ROWS = 2_000
SIZES = (100, 1_000, 10_000)
MOST_FOR_EVIDENTLY = 1_000
MIXED = {
    name: TWENTY[name]
    for name in ("normal_0", "normal_1", "lognormal_0", "zeros_0.6", "zipf_10", "uniform_100")
}
JUDGES = {
    "classifier": judge_classifier,
    "reconstruction": judge_reconstruction,
    "embeddings": judge_embeddings,
}
POLICIES = Policies(
    DriftPolicy(alpha=ALPHA),
    QualityPolicy(),
    PerformancePolicy(),
    multivariate=MultivariatePolicy(alpha=ALPHA),
)
VECTOR = Column("vector", Kind.EMBEDDING)


def columns_of(table: pa.Table) -> list[Column]:
    """Return the columns of the sources."""
    return [
        Column(name, Kind.NUMERIC if isinstance(TWENTY[name], Numbers) else Kind.CATEGORICAL)
        for name in table.column_names
        if name in TWENTY
    ]


def mixed_rows(rng: np.random.Generator, rows: int) -> pa.Table:
    """Draw mixed columns, of which two hang together, and vectors."""
    table = a_table(rng, MIXED, rows)
    together = 0.7 * table["normal_0"].to_numpy() + 0.7 * table["normal_1"].to_numpy()
    table = table.set_column(table.column_names.index("normal_1"), "normal_1", pa.array(together))
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=rows * 16)), 16)
    return table.append_column(VECTOR.name, vectors)


def multivariate(seed: int, rows: int) -> Counter[str]:
    """Judge one window: alerts, and what is beyond chance however small."""
    rng = np.random.default_rng(seed)
    before, now = mixed_rows(rng, REFERENCE_ROWS), mixed_rows(rng, rows)
    columns = (*columns_of(before), VECTOR)
    sampled = Sampled(before, now, columns, freeze_binning(before, [], Classes("0", "1")))
    found: Counter[str] = Counter()
    for name, judge in JUDGES.items():
        began = perf_counter()
        judged = judge(sampled, POLICIES)
        found[f"{name}, ms"] += round(1e3 * (perf_counter() - began))
        found[f"{name}, beyond chance"] += any((m.p_value or 1.0) < ALPHA for m in judged)
        found[f"{name}, alert"] += any(m.verdict is Verdict.ALERT for m in judged)
    for what in ("beyond chance", "alert"):
        found[f"any, {what}"] = any(found[f"{name}, {what}"] for name in JUDGES)
    return found


def evidently(seed: int, rows: int) -> Counter[str]:
    """Judge twenty columns of one window by each of Evidently's tests."""
    rng = np.random.default_rng(seed)
    before, now = a_table(rng, TWENTY, 5_000), a_table(rng, TWENTY, rows)
    columns = columns_of(before)
    binning = freeze_binning(before, columns, Classes("0", "1"))
    reference, current = (profile_features(side, columns, binning) for side in (before, now))
    found: Counter[str] = Counter()
    asked = [name for name, method in METHODS.items() if method.kinds]
    policies = {name: DriftPolicy(method=PREFIX + name, alpha=ALPHA) for name in asked}
    alone = by_chance_alone(list(binning.columns), policies[asked[0]])
    judged = judge_drift(binning, reference, [], current, alone)
    alerting = {m.subject for m in judged if m.verdict is Verdict.ALERT}
    found["our own test of chance"] = bool(alerting)
    watched = [column for column in columns if column.name in alerting]
    for name in asked if watched else ():
        methods = {
            kind: name if any(k.value == kind for k in METHODS[name].kinds) else default
            for kind, default in DEFAULT_METHODS.items()
        }
        scores = measure(before, now, watched, methods)
        verdicts = {m.verdict for m in judge_by_scores(judged, policies[name], scores)}
        found[PREFIX + name] = Verdict.ALERT in verdicts
    return found


def main() -> None:
    """Print the shares of windows that alert."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("multivariate", "evidently"))
    options = parser.parse_args()
    seeds = range(options.seed * 1_000_000, options.seed * 1_000_000 + options.windows)
    print(f"alpha {ALPHA:.0%}, {len(seeds)} windows, a fresh reference for each")
    for rows in options.sizes:
        if options.only != "evidently":
            show(f"multivariate, {rows:,} rows", [multivariate(seed, rows) for seed in seeds])
        if options.only != "multivariate" and rows <= MOST_FOR_EVIDENTLY:
            show(f"evidently, {rows:,} rows", [evidently(seed, rows) for seed in seeds])


def show(title: str, windows: Sequence[Counter[str]]) -> None:
    """Print one table, with what was never found."""
    print(f"\n{title}")
    for name in sorted(set().union(*windows)):
        mean = sum(found[name] for found in windows) / len(windows)
        shown = f"{mean:.0f}" if name.endswith("ms") else f"{mean:.2%}"
        print(f"  {name}: {shown}", flush=True)


if __name__ == "__main__":
    main()
