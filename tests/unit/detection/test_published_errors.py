"""The errors of the data set bike_sharing, by our own functions on its overlapping weeks."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from sklearn import metrics

from service.detection.metrics import measure
from service.profiles.binning import Binning
from service.profiles.build import profile_performance
from service.profiles.columns import Column, Kind, Quantity
from service.profiles.freeze import freeze_binning

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "bike_sharing"
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the data sets are not beside the project"
)
NAMES = {"mean_error": "me", "mae": "mae", "rmse": "rmse", "r2": "r2"}


def check_errors(rows: pd.DataFrame, binning: Binning, published: dict[str, Any]) -> None:
    table = pa.table({name: rows[name].astype(float) for name in ("prediction", "label")})
    profile = profile_performance(table, binning)
    assert profile.labelled == published["n"]
    found = measure(profile, list(NAMES))
    for ours, theirs in NAMES.items():
        assert found[ours, None].value == pytest.approx(published[theirs], abs=1e-3), ours
    oracle = metrics.root_mean_squared_error(rows["label"], rows["prediction"])
    assert found["rmse", None].value == pytest.approx(oracle, rel=1e-9)
    assert rows["label"].mean() == pytest.approx(published["y_mean"], abs=1e-3)
    assert rows["prediction"].mean() == pytest.approx(published["pred_mean"], abs=1e-3)


def test_the_errors_of_bicycle_rentals() -> None:
    known = json.loads((FOLDER / "expected.json").read_text())
    reference = pd.read_parquet(FOLDER / "replay/reference.parquet")
    events = pd.read_parquet(FOLDER / "replay/events.parquet")
    rows = events.merge(pd.read_parquet(FOLDER / "replay/labels.parquet"), on="id")
    table = pa.table({"temp": reference["temp"], "prediction": reference["prediction"]})
    binning = freeze_binning(table, [Column("temp", Kind.NUMERIC)], Quantity())
    check_errors(reference, binning, known["reference"])
    for week in known["windows"].values():
        check_errors(rows[rows["ts"].between(week["start"], week["end"])], binning, week)
