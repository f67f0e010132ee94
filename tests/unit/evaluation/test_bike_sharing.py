"""The weeks of a model that decays, as its story told them: they overlap, so no replay has them."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from service.evaluation.drift import judge_drift
from service.evaluation.drift_columns import DriftPolicy
from service.evaluation.measurement import Verdict
from service.evaluation.performance import PerformancePolicy, judge_performance
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Column, Kind, Quantity
from service.profiles.freeze import freeze_binning

DATA = Path(__file__).parents[4] / "shared" / "data" / "bike_sharing"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the data set bike_sharing is not beside the project"
)

FEATURES = ("temp", "atemp", "hum", "windspeed", "hr", "weekday", "season", "holiday", "workingday")
COLUMNS = [Column(name, Kind.NUMERIC) for name in FEATURES]


def a_table(rows: pd.DataFrame) -> pa.Table:
    known = rows[[*FEATURES, "prediction", "label"]].astype(float)
    return pa.Table.from_pandas(known, preserve_index=False)


@pytest.fixture(scope="module")
def reference() -> pa.Table:
    return a_table(pd.read_parquet(DATA / "replay/reference.parquet"))


@pytest.fixture(scope="module")
def weeks() -> dict[str, pa.Table]:
    rows = pd.read_parquet(DATA / "replay/events.parquet").merge(
        pd.read_parquet(DATA / "replay/labels.parquet"), on="id"
    )
    known = json.loads((DATA / "expected.json").read_text())["windows"]
    found = {
        name: a_table(rows[(rows["ts"] >= week["start"]) & (rows["ts"] <= week["end"])])
        for name, week in known.items()
    }
    assert {name: rows.num_rows for name, rows in found.items()} == {
        name: week["n"] for name, week in known.items()
    }
    return found


def test_the_weather_moves_in_every_week_and_the_hour_in_none(
    reference: pa.Table, weeks: dict[str, pa.Table]
) -> None:
    binning = freeze_binning(reference, COLUMNS, Quantity())
    before = profile_features(reference, COLUMNS, binning)
    for name, rows in weeks.items():
        after = profile_features(rows, COLUMNS, binning)
        judged: dict[Any, Any] = {
            found.subject: found.verdict
            for found in judge_drift(binning, before, [], after, DriftPolicy())
        }
        assert {judged[moved] for moved in ("temp", "atemp", "hum")} == {Verdict.ALERT}, name
        assert judged["hr"] is Verdict.OK, name


def test_the_model_is_broken_in_the_third_week(
    reference: pa.Table, weeks: dict[str, pa.Table]
) -> None:
    # Against its training rows every week looks worse, so the first week is the baseline.
    binning = freeze_binning(reference, COLUMNS, Quantity())
    profiles = {name: profile_performance(rows, binning) for name, rows in weeks.items()}
    policy = PerformancePolicy(metrics=("mae", "rmse"))
    for name in ("week3", "week4"):
        found = judge_performance(
            profiles["week1"], [], profiles[name], weeks[name].num_rows, policy
        )
        alerts = {m.metric for m in found if m.verdict is Verdict.ALERT}
        assert alerts >= {"mae"}, name
    trained = profile_performance(reference, binning)
    for name, profile in profiles.items():
        found = judge_performance(trained, [], profile, weeks[name].num_rows, policy)
        assert any(m.verdict is Verdict.ALERT for m in found), name
