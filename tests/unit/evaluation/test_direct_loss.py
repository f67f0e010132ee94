"""Errors of a regression without labels: close to those that labels show, and to published ones."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.detection.direct_loss import LOSSES, LossModel, fit_direct_loss
from service.detection.expected_loss import LossEstimate, estimate_losses
from service.evaluation.direct_loss import Fitted, judge_direct_loss
from service.evaluation.measurement import Measurement, Verdict
from service.evaluation.performance import PerformancePolicy
from service.profiles.columns import Column, Kind

CAR_PRICE = Path(__file__).resolve().parents[4] / "shared" / "data" / "nannyml_car_price"
COLUMNS = (
    Column("age", Kind.NUMERIC),
    Column("fuel", Kind.CATEGORICAL),
    Column("taxi", Kind.BOOLEAN),
    Column("nothing", Kind.NUMERIC),
)
POLICY = PerformancePolicy(metrics=("mae", "rmse", "rmsle", "mape"))


def rows(seed: int, n: int, age: float = 5.0) -> pa.Table:
    """Draw prices whose errors grow with the age, and with gas."""
    rng = np.random.default_rng(seed)
    ages, fuel = rng.gamma(4, age / 4, n), rng.choice(["petrol", "gas"], n)
    predicted = 1000 + 4000 * np.exp(-ages / 8)
    noise = rng.normal(0, 1, n) * (20 + 15 * ages) * np.where(fuel == "gas", 2.0, 1.0)
    return pa.table(
        {
            "age": pa.array(np.where(rng.random(n) < 0.05, np.nan, ages)),
            "fuel": fuel,
            "taxi": rng.random(n) < 0.1,
            "nothing": pa.nulls(n),
            "prediction": predicted,
            "label": np.maximum(predicted + noise, 1.0),
        }
    )


def realised(table: pa.Table) -> dict[str, float]:
    predicted, label = table["prediction"].to_numpy(), table["label"].to_numpy()
    means = {name: float(loss(predicted, label).mean()) for name, loss in LOSSES.items()}
    return {k: v**0.5 if k in {"rmse", "rmsle"} else v for k, v in means.items()}


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return Fitted()


@pytest.fixture(scope="module")
def reference() -> pa.Table:
    return rows(0, 4000)


def judged(reference: pa.Table, window: pa.Table, fitted: Fitted) -> dict[str, Measurement]:
    found = judge_direct_loss(reference, window, COLUMNS, POLICY, fitted)
    return {m.metric.removeprefix("estimated_"): m for m in found}


def test_harder_rows_are_known_before_their_labels(reference: pa.Table, fitted: Fitted) -> None:
    window = rows(1, 3000, age=7.0)
    truth = realised(window)
    for name, found in judged(reference, window.drop_columns("label"), fitted).items():
        assert found.value == pytest.approx(truth[name], rel=0.1), name
        assert found.verdict is Verdict.ALERT, name
        assert found.p_value is not None
        assert found.p_value < 1e-4
        assert found.reference_value == pytest.approx(realised(reference)[name])
        assert found.engine == "rows"


def test_the_same_rows_again_are_no_loss(reference: pa.Table, fitted: Fitted) -> None:
    for seed in range(2, 8):
        window = rows(seed, 1500)
        for name, found in judged(reference, window, fitted).items():
            assert found.verdict is Verdict.OK, name
            assert found.value is not None
            assert found.ci_low is not None
            assert found.ci_high is not None
            assert found.ci_low < found.value < found.ci_high


def test_an_estimate_follows_the_rows_and_not_their_labels(
    reference: pa.Table, fitted: Fitted
) -> None:
    window = rows(9, 500)
    wrong = window.set_column(5, "label", pa.array(np.full(500, 1.0)))
    one, other = judged(reference, window, fitted), judged(reference, wrong, fitted)
    assert [m.value for m in one.values()] == [m.value for m in other.values()]


def test_weights_that_are_all_alike_change_nothing(reference: pa.Table, fitted: Fitted) -> None:
    window = rows(10, 500)
    heavy = window.append_column("weight", pa.array(np.full(500, 3.0)))
    one, other = judged(reference, window, fitted), judged(reference, heavy, fitted)
    assert [m.value for m in one.values()] == pytest.approx([m.value for m in other.values()])
    assert [m.p_value for m in one.values()] == pytest.approx([m.p_value for m in other.values()])


def test_what_cannot_be_estimated_says_why(reference: pa.Table, fitted: Fitted) -> None:
    few = judged(reference, rows(1, 99), fitted)
    assert {(m.verdict, m.reason) for m in few.values()} == {
        (Verdict.INSUFFICIENT_DATA, "few_rows")
    }
    for small in (rows(0, 50), rows(0, 0), rows(0, 500).drop_columns("label")):
        found = judge_direct_loss(small, rows(1, 200), COLUMNS, POLICY)
        assert {m.reason for m in found} == {"reference_insufficient"}
    label = reference["label"].to_numpy() - 3000
    negative = reference.set_column(5, "label", pa.array(label))
    models = fit_direct_loss(negative, COLUMNS, ("rmsle", "mae")).models
    assert models["rmsle"] == "negative_values"
    assert isinstance(models["mae"], LossModel)
    estimated = estimate_losses(fit_direct_loss(reference, COLUMNS, ("mae",)), pa.table({}))
    assert estimated == {"mae": "no_rows"}


def test_models_agree_on_the_rows_that_they_were_fitted_on(reference: pa.Table) -> None:
    fitted = fit_direct_loss(reference, COLUMNS, ("mae",))
    model, inputs = fitted.models["mae"], fitted.encoding.apply(reference)
    assert isinstance(model, LossModel)
    means = [np.mean(one.predict(inputs)) for one in model.models]
    assert model.levels == pytest.approx(means, rel=1e-3)


def test_a_column_with_one_value_costs_no_estimate(reference: pa.Table) -> None:
    known = np.full(4000, np.nan)
    known[7] = 1.0
    rare = reference.set_column(3, "nothing", pa.array(known, from_pandas=True)).slice(0, 300)
    found = estimate_losses(fit_direct_loss(rare, COLUMNS, ("mae",)), rare)
    assert isinstance(found["mae"], LossEstimate)


def test_a_reference_is_fitted_once(reference: pa.Table) -> None:
    fitted = Fitted()
    first = fitted.get(reference, COLUMNS, ("mae",))
    assert fitted.get(reference.slice(0), COLUMNS, ("mae",)) is first
    assert fitted.get(rows(11, 4000), COLUMNS, ("mae",)) is not first


@pytest.mark.skipif(not CAR_PRICE.is_dir(), reason="nannyml_car_price is not there")
def test_estimates_are_within_two_percent_of_the_published_ones_in_every_chunk() -> None:
    tables = [
        pq.read_table(CAR_PRICE / f"{name}.parquet").rename_columns(
            {"y_true": "label", "y_pred": "prediction"}
        )
        for name in ("reference", "analysis")
    ]
    texts = {"fuel", "transmission"}
    columns = tuple(
        Column(name, Kind.CATEGORICAL if name in texts else Kind.NUMERIC)
        for name in tables[0].column_names
        if name not in {"label", "prediction", "timestamp"}
    )
    fitted = fit_direct_loss(tables[0], columns, ("rmse", "rmsle"))
    with (CAR_PRICE / "published" / "dle_estimated.csv").open() as file:
        published = [row for row in csv.DictReader(file) if row["chunk.period"] == "analysis"]
    assert len(published) == 10
    for row in published:
        window = tables[1].slice(int(row["chunk.start_index"]), 6000)
        found = estimate_losses(fitted, window.drop_columns("label"))
        for name, estimated in found.items():
            assert isinstance(estimated, LossEstimate)
            expected = float(row[f"{name}.value"])
            assert estimated.value.value == pytest.approx(expected, rel=0.02), name
