from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from service.processes import generator
from service.processes.demo import label_records, prediction_records
from service.processes.generator import LoanRows

START = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = 20_000


@pytest.fixture(scope="module")
def reference() -> LoanRows:
    return generator.reference_rows(START, rows=ROWS)


def a_day(day: int, rows: int = ROWS) -> LoanRows:
    return generator.day_rows(START, day, rows=rows)


def assert_means_agree(left: np.ndarray, right: np.ndarray, *, sigmas: float = 5.0) -> None:
    error = np.sqrt(left.var() / left.size + right.var() / right.size)
    assert abs(left.mean() - right.mean()) <= sigmas * error


def test_the_same_seed_gives_the_same_rows() -> None:
    first, second = a_day(20, 500), a_day(20, 500)
    assert prediction_records(first) == prediction_records(second)
    assert label_records(first) == label_records(second)


def test_another_seed_gives_other_rows() -> None:
    one = generator.day_rows(START, 3, rows=500)
    other = generator.day_rows(START, 3, rows=500, seed=generator.SEED + 1)
    assert not np.array_equal(one.score, other.score)


@pytest.mark.parametrize("day", [0, 12, 29])
def test_every_row_of_a_day_lies_in_the_day_in_order_of_time(day: int) -> None:
    rows = a_day(day, 2_000)
    begin = np.datetime64((START + timedelta(days=day)).replace(tzinfo=None), "us")
    assert rows.ts.min() >= begin
    assert rows.ts.max() < begin + np.timedelta64(1, "D")
    assert np.all(np.diff(rows.ts) >= np.timedelta64(0, "us"))


def test_the_reference_ends_before_the_month_begins(reference: LoanRows) -> None:
    assert reference.ts.max() < np.datetime64(START.replace(tzinfo=None), "us")


def test_ids_of_a_month_are_distinct() -> None:
    ids = [one for day in range(generator.DAYS) for one in a_day(day, 50).ids]
    assert len(set(ids)) == len(ids)


def test_scores_of_the_reference_are_calibrated(reference: LoanRows) -> None:
    for low in np.arange(0.0, 1.0, 0.1):
        inside = (reference.score >= low) & (reference.score < low + 0.1)
        if inside.sum() >= 200:
            gap = reference.label[inside] - reference.score[inside]
            assert abs(gap.mean()) <= 5 * gap.std() / np.sqrt(inside.sum())


@pytest.mark.parametrize("day", [0, generator.UNIT_DAY - 1])
def test_nothing_moves_before_the_first_change(reference: LoanRows, day: int) -> None:
    rows = a_day(day)
    for name in ("income", "age", "employment_months", "debt_to_income"):
        assert_means_agree(rows.features[name], reference.features[name])
    assert_means_agree(rows.label - rows.score, reference.label - reference.score)


@pytest.mark.parametrize("day", range(generator.DAYS))
def test_employment_leaves_its_range_on_the_days_of_the_other_unit_and_on_no_other(
    reference: LoanRows, day: int
) -> None:
    declared = next(one for one in generator.SCHEMA if one["name"] == "employment_months")
    sent = a_day(day, 2_000).features["employment_months"]
    beyond = (sent > reference.features["employment_months"].max()) & (sent > declared["max"])
    if 12 <= day <= 15:
        assert beyond.mean() > 0.5
    else:
        assert not beyond.any()
        assert_means_agree(sent, reference.features["employment_months"])


def test_the_other_unit_is_days() -> None:
    before = a_day(generator.UNIT_DAY - 1).features["employment_months"]
    during = a_day(generator.UNIT_DAY).features["employment_months"]
    assert_means_agree(during / generator.DAYS_A_MONTH, before)


@pytest.mark.parametrize("day", [day for day in range(generator.DAYS) if not 12 <= day <= 15])
def test_no_other_change_breaks_the_input(reference: LoanRows, day: int) -> None:
    rows = generator.day_rows(START, day)
    for name, values in rows.features.items():
        known = reference.features[name]
        if values.dtype == np.float64:
            outside = (values < known.min()) | (values > known.max())
            assert outside.mean() < 0.005, name
        else:
            assert set(values.tolist()) <= set(known.tolist())


def test_other_customers_come_from_their_day_on() -> None:
    before, after = a_day(generator.SHIFT_DAY - 1), a_day(generator.SHIFT_DAY)
    spread = before.features["age"].std()
    assert after.features["age"].mean() < before.features["age"].mean() - 0.4 * spread
    ratio = np.median(after.features["income"]) / np.median(before.features["income"])
    assert ratio == pytest.approx(50 / 41, rel=0.03)


def test_the_shift_alone_does_not_break_the_scores() -> None:
    rows = a_day(generator.CONCEPT_DAY - 1)
    assert abs((rows.truth - rows.score).mean()) < 0.03


def test_only_the_north_repays_less_from_its_day_on() -> None:
    rows = a_day(generator.CONCEPT_DAY)
    north = rows.features["region"] == generator.CONCEPT_REGION
    gap = rows.label - rows.score
    assert gap[north].mean() < -0.3
    assert abs(gap[~north].mean()) < 0.03


def test_every_feature_is_declared_and_every_declared_feature_is_sent() -> None:
    record = prediction_records(a_day(0, 1))[0]
    assert list(record["features"]) == [feature["name"] for feature in generator.SCHEMA]


def test_a_label_is_known_ten_days_after_its_prediction() -> None:
    rows = a_day(4, 20)
    for prediction, label in zip(prediction_records(rows), label_records(rows), strict=True):
        made = datetime.fromisoformat(prediction["ts"])
        assert datetime.fromisoformat(label["label_ts"]) - made == timedelta(days=10)
        assert label["prediction_id"] == prediction["prediction_id"]
