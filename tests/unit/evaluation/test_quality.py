from bisect import bisect_left
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom, binomtest

from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.quality import QualityPolicy, judge_quality, judge_traffic
from service.evaluation.quality_rows import traffic_warnings
from service.evaluation.traffic import Earlier, Traffic
from service.profiles.build import profile_features
from service.profiles.columns import Classes, Column, Kind
from service.profiles.freeze import freeze_binning
from service.profiles.merge import empty_features
from service.profiles.profile import NO_CONTENTS, REGRESSION_SUMS, RegressionProfile

CLASSES = Classes("0", "1")


def judge(
    old: object,
    new: object,
    column: Column,
    *,
    chunks: int = 0,
    policy: QualityPolicy | None = None,
) -> dict[str, Measurement]:
    before, after = (pa.table({column.name: pa.array(values)}) for values in (old, new))
    binning = freeze_binning(before, [column], CLASSES)
    profile = partial(profile_features, columns=[column], binning=binning)
    size = before.num_rows // max(chunks, 1)
    pieces = [profile(before.slice(i * size, size)) for i in range(chunks)]
    found = judge_quality(
        binning, profile(before), pieces, profile(after), policy or QualityPolicy(),
        columns=[column],
    )  # fmt: skip
    return {m.metric: m for m in found}


NUMBER = Column("x", Kind.NUMERIC)
TEXT = Column("x", Kind.CATEGORICAL)


def with_missing(rows: int, missing: int) -> list[float | None]:
    return [None] * missing + [float(i % 100) for i in range(rows - missing)]


def test_rows_are_information() -> None:
    found = judge(with_missing(500, 0), with_missing(300, 0), NUMBER)["rows"]
    assert (found.value, found.verdict, found.direction) == (300, None, Direction.INFORMATION)


def test_missing_beyond_the_tolerance_is_an_alert_and_within_it_is_not() -> None:
    old = with_missing(1000, 20)
    within = judge(old, with_missing(1000, 69), NUMBER)["missing_ratio"]
    beyond = judge(old, with_missing(1000, 71), NUMBER)["missing_ratio"]
    assert (within.value, within.reference_value) == (0.069, 0.02)
    assert within.threshold == pytest.approx(0.07)
    assert within.verdict is Verdict.OK
    assert beyond.verdict is Verdict.ALERT
    assert beyond.reason == "7.1 % is beyond 7.0 %"


def test_missing_beyond_the_tolerance_in_few_rows_may_be_chance() -> None:
    found = judge(with_missing(120, 2), with_missing(100, 7), NUMBER)["missing_ratio"]
    assert found.value is not None
    assert found.threshold is not None
    assert found.value > found.threshold
    assert found.verdict is Verdict.OK


def test_a_column_that_is_nearly_always_missing_can_still_get_worse() -> None:
    found = judge(with_missing(10_000, 9_700), with_missing(1000, 1000), NUMBER)
    assert found["missing_ratio"].threshold == pytest.approx(0.985)
    assert found["missing_ratio"].verdict is Verdict.ALERT
    assert found["out_of_range_ratio"].verdict is Verdict.INSUFFICIENT_DATA
    assert found["out_of_range_ratio"].value is None


def test_missing_that_comes_and_goes_in_the_reference_is_its_own_variability() -> None:
    old = [value for k in (0, 300, 10, 200, 0) for value in with_missing(1000, k)] * 2
    new = with_missing(1000, 250)
    assert judge(old, new, NUMBER)["missing_ratio"].verdict is Verdict.ALERT
    assert judge(old, new, NUMBER, chunks=10)["missing_ratio"].verdict is Verdict.OK


def test_values_beyond_the_reference_are_an_alert() -> None:
    old, new = np.linspace(0, 1, 1000), np.linspace(0, 1.05, 1000)
    found = judge(old, new, NUMBER)["out_of_range_ratio"]
    assert found.value == pytest.approx(0.047, abs=0.002)
    assert (found.verdict, found.method) == (Verdict.ALERT, "beta_binomial")


def test_beyond_a_short_reference_lies_much_by_chance() -> None:
    old, new = np.linspace(0, 1, 100), np.linspace(0, 1.05, 1000)
    assert judge(old, new, NUMBER)["out_of_range_ratio"].verdict is Verdict.OK


def test_beyond_a_declared_range_only_the_tolerance_counts() -> None:
    declared = Column("x", Kind.NUMERIC, 0.0, 1.0)
    old = np.linspace(0.4, 0.6, 500)
    inside = judge(old, np.linspace(0, 1, 1000), declared)["out_of_range_ratio"]
    outside = judge(old, np.linspace(0, 1.05, 1000), declared)["out_of_range_ratio"]
    assert (inside.value, inside.verdict, inside.method) == (0.0, Verdict.OK, "binomial")
    assert outside.verdict is Verdict.ALERT
    # 13 of 1,000 are beyond 1 %, but chance at 1 % gives as many in one window of five.
    few = judge(old, np.append(np.full(987, 0.5), np.full(13, 2.0)), declared)
    assert few["out_of_range_ratio"].verdict is Verdict.OK


def test_scores_beyond_the_reference_are_no_broken_input() -> None:
    before, after = (
        pa.table({"score": [low + i / 1000 for i in range(400)], "prediction": ["0"] * 400})
        for low in (0.1, 0.6)
    )
    binning = freeze_binning(before, [], CLASSES)
    profile = partial(profile_features, columns=[], binning=binning)
    found = judge_quality(binning, profile(before), [], profile(after), QualityPolicy(), columns=[])
    assert "missing_ratio" in {m.metric for m in found if m.subject == "score"}
    assert [m.metric for m in found if m.verdict is Verdict.ALERT] == []


def test_new_values_are_an_alert() -> None:
    old, new = ["a", "b"] * 500, ["a"] * 480 + ["c"] * 20
    found = judge(old, new, TEXT)["unseen_ratio"]
    assert (found.value, found.reference_value, found.verdict) == (0.04, 0.0, Verdict.ALERT)


def test_new_values_of_a_column_that_always_has_new_ones_are_expected() -> None:
    rng = np.random.default_rng(8)

    def draw(rows: int) -> list[str]:
        return [str(value) for value in rng.zipf(1.6, rows).tolist()]

    old = draw(5000)
    found = judge(old, draw(5000), TEXT)["unseen_ratio"]
    assert found.value is not None
    assert found.value > 0.03
    assert found.reference_value == pytest.approx(found.value, abs=0.015)
    assert found.verdict is Verdict.OK
    more = draw(4000) + [f"new {i}" for i in range(1000)]
    assert judge(old, more, TEXT)["unseen_ratio"].verdict is Verdict.ALERT


def test_too_few_rows_are_no_verdict() -> None:
    found = judge(with_missing(500, 0), with_missing(99, 99), NUMBER)
    assert found["missing_ratio"].verdict is Verdict.INSUFFICIENT_DATA
    assert found["missing_ratio"].reason == "the window has 99 rows, fewer than 100"


def test_a_window_without_the_column_has_no_value() -> None:
    rows = pa.table({"x": np.arange(500.0)})
    binning = freeze_binning(rows, [NUMBER], CLASSES)
    reference = profile_features(rows, [NUMBER], binning)
    found = judge_quality(binning, reference, [], empty_features(binning), QualityPolicy())
    assert [(m.metric, m.value) for m in found] == [
        ("rows", 0), ("missing_ratio", None), ("out_of_range_ratio", None),
        ("duplicate_ratio", None),
    ]  # fmt: skip
    assert {m.verdict for m in found[1:]} == {Verdict.INSUFFICIENT_DATA}


def test_healthy_windows_rarely_alert_even_without_any_tolerance() -> None:
    rng, alerts, windows = np.random.default_rng(2), 0, 100
    policy = QualityPolicy(missing=0.0, out_of_range=0.0, unseen=0.0)
    columns = [Column(f"n{i}", Kind.NUMERIC) for i in range(4)]
    columns += [Column(f"c{i}", Kind.CATEGORICAL) for i in range(4)]

    def draw(rows: int) -> pa.Table:
        numbers = {f"n{i}": rng.standard_cauchy(rows) for i in range(4)}
        names = {f"c{i}": rng.zipf(1.5 + i / 2, rows).astype(str) for i in range(4)}
        gaps = {k: pa.array(v, mask=rng.random(rows) < 0.1) for k, v in (numbers | names).items()}
        return pa.table(gaps)

    for _ in range(windows):
        old, new = draw(1000), draw(500)
        binning = freeze_binning(old, columns, CLASSES)
        profile = partial(profile_features, columns=columns, binning=binning)
        found = judge_quality(binning, profile(old), [], profile(new), policy)
        alerts += any(m.verdict is Verdict.ALERT for m in found)
    # At 1 % more than 6 of 100 have a probability of 1e-4.
    assert alerts <= 6


@pytest.mark.parametrize("kind", [Kind.NUMERIC, Kind.CATEGORICAL, Kind.BOOLEAN])
@pytest.mark.parametrize("old", [0, 1, 300])
@pytest.mark.parametrize("new", [0, 1, 300])
@pytest.mark.parametrize("missing", [False, True])
def test_any_column_gets_a_verdict_or_null_with_a_reason(
    kind: Kind, old: int, new: int, *, missing: bool
) -> None:
    value = {Kind.NUMERIC: 1.0, Kind.CATEGORICAL: "a", Kind.BOOLEAN: True}[kind]
    kinds = {Kind.NUMERIC: pa.float64(), Kind.CATEGORICAL: pa.string(), Kind.BOOLEAN: pa.bool_()}
    window = pa.array([None if missing else value] * new, kinds[kind])
    found = judge(
        pa.array([value] * old, kinds[kind]), window, Column("x", kind),
        policy=QualityPolicy(min_rows=1),
    )  # fmt: skip
    assert len(found) == 4
    for measured in found.values():
        assert measured.value is not None or measured.reason
        assert (measured.verdict is None) == (measured.metric == "rows")


def test_a_column_that_no_row_has_any_more_has_vanished() -> None:
    found = judge(with_missing(1000, 20), with_missing(300, 300), NUMBER)["missing_ratio"]
    assert found.verdict is Verdict.ALERT
    assert found.reason == "vanished: none of 300 rows has it"


def test_a_number_that_always_varied_and_stands_still_is_stuck() -> None:
    found = judge(with_missing(1000, 20), [42.0] * 200, NUMBER)["constant"]
    assert (found.value, found.verdict) == (1.0, Verdict.ALERT)
    assert found.reason == "stuck at 42"
    assert "constant" not in judge(with_missing(1000, 20), [42.0] * 199 + [43.0], NUMBER)
    assert "constant" not in judge([7.0] * 1000, [7.0] * 200, NUMBER)


def test_a_category_that_few_rows_share_is_not_named() -> None:
    old = ["a", "b"] * 500 + ["once"]
    assert judge(old, ["a"] * 200, TEXT)["constant"].reason == "stuck at a"
    assert judge(old, ["once"] * 200, TEXT)["constant"].reason == "stuck at one value"
    assert judge(old, ["never"] * 200, TEXT)["constant"].reason == "stuck at one value"


def test_a_value_that_most_rows_have_may_be_the_only_one_by_chance() -> None:
    old = ["a"] * 980 + ["b"] * 20
    assert judge(old, ["a"] * 150, TEXT)["constant"].verdict is Verdict.OK
    assert judge(old, ["a"] * 3000, TEXT)["constant"].verdict is Verdict.ALERT
    nearly = ["a"] * 9_950 + ["b"] * 50
    assert judge(nearly, ["a"] * 30_000, TEXT)["constant"].verdict is Verdict.OK


def test_a_column_that_stands_still_in_every_piece_of_the_reference_is_not_stuck() -> None:
    weekdays = [day for day in "abcdefg" * 3 for _ in range(200)]
    assert judge(weekdays, ["c"] * 200, TEXT)["constant"].verdict is Verdict.ALERT
    assert judge(weekdays, ["c"] * 200, TEXT, chunks=21)["constant"].verdict is Verdict.OK


def judge_rows(traffic: Traffic, rows: int = 1000) -> dict[tuple[str, str | None], Measurement]:
    columns = [NUMBER, Column("y", Kind.NUMERIC)]
    return {
        (m.metric, m.subject): m for m in judge_traffic(rows, columns, traffic, QualityPolicy())
    }


def test_type_errors_beyond_the_tolerance_are_an_alert_by_feature() -> None:
    found = judge_rows(Traffic(type_errors={"x": 40, "y": 12}))
    assert found["type_error_ratio", "x"].verdict is Verdict.ALERT
    assert found["type_error_ratio", "x"].value == 0.04
    # 12 of 1,000 are beyond 1 %, but chance at 1 % gives as many in three windows of ten.
    assert found["type_error_ratio", "y"].verdict is Verdict.OK
    assert set(judge_rows(Traffic())) == {("rows", None)}


def test_refused_rows_are_a_share_of_what_was_sent() -> None:
    found = judge_rows(Traffic(rejected={"unknown-feature": 200, "bad-tags": 50}), rows=750)
    rejected = found["rejected_ratio", None]
    assert (rejected.value, rejected.n, rejected.verdict) == (0.25, 1000, Verdict.ALERT)
    assert rejected.reason == "25.0 % of the rows were refused, most as unknown-feature"


def test_a_window_of_which_every_row_was_refused_is_broken() -> None:
    found = judge_rows(Traffic(rejected={"bad-timestamp": 300}), rows=0)
    assert found["rejected_ratio", None].verdict is Verdict.ALERT


def test_features_that_the_schema_lacks_are_named_the_commonest_first() -> None:
    names = {f"new {i:02}": i for i in range(1, 13)}
    [warning] = traffic_warnings(Traffic(unknown_features=names))
    assert warning["code"] == "unknown-features"
    assert warning["detail"].endswith("new 04, new 03 and 2 more")
    assert traffic_warnings(Traffic()) == []
    [warning] = traffic_warnings(Traffic(unknown_features={**names, "": 99}))
    assert warning["detail"].endswith("new 04, new 03 and many more")


def unlike(rows: int, start: int = 0) -> list[float]:
    return [float(start + i) for i in range(rows)]


def test_rows_that_come_again_under_another_id_are_duplicates() -> None:
    old, new = unlike(1000), unlike(500) + unlike(100)
    found = judge(old, new, NUMBER)["duplicate_ratio"]
    assert found.value == pytest.approx(1 / 6, abs=0.05)
    assert found.reference_value == 0.0
    assert found.verdict is Verdict.ALERT
    assert found.reason is not None
    assert found.reason.endswith("% of the rows repeat another one")
    assert judge(old, unlike(600), NUMBER)["duplicate_ratio"].value == 0.0


def test_few_duplicates_are_counted_exactly() -> None:
    found = judge(unlike(1000), [*unlike(198), 0.0, 1.0], NUMBER)["duplicate_ratio"]
    assert found.value == pytest.approx(0.01)
    assert found.verdict is Verdict.OK


def test_columns_of_few_values_repeat_each_other_and_more_rows_do_so_more_often() -> None:
    rng = np.random.default_rng(5)
    old, new = (rng.integers(0, 2000, rows).astype(str).tolist() for rows in (1000, 4000))
    found = judge(old, new, TEXT)["duplicate_ratio"]
    assert found.value is not None
    assert found.reference_value == pytest.approx(found.value, abs=0.03)
    assert found.value > 0.5
    assert found.verdict is Verdict.OK


def test_a_reference_that_repeats_itself_in_bunches_expects_bunches() -> None:
    def bunched(rows: int, start: int) -> list[float]:
        return [float(start + i // 2) for i in range(rows)]

    old, new = bunched(6000, 0), bunched(300, 10_000)
    assert judge(old, new, NUMBER)["duplicate_ratio"].verdict is Verdict.ALERT
    assert judge(old, new, NUMBER, chunks=20)["duplicate_ratio"].verdict is Verdict.OK


def test_a_reference_from_before_contents_were_counted_says_so() -> None:
    rows = pa.table({"x": np.arange(500.0)})
    binning = freeze_binning(rows, [NUMBER], CLASSES)
    current = profile_features(rows, [NUMBER], binning)
    found = judge_quality(
        binning, replace(current, contents=NO_CONTENTS), [], current, QualityPolicy()
    )
    [duplicates] = [m for m in found if m.metric == "duplicate_ratio"]
    assert duplicates.verdict is Verdict.INSUFFICIENT_DATA
    assert duplicates.reason == "the reference is of a time before contents were counted"


@pytest.mark.parametrize("rows", [100, 1000])
@pytest.mark.parametrize(
    ("factor", "move", "reason"),
    [
        (0.3048, 0.0, "values look multiplied by 0.3"),
        (1000.0, 0.0, "values look multiplied by "),
        (1.609, 0.0, "values look multiplied by 1."),
        (1.0, 273.15, "values look moved by 27"),
    ],
)
def test_values_in_another_unit_are_recognised(
    rows: int, factor: float, move: float, reason: str
) -> None:
    rng = np.random.default_rng(rows)
    old, new = rng.normal(20, 3, 5000), rng.normal(20, 3, rows) * factor + move
    found = judge(old, new, NUMBER)["unit_change"]
    assert found.verdict is Verdict.ALERT
    assert found.reason is not None
    assert found.reason.startswith(reason)


@pytest.mark.parametrize("rows", [100, 1000, 10_000])
@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("stretch", [1.0, 1.5, 2.0])
def test_ordinary_drift_is_no_other_unit(rows: int, shift: float, stretch: float) -> None:
    rng = np.random.default_rng(int(rows + 10 * shift + 100 * stretch))
    old, new = rng.normal(20, 3, 5000), rng.normal(20 + 3 * shift, 3 * stretch, rows)
    assert "unit_change" not in judge(old, new, NUMBER)


def test_one_kind_of_values_is_no_other_unit_of_all() -> None:
    rng = np.random.default_rng(4)
    old = np.append(rng.normal(10, 1, 2500), rng.normal(30, 5, 2500))
    assert "unit_change" not in judge(old, rng.normal(30, 5, 1000), NUMBER)


def judge_volume(
    rows: int, weeks: int = 5, *, floor: float | None = None, usual: int = 1000
) -> Measurement:
    jitter = [usual + usual * (i * 7 % 11 - 5) // 100 for i in range(7 * weeks)]
    earlier = Earlier(tuple(jitter), 7, 1, 24.0, "2026-11-20 13:00 UTC")
    policy = QualityPolicy(min_rows_per_hour=floor)
    found = judge_traffic(rows, [NUMBER], Traffic(earlier=earlier), policy)
    [measured] = [m for m in found if m.metric == "rows"]
    return measured


def test_half_the_usual_rows_are_no_alert_and_fewer_are() -> None:
    assert judge_volume(1000).verdict is Verdict.OK
    assert judge_volume(600).verdict is Verdict.OK
    fewer = judge_volume(400)
    assert fewer.verdict is Verdict.ALERT
    assert fewer.reason is not None
    assert fewer.reason.startswith("400 rows where ")
    assert fewer.direction is Direction.LOWER_IS_WORSE
    silent = judge_volume(0)
    assert silent.reason is not None
    assert silent.reason.startswith("no traffic since 2026-11-20 13:00 UTC")


def test_more_rows_than_usual_are_an_alert_only_where_four_weeks_were_seen() -> None:
    assert judge_volume(5000).verdict is Verdict.ALERT
    assert judge_volume(5000, weeks=3).verdict is Verdict.OK
    assert judge_volume(100, weeks=3).verdict is Verdict.ALERT
    assert judge_volume(100, weeks=0).verdict is Verdict.INSUFFICIENT_DATA


def test_hours_of_few_rows_are_no_verdict() -> None:
    found = judge_volume(0, usual=10)
    assert found.verdict is Verdict.INSUFFICIENT_DATA
    assert found.reason is not None
    assert found.reason.endswith("rows are usual at this time")


def test_the_owners_floor_counts_from_the_first_window_on() -> None:
    broken = judge_volume(100, weeks=0, floor=10)
    assert (broken.verdict, broken.threshold) == (Verdict.ALERT, 240)
    assert broken.reason == "100 rows, fewer than the floor of 240"
    assert judge_volume(239, weeks=0, floor=10).verdict is Verdict.OK
    assert judge_volume(1000, floor=10).method == "seasonal"


def labels_with(conflicts: int, rows: int, unusable: int = 0) -> RegressionProfile:
    return RegressionProfile(rows, unusable, 0, 0, np.zeros(len(REGRESSION_SUMS)), conflicts)


def test_conflicting_labels_are_judged_by_the_binomial_beyond_the_tolerance() -> None:
    policy = QualityPolicy(conflicting_labels=0.5, min_rows=2)
    [_, found] = judge_traffic(2, [], Traffic(), policy, labels_with(2, 1, 1))
    # Both of two rows at one in two: a quarter; of two checks, the other of refused rows.
    assert found.p_value == pytest.approx(1 - (1 - 0.25) ** 2)
    assert (found.metric, found.value, found.verdict) == (
        "conflicting_label_ratio",
        1.0,
        Verdict.OK,
    )
    assert found.ci_high == 1.0


@pytest.mark.parametrize(
    ("conflicts", "rows", "verdict"),
    [
        (0, 1000, Verdict.OK),
        (12, 1000, Verdict.OK),
        (30, 1000, Verdict.ALERT),
        (99, 99, Verdict.INSUFFICIENT_DATA),
    ],
)
def test_more_conflicting_labels_than_tolerated_are_an_alert(
    conflicts: int, rows: int, verdict: Verdict
) -> None:
    labels = labels_with(conflicts, rows)
    [_, found] = judge_traffic(rows, [], Traffic(), QualityPolicy(), labels)
    assert (found.value, found.n, found.verdict) == (conflicts / rows, rows, verdict)
    own = binomtest(conflicts, rows).proportion_ci(method="wilson")
    assert (found.ci_low, found.ci_high) == pytest.approx((own.low, own.high), abs=1e-6)


def test_without_labels_no_conflict_is_tested() -> None:
    found = judge_traffic(500, [], Traffic(), QualityPolicy(), labels_with(0, 0))
    assert [m.metric for m in found] == ["rows"]
    rejected = Traffic(rejected={"wrong-type": 10})
    alone, beside = (
        judge_traffic(500, [], rejected, QualityPolicy(), labels)[1].p_value
        for labels in (labels_with(0, 0), labels_with(0, 500))
    )
    assert alone is not None
    assert beside is not None
    assert alone < beside


@pytest.mark.parametrize("rows", [100, 300, 1_000, 10_000, 100_000, 1_000_000])
def test_conflicts_as_frequent_as_tolerated_alarm_at_most_at_alpha_and_more_are_found(
    rows: int,
) -> None:
    def alerts(conflicts: int) -> bool:
        labels = labels_with(conflicts, rows)
        [_, found] = judge_traffic(rows, [], Traffic(), QualityPolicy(), labels)
        return found.verdict is Verdict.ALERT

    least = bisect_left(range(rows + 1), True, key=alerts)
    assert binom.sf(least - 1, rows, 0.01) <= QualityPolicy().alpha
    assert binom.sf(least - 1, rows, 0.1) > 0.95
    assert rows < 1_000 or binom.sf(least - 1, rows, 0.03) > 0.95
