"""Drift verdicts on windows that are drawn, drifted and degenerate."""

from collections import Counter
from functools import partial
from math import isfinite

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import ks_2samp, wasserstein_distance

from service.detection.methods import METHODS
from service.evaluation.drift import drift_warnings, judge_drift
from service.evaluation.drift_columns import ColumnDriftPolicy, DriftPolicy
from service.evaluation.importance import Importance
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.profiles.build import profile_features
from service.profiles.columns import Classes, Column, Kind
from service.profiles.freeze import freeze_binning
from service.profiles.merge import empty_features
from tests.benchmarks.false_alarms import EFFECTS, SHIFTED, TWENTY, judge_window, run

CLASSES = Classes("0", "1")


def judge_column(
    old: pa.Array | list[object] | np.ndarray,
    new: pa.Array | list[object] | np.ndarray,
    kind: Kind = Kind.NUMERIC,
    *,
    chunks: int = 0,
    policy: DriftPolicy | None = None,
) -> Measurement:
    columns = [Column("x", kind)]
    before, after = pa.table({"x": pa.array(old)}), pa.table({"x": pa.array(new)})
    binning = freeze_binning(before, columns, CLASSES)
    profile = partial(profile_features, columns=columns, binning=binning)
    size = before.num_rows // max(chunks, 1)
    pieces = [profile(before.slice(i * size, size)) for i in range(chunks)]
    found = judge_drift(binning, profile(before), pieces, profile(after), policy or DriftPolicy())
    return next(m for m in found if m.subject == "x")


def texts(**counts: int) -> list[object]:
    return [name for name, count in counts.items() for _ in range(count)]


def normal(seed: int, n: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, n)


def test_a_shifted_column_is_an_alert_with_score_threshold_and_p_value() -> None:
    found = judge_column(normal(1, 5000), normal(2, 1000, mean=1.0))
    assert found.verdict is Verdict.ALERT
    assert found.value is not None
    assert found.threshold is not None
    assert found.p_value is not None
    assert found.value > found.threshold >= 0.1
    assert found.p_value < 1e-20
    assert found.detectable_effect is not None
    assert 0.1 < found.detectable_effect < found.value
    assert (found.metric, found.method, found.n, found.n_reference) == (
        "drift", "jensen_shannon", 1000, 5000,
    )  # fmt: skip
    assert found.direction is Direction.HIGHER_IS_WORSE
    assert "jensen_shannon" in str(found.reason)


def test_a_window_with_the_reference_itself_is_ok_and_zero() -> None:
    values = normal(1, 3000)
    found = judge_column(values, values)
    assert (found.verdict, found.value) == (Verdict.OK, 0.0)


def test_a_change_that_is_certain_but_small_is_ok_until_the_minimum_effect_is_lowered() -> None:
    old, new = normal(1, 200_000), normal(2, 200_000, mean=0.05)
    assert judge_column(old, new).verdict is Verdict.OK
    assert judge_column(old, new, policy=DriftPolicy(min_effect=0.0)).verdict is Verdict.ALERT


def test_a_large_distance_in_a_small_window_may_be_chance() -> None:
    found = judge_column(normal(1, 5000), normal(3, 100), policy=DriftPolicy(min_effect=0.01))
    assert found.value is not None
    assert found.value > 0.01
    assert found.verdict is Verdict.OK


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mean", [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.4])
@pytest.mark.parametrize("seed", range(4))
def test_a_column_alerts_exactly_where_its_score_passes_the_threshold_shown(
    method: str, mean: float, seed: int
) -> None:
    policy = DriftPolicy(method=method, min_effect=0.05)
    found = judge_column(normal(seed, 2000), normal(seed + 9, 1500, mean), policy=policy)
    assert found.method == method
    assert found.value is not None
    assert found.threshold is not None
    assert (found.value >= found.threshold) == (found.verdict is Verdict.ALERT)


def test_more_columns_raise_the_bar_for_each_of_them() -> None:
    rng = np.random.default_rng(6)
    names = [f"x{i}" for i in range(30)]
    old = pa.table({name: rng.normal(size=2000) for name in names})
    new = pa.table({name: rng.normal(i / 100, 1, 1500) for i, name in enumerate(names)})
    columns = [Column(name, Kind.NUMERIC) for name in names]
    thresholds = []
    for few in (columns[:1], columns):
        binning = freeze_binning(old, few, CLASSES)
        before, after = (profile_features(rows, few, binning) for rows in (old, new))
        found = judge_drift(binning, before, [], after, DriftPolicy(min_effect=0.0))[:-1]
        thresholds.append(found[0].threshold or 0.0)
        for m in found:
            assert m.value is not None
            assert m.threshold is not None
            assert (m.value >= m.threshold) == (m.verdict is Verdict.ALERT)
    assert thresholds[1] > 1.05 * thresholds[0]


def test_a_rare_category_that_triples_is_named() -> None:
    old = texts(common=4000, other=950, rare=50)
    new = texts(common=790, other=179, rare=31)
    found = judge_column(old, new, Kind.CATEGORICAL)
    assert found.verdict is Verdict.ALERT
    assert found.value is not None
    assert found.value < 0.1, "the distance hides it"
    assert found.reason == "rare category rare: 1.0 % -> 3.1 %"


def test_of_many_changed_rare_categories_the_three_surest_are_named() -> None:
    rare = {f"r{i}": 100 for i in range(20)}
    grown = {f"r{i}": 30 * (i + 1) for i in range(20)}
    found = judge_column(texts(common=8000, **rare), texts(common=8000, **grown), Kind.CATEGORICAL)
    named = [part.split(":")[0] for part in str(found.reason).split("; ")[1:]]
    assert named == ["rare category r19", "rare category r18", "rare category r17"]


def test_a_rare_category_that_grows_by_less_than_the_ratio_is_ok() -> None:
    old, new = texts(common=49_000, rare=1_000), texts(common=48_200, rare=1_800)
    assert judge_column(old, new, Kind.CATEGORICAL).verdict is Verdict.OK
    policy = DriftPolicy(rare_ratio=1.5)
    assert judge_column(old, new, Kind.CATEGORICAL, policy=policy).verdict is Verdict.ALERT


def test_a_rare_atom_of_a_numeric_column_is_named_by_its_value() -> None:
    old = np.concatenate((normal(1, 9700), np.full(300, 99.0)))
    new = np.concatenate((normal(2, 1820), np.full(180, 99.0)))
    assert "rare value 99: 3.0 % -> 9.0 %" in str(judge_column(old, new).reason)


def test_a_rare_category_that_jumps_in_the_reference_as_well_is_its_own_variability() -> None:
    chunks = [texts(common=1000 - k, rare=k) for k in (0, 60, 5, 40, 0, 55, 3, 50, 0, 30)]
    old = [value for chunk in chunks for value in chunk]
    new = texts(common=945, rare=55)
    assert judge_column(old, new, Kind.CATEGORICAL).verdict is Verdict.ALERT
    assert judge_column(old, new, Kind.CATEGORICAL, chunks=10).verdict is Verdict.OK


def test_months_that_differ_in_the_reference_do_not_drift_from_it() -> None:
    rng = np.random.default_rng(4)
    old = np.concatenate([rng.normal(rng.normal(0, 0.3), 1, 1000) for _ in range(20)])
    new = rng.normal(0.45, 1, 1000)
    assert judge_column(old, new).verdict is Verdict.ALERT
    assert judge_column(old, new, chunks=20).verdict is Verdict.OK
    assert judge_column(old, rng.normal(3, 1, 1000), chunks=20).verdict is Verdict.ALERT


def test_a_new_value_in_a_constant_column_is_drift() -> None:
    found = judge_column(np.full(1000, 5.0), np.full(200, 7.0))
    assert (found.verdict, found.value) == (Verdict.ALERT, 1.0)


def test_a_constant_column_that_stays_constant_is_ok() -> None:
    assert judge_column(np.full(1000, 5.0), np.full(200, 5.0)).verdict is Verdict.OK


def test_missing_values_are_no_drift() -> None:
    values = normal(1, 2000).tolist()
    found = judge_column(values, [v if i % 2 else None for i, v in enumerate(values)])
    assert (found.verdict, found.n) == (Verdict.OK, 1000)


def test_too_few_rows_are_no_verdict_whatever_they_say() -> None:
    found = judge_column(normal(1, 1000), normal(1, 99, mean=9))
    assert found.verdict is Verdict.INSUFFICIENT_DATA
    assert found.reason == "99 rows have a value, fewer than 100"
    assert found.detectable_effect is None
    found = judge_column(normal(1, 99), normal(1, 1000, mean=9))
    assert found.reason == "99 rows of the reference have a value, fewer than 100"


def test_a_column_of_nothing_but_rare_categories_is_no_verdict() -> None:
    names = [f"id{i}" for i in range(1000)]
    found = judge_column(names, names[::2], Kind.CATEGORICAL)
    assert (found.verdict, found.value) == (Verdict.INSUFFICIENT_DATA, None)
    assert found.reason == "every category has less than 2.0 % of the rows"


DEGENERATE: dict[str, tuple[Kind, pa.Array]] = {
    "constant": (Kind.NUMERIC, pa.array(np.full(500, 3.0))),
    "all missing": (Kind.NUMERIC, pa.nulls(500, pa.float64())),
    "all missing texts": (Kind.CATEGORICAL, pa.nulls(500, pa.string())),
    "no type": (Kind.CATEGORICAL, pa.nulls(500)),
    "a single value": (Kind.CATEGORICAL, pa.array(["a"] * 500)),
    "one row": (Kind.NUMERIC, pa.array([1.0])),
    "one text": (Kind.CATEGORICAL, pa.array(["a"])),
    "empty": (Kind.NUMERIC, pa.array([], pa.float64())),
    "empty texts": (Kind.CATEGORICAL, pa.array([], pa.string())),
    "infinite": (Kind.NUMERIC, pa.array([np.inf, -np.inf, np.nan] * 200)),
    "some infinite": (Kind.NUMERIC, pa.array([np.inf, 1.0, 2.0, 1e308, -1e308] * 100)),
    "100,000 categories": (Kind.CATEGORICAL, pa.array([f"v{i}" for i in range(100_000)])),
    "true": (Kind.BOOLEAN, pa.array([True] * 500)),
    "normal": (Kind.NUMERIC, pa.array(normal(0, 500))),
}


@pytest.mark.parametrize("old", DEGENERATE)
@pytest.mark.parametrize("new", DEGENERATE)
@pytest.mark.parametrize("method", METHODS)
def test_any_column_gets_a_verdict_or_null_with_a_reason(old: str, new: str, method: str) -> None:
    (kind, before), (other, after) = DEGENERATE[old], DEGENERATE[new]
    if kind is not other:
        return
    policy = DriftPolicy(method=method, min_rows=1)
    found = judge_column(before, after, kind, chunks=3, policy=policy)
    assert found.verdict is not None
    assert found.value is None or isfinite(found.value)
    assert found.value is not None or found.reason
    if found.verdict is Verdict.INSUFFICIENT_DATA:
        assert found.reason


def test_a_column_that_the_window_lacks_has_no_value() -> None:
    columns = [Column("x", Kind.NUMERIC)]
    rows = pa.table({"x": normal(1, 500)})
    binning = freeze_binning(rows, columns, CLASSES)
    reference = profile_features(rows, columns, binning)
    found = judge_drift(binning, reference, [], empty_features(binning), DriftPolicy())
    assert {m.verdict for m in found} == {Verdict.INSUFFICIENT_DATA}
    assert {m.value for m in found} == {None}


def test_columns_may_be_ignored_or_have_their_own_method_and_effect() -> None:
    own = {"x": ColumnDriftPolicy(method="psi", min_effect=0.7)}
    found = judge_column(normal(1, 500), normal(2, 500), policy=DriftPolicy(columns=own))
    assert (found.method, found.threshold) == ("psi", 0.7)
    ignored = DriftPolicy(columns={"x": ColumnDriftPolicy(ignore=True)})
    with pytest.raises(StopIteration):
        judge_column(normal(1, 500), normal(2, 500), policy=ignored)


def test_a_category_is_measured_by_what_stands_in_for_an_order() -> None:
    old, new = texts(a=500, b=500), texts(a=300, b=700)
    for method in ("ks", "wasserstein"):
        found = judge_column(old, new, Kind.CATEGORICAL, policy=DriftPolicy(method=method))
        assert (found.method, found.verdict) == ("total_variation", Verdict.ALERT)
        assert found.value == pytest.approx(0.2)
        assert found.reason is not None
        assert found.reason.startswith("total_variation 0.200")


def test_a_constant_has_no_deviation_to_measure_a_distance_by() -> None:
    policy = DriftPolicy(method="wasserstein")
    found = judge_column(np.full(1000, 0.1), np.full(200, 0.1), policy=policy)
    assert (found.method, found.value, found.verdict) == ("total_variation", 0.0, Verdict.OK)
    found = judge_column(np.full(1000, 0.1), np.full(200, 0.2), policy=policy)
    assert (found.method, found.value, found.verdict) == ("total_variation", 1.0, Verdict.ALERT)


@pytest.mark.parametrize("shift", [0.0, 0.2, -1.0, 8.0])
def test_the_wasserstein_distance_of_the_profiles_is_close_to_that_of_the_rows(
    shift: float,
) -> None:
    old, new = np.exp(normal(1, 5000)), np.exp(normal(2, 2000)) + shift
    found = judge_column(old, new, policy=DriftPolicy(method="wasserstein"))
    expected = wasserstein_distance(old, new) / old.std()
    assert found.value == pytest.approx(expected, abs=0.02, rel=0.02)
    assert found.method == "wasserstein"


@pytest.mark.parametrize("shift", [0.2, -1.0, 8.0])
def test_the_ks_distance_of_the_profiles_is_close_to_that_of_the_rows(shift: float) -> None:
    old, new = normal(1, 5000), normal(2, 2000) + shift
    found = judge_column(old, new, policy=DriftPolicy(method="ks"))
    assert found.value == pytest.approx(ks_2samp(old, new).statistic, abs=0.02)


def test_a_reference_smaller_than_the_window_is_worth_a_warning() -> None:
    columns = [Column("x", Kind.NUMERIC)]
    small, large = pa.table({"x": normal(1, 200)}), pa.table({"x": normal(2, 300)})
    binning = freeze_binning(small, columns, CLASSES)
    a, b = (profile_features(rows, columns, binning) for rows in (small, large))
    assert not drift_warnings(b, a)
    assert "200 rows" in drift_warnings(a, b)[0]


def test_undrifted_windows_rarely_alert_and_a_quarter_of_a_deviation_mostly_does() -> None:
    windows, sizes = 40, (100, 1_000, 1_000_000)
    judge = partial(judge_window, sizes=sizes, shift_sizes=(1_000,))
    found: Counter[tuple[str, ...]] = run(range(windows), judge, 1)
    for effect in EFFECTS:
        alerts = sum(found["any", "jensen_shannon", str(rows), effect] for rows in sizes)
        # 120 windows at 1 %: more than 6 alerts have a probability of 3e-4.
        assert alerts <= 6
        assert found["power", "jensen_shannon", "1000", effect] >= 0.8 * windows
    assert SHIFTED in TWENTY
    assert len(TWENTY) == 20


def test_undrifted_windows_rarely_alert_whatever_the_method() -> None:
    windows, sizes = 12, (100, 1_000, 1_000_000)
    judge = partial(judge_window, sizes=sizes, shift_sizes=(1_000,), methods=tuple(METHODS))
    found: Counter[tuple[str, ...]] = run(range(100, 100 + windows), judge, 1)
    for method in METHODS:
        for effect in EFFECTS:
            # 36 windows at 1 %: more than 3 alerts have a probability of 6e-4.
            assert sum(found["any", method, str(rows), effect] for rows in sizes) <= 3
        assert found["power", method, "1000", "0"] >= 0.75 * windows


def test_the_minimum_effect_of_an_important_feature_is_smaller_but_for_its_own() -> None:
    def threshold(share: float, **own: float) -> float:
        columns = {"x": ColumnDriftPolicy(min_effect=own["own"])} if own else {}
        policy = DriftPolicy(columns=columns, importance=Importance({"x": share, "y": 1 - share}))
        found = judge_column(normal(1, 20_000), normal(2, 20_000), policy=policy)
        assert found.threshold is not None
        return found.threshold

    assert threshold(0.5) == 0.1
    assert threshold(1.0) == 0.05
    assert threshold(0.4) == pytest.approx(0.125)
    assert threshold(0.01) == 0.2
    assert threshold(1.0, own=0.1) == 0.1
