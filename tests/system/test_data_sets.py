"""The published figures of the other data sets, through the running service."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.system.harness import Service
from tests.system.replays import (
    Replay,
    in_days,
    judged,
    measured,
    register,
    send_labels,
    send_predictions,
)

SHARED = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the data sets are not beside the project"
)

CHUNK = 6_000
# Of ten chunks that are published the first five are quiet.
CHUNKS = slice(0, 10)
QUIET, LOUD = 5 - CHUNKS.start, CHUNKS.stop - 5


def expected(name: str) -> Any:
    return json.loads((SHARED / name / "expected.json").read_text())


def some_chunks(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.iloc[CHUNKS.start * CHUNK : CHUNKS.stop * CHUNK]
    return rows.assign(ts=in_days(rows, CHUNK))


def frame(name: str) -> pd.DataFrame:
    return pd.read_parquet(SHARED / name)


def replayed(service: Service, replay: Replay) -> list[dict[str, Any]]:
    register(service, replay)
    send_predictions(service, replay)
    send_labels(service, replay)
    return judged(service, replay)


def requests(service: Service, model: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.get("/v1/retraining-requests", model=model)["requests"]
    return found


# Regression: RMSE improves while RMSLE gets worse; one metric is not enough.


def car_price(name: str) -> pd.DataFrame:
    rows = frame(f"nannyml_car_price/{name}.parquet")
    rows = rows.rename(columns={"y_pred": "prediction", "y_true": "label", "timestamp": "ts"})
    return rows.assign(id=[f"price-{i}" for i in range(len(rows))])


@pytest.fixture(scope="module")
def prices(service: Service) -> list[dict[str, Any]]:
    rows = some_chunks(car_price("analysis"))
    features = [n for n in rows.columns if n not in {"prediction", "label", "ts", "id"}]
    return replayed(
        service,
        Replay(
            "prices",
            "regression",
            features,
            car_price("reference").drop(columns="id"),
            rows,
            {"performance": {"metrics": ["rmse", "mae", "rmsle"]}},
        ),
    )


def test_the_errors_of_car_prices_are_what_was_published(prices: list[dict[str, Any]]) -> None:
    for window, chunk in zip(prices, expected("nannyml_car_price")["chunks"][CHUNKS], strict=True):
        assert window["rows"] == window["labelled"] == chunk["n"]
        published = {name.removesuffix(".value"): x for name, x in chunk["published"].items()}
        for metric in ("mae", "rmse", "rmsle", "mape"):
            value = measured(window, metric)["value"]
            assert value == pytest.approx(published[metric], rel=1e-5), metric
        assert measured(window, "rmse")["value"] == pytest.approx(chunk["rmse"], rel=1e-5)
        assert measured(window, "r2")["value"] == pytest.approx(chunk["r2"], abs=1e-6)
        # The file has the label less the prediction.
        assert abs(measured(window, "mean_error")["value"]) == pytest.approx(
            abs(chunk["me"]), rel=1e-4
        )


def test_only_the_relative_error_of_car_prices_gets_worse(prices: list[dict[str, Any]]) -> None:
    for metric in ("rmse", "mae"):
        assert {measured(window, metric)["verdict"] for window in prices} == {"ok"}
    shown = [measured(window, "rmsle")["verdict"] for window in prices]
    assert shown == ["ok"] * QUIET + ["alert"] * LOUD
    assert [window["verdicts"]["performance"] for window in prices] == shown
    # That moved inputs are given prices never seen before is no broken input.
    assert {window["verdicts"]["quality"] for window in prices} == {"ok"}
    assert [window["action"] for window in prices[QUIET:]] == ["retrain"] * LOUD


# Three classes.


def cards(name: str) -> pd.DataFrame:
    rows = frame(f"nannyml_credit_card/{name}.parquet")
    names = {"y_pred": "prediction", "y_true": "label", "timestamp": "ts"}
    prefix = "y_pred_proba_"
    names |= {n: f"scores.{n.removeprefix(prefix)}" for n in rows.columns if n.startswith(prefix)}
    return rows.rename(columns=names).assign(id=[f"card-{i}" for i in range(len(rows))])


@pytest.fixture(scope="module")
def credit_cards(service: Service) -> list[dict[str, Any]]:
    rows = some_chunks(cards("analysis"))
    own = {"prediction", "label", "ts", "id"}
    features = [n for n in rows.columns if n not in own and not n.startswith("scores.")]
    return replayed(
        service,
        Replay(
            "cards",
            "multiclass",
            features,
            cards("reference").drop(columns="id"),
            rows,
            {},
        ),
    )


def test_the_figures_of_credit_cards_are_what_was_published(
    credit_cards: list[dict[str, Any]],
) -> None:
    chunks = expected("nannyml_credit_card")["chunks"][CHUNKS]
    for window, chunk in zip(credit_cards, chunks, strict=True):
        assert window["rows"] == window["labelled"] == CHUNK
        auc = measured(window, "roc_auc")["value"]
        assert auc == pytest.approx(chunk["roc_auc_macro_ovr"], abs=1e-4)
        for metric, name in (("f1", "f1_macro"), ("accuracy", "accuracy")):
            assert measured(window, metric)["value"] == pytest.approx(chunk[name], abs=1e-6)


def test_credit_cards_alert_from_the_sixth_chunk_on(
    service: Service, credit_cards: list[dict[str, Any]]
) -> None:
    verdicts = [window["verdicts"]["performance"] for window in credit_cards]
    assert verdicts == ["ok"] * QUIET + ["alert"] * LOUD
    (request,) = requests(service, "cards")
    starts = [window["start"] for window in request["evidence"]["windows"]]
    assert starts == [window["start"] for window in credit_cards[QUIET:]]


def test_credit_cards_are_estimated_as_was_published(credit_cards: list[dict[str, Any]]) -> None:
    published = pd.read_csv(SHARED / "nannyml_credit_card/published/cbpe_estimated.csv")[CHUNKS]
    for window, (_, row) in zip(credit_cards, published.iterrows(), strict=True):
        for metric in ("roc_auc", "f1"):
            value = measured(window, f"estimated_{metric}")["value"]
            assert value == pytest.approx(row[f"{metric}.value"], abs=0.005), metric


# Months of a bank's calls: labels and calibration move, two months are far too small.


@pytest.fixture(scope="module")
def bank(service: Service) -> dict[str, dict[str, Any]]:
    rows = frame("bank_marketing/replay/events.parquet").merge(
        frame("bank_marketing/replay/labels.parquet"), on="id"
    )
    own = {"id", "ts", "score", "prediction", "label", "label_ts"}
    windows = replayed(
        service,
        Replay(
            "bank",
            "binary",
            [name for name in rows.columns if name not in own],
            frame("bank_marketing/replay/reference.parquet").drop(columns="id"),
            rows,
            {"window": "1mo", "performance": {"metrics": ["recall", "precision"]}},
            {"classes": ["0", "1"], "positive_class": "1"},
        ),
    )
    return {window["start"][:7]: window for window in windows}


COUNTED = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "fpr": "false_positive_rate",
    "fnr": "false_negative_rate",
    "f1": "f1",
    "pos_rate": "label_rate",
    "pred_rate": "selection_rate",
    "score_mean": "prediction_mean",
    "brier": "brier_score",
}


def test_the_figures_of_the_bank_are_right_in_every_month(bank: dict[str, dict[str, Any]]) -> None:
    months = expected("bank_marketing")["windows"]
    assert bank.keys() == months.keys()
    for month, window in bank.items():
        realised = months[month]["realised"]
        assert window["rows"] == window["labelled"] == realised["n"]
        for name, metric in COUNTED.items():
            shown = measured(window, metric)
            if shown["value"] is None:
                assert shown["reason"], (month, metric)
                continue
            assert shown["value"] == pytest.approx(realised[name], abs=1e-6), (month, metric)
        for metric in ("roc_auc", "average_precision"):
            value = measured(window, metric)["value"]
            assert value == pytest.approx(realised[metric], abs=1e-4), (month, metric)


def test_the_bank_is_compared_with_its_reference(bank: dict[str, dict[str, Any]]) -> None:
    known = expected("bank_marketing")["reference"]
    window = bank["2009-06"]
    for name, metric in {**COUNTED, "roc_auc": "roc_auc"}.items():
        shown = measured(window, metric)["reference_value"]
        tolerance = 1e-4 if metric == "roc_auc" else 1e-6
        assert shown == pytest.approx(known[name], abs=tolerance), metric


def test_the_bank_alerts_on_what_moved(bank: dict[str, dict[str, Any]]) -> None:
    known = expected("bank_marketing")
    for month in known["must_flag_label_drift"]:
        assert measured(bank[month], "drift", "label")["verdict"] == "alert", month
    for month in known["must_not_flag_label_drift"]:
        assert measured(bank[month], "drift", "label")["verdict"] == "ok", month
    for month in known["must_flag_calibration"]:
        assert measured(bank[month], "calibration_drift")["verdict"] == "alert", month
        assert bank[month]["verdicts"]["concept"] == "alert", month
    for feature, months in known["must_flag_feature_drift"].items():
        for month in months:
            assert feature in bank[month]["drifted_features"], (feature, month)
    for month in known["must_flag_calibration"]:
        assert measured(bank[month], "calibration_drift")["verdict"] == "alert", month
        assert bank[month]["verdicts"]["concept"] == "alert", month


def test_the_bank_s_small_months_are_insufficient(bank: dict[str, dict[str, Any]]) -> None:
    for month in expected("bank_marketing")["small_windows_must_be_insufficient"]:
        verdicts = bank[month]["verdicts"]
        assert set(verdicts.values()) == {"insufficient_data"}, (month, verdicts)


# Mortgages without labels: who is approved.


@pytest.fixture(scope="module")
def mortgages(service: Service) -> list[dict[str, Any]]:
    rows = frame("hmda_boston/hmda.parquet").rename(columns={"deny": "prediction"})
    features = [n for n in rows.columns if n not in {"id", "prediction"}]
    rows = rows.assign(ts=in_days(rows, len(rows)), label=None)
    return replayed(
        service,
        Replay(
            "mortgages",
            "binary",
            features,
            rows.drop(columns=["id", "ts", "label"]),
            rows,
            {"fairness": [{"column": "afam", "reference_group": "no", "favourable_class": "no"}]},
            {"classes": ["no", "yes"], "positive_class": "yes"},
        ),
    )


def test_mortgages_are_approved_unequally(mortgages: list[dict[str, Any]]) -> None:
    (window,) = mortgages
    known = expected("hmda_boston")
    assert window["rows"] == known["n"]
    ratios = [m for m in window["measurements"] if m["metric"] == "disparate_impact"]
    (ratio,) = ratios
    assert ratio["value"] == pytest.approx(known["disparate_impact_approval"], abs=1e-6)
    assert ratio["ci_low"] == pytest.approx(0.738, abs=5e-4)
    assert ratio["ci_high"] == pytest.approx(0.846, abs=5e-4)
    assert ratio["verdict"] == "alert"
    assert window["verdicts"]["fairness"] == "alert"
    approved = {
        m["slice"]: m["value"]
        for m in window["measurements"]
        if m["metric"] == "selection_rate" and m["slice"] is not None
    }
    for group, denied in known["deny_rate"].items():
        assert approved[group] == pytest.approx(1 - denied, abs=1e-6)
