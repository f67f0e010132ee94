"""Data sets of few rows through the running service: the Titanic's gaps, and rented bicycles."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.stats import ks_2samp

from tests.system.harness import Service
from tests.system.replays import (
    Replay,
    judged,
    measured,
    register,
    send_labels,
    send_predictions,
)

SHARED = Path(__file__).parents[3] / "shared" / "data"
FOLDER, TITANIC = SHARED / "bike_sharing", SHARED / "titanic_missing"
pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the data sets are not beside the project"
)

DAY = datetime(2026, 1, 1, tzinfo=UTC)
# The file's weeks begin on a Tuesday; these hold most of the rows of the third and the fourth.
WEEKS = {"week1": "2011-01-31", "week2": "2011-02-07", "week3": "2011-02-14", "week4": "2011-02-21"}
FEATURES = (
    "temp", "atemp", "hum", "windspeed", "hr", "weekday", "season", "holiday", "workingday"
)  # fmt: skip
Weeks = dict[str, dict[str, dict[str, Any]]]


def passengers() -> list[dict[str, Any]]:
    rows = pq.read_table(TITANIC / "analysis.parquet").drop_columns(["Survived"]).to_pylist()
    return [
        {
            "prediction_id": f"passenger-{number}",
            "ts": (DAY + number * timedelta(minutes=3)).isoformat(),
            "features": row,
            "prediction": "1" if row["Sex"] == "female" else "0",
        }
        for number, row in enumerate(rows)
    ]


def test_the_missing_values_of_the_titanic_are_the_expected_ones(service: Service) -> None:
    expected = json.loads((TITANIC / "expected.json").read_text())
    service.put("/v1/models/titanic", {"task": "binary"})
    service.put("/v1/models/titanic/versions/1", {"stage": "live"})
    answer = service.client.put(
        "/v1/models/titanic/versions/1/reference",
        params={"label": "Survived"},
        content=(TITANIC / "reference.parquet").read_bytes(),
        headers={"Content-Type": "application/vnd.apache.parquet"},
    )
    assert answer.status_code == 200, answer.text
    sent = service.client.post(
        "/v1/predictions",
        json={"model": "titanic", "version": "1", "records": passengers()},
    )
    assert sent.json()["accepted"] == 418, sent.text[:300]
    assert sent.json()["warnings"] == []
    service.evaluate("titanic", DAY + timedelta(days=1))
    window = service.get(f"/v1/models/titanic/windows/{DAY.isoformat()}", version="1")
    missing = {m["subject"]: m for m in window["measurements"] if m["metric"] == "missing_ratio"}
    for name, ratio in expected["analysis_missing"].items():
        if name != "Survived":
            assert missing[name]["value"] == pytest.approx(ratio, abs=1e-6)
            usual = expected["reference_missing"][name]
            assert missing[name]["reference_value"] == pytest.approx(usual, abs=1e-6)
            assert missing[name]["verdict"] == "ok"
    broken = {
        (m["metric"], m["subject"])
        for m in window["measurements"]
        if m["verdict"] == "alert" and m["metric"] != "drift"
    }
    # The numbers of the passengers go on where the reference's end.
    assert broken == {("out_of_range_ratio", "PassengerId")}
    assert window["action"] == "fix_data"


# A model that decays within four weeks.  Its reference is the forest's own training rows, on which
# a forest hardly errs: compared with that, every production week is worse.  Compared with the weeks
# before, the decay shows where it began.


@pytest.fixture(scope="module")
def weeks(service: Service) -> Weeks:
    """Return the judged weeks of each comparison, by name."""
    events = pd.read_parquet(FOLDER / "replay/events.parquet")
    rows = events.merge(pd.read_parquet(FOLDER / "replay/labels.parquet"), on="id")
    rows = rows.assign(**{name: rows[name].dt.tz_localize("UTC") for name in ("ts", "label_ts")})
    rows["label"] = rows["label"].astype(float)
    # Four weeks are too few to learn from how much weeks vary: without times they are rows.
    reference = pd.read_parquet(FOLDER / "replay/reference.parquet").drop(columns=["id", "ts"])
    first = rows[rows["ts"] < pd.Timestamp(WEEKS["week2"], tz="UTC")]
    comparisons: dict[str, tuple[pd.DataFrame, Any]] = {
        "training": (reference, "training"),
        "held out": (first[reference.columns], "training"),
        "trailing": (reference, {"trailing": "4w"}),
    }
    found = {}
    for name, (before, comparison) in comparisons.items():
        monitor = {"window": "1w", "reference": comparison}
        model = f"bikes-{name.replace(' ', '-')}"
        replay = Replay(model, "regression", FEATURES, before, rows, monitor)
        register(service, replay)
        send_predictions(service, replay)
        send_labels(service, replay)
        by_start = {window["start"][:10]: window for window in judged(service, replay)}
        found[name] = {week: by_start[start] for week, start in WEEKS.items()}
        found[name]["first days"] = by_start["2011-01-24"]
        found[name]["last day"] = by_start["2011-02-28"]
    return found


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())
    return document


def test_every_prediction_is_judged_with_its_label(
    weeks: Weeks,
) -> None:
    for found in weeks.values():
        assert sum(window["rows"] for window in found.values()) == 719
        assert all(window["labelled"] == window["rows"] for window in found.values())
        for name in ("first days", "last day"):
            assert set(found[name]["verdicts"].values()) == {"insufficient_data"}


def test_the_weather_moves_and_the_hours_never_do(weeks: Weeks, known: dict[str, Any]) -> None:
    assert known["must_flag_drift"] == ["temp", "atemp", "hum in every week"]
    assert known["must_not_flag"] == ["hr in any week"]
    reference = pd.read_parquet(FOLDER / "replay/reference.parquet")
    events = pd.read_parquet(FOLDER / "replay/events.parquet").set_index("ts")
    moved = 0
    for week, start in WEEKS.items():
        window = weeks["training"][week]
        assert measured(window, "drift", "hr")["verdict"] == "ok", week
        rows = events.loc[start : pd.Timestamp(start) + pd.Timedelta("6d 23h")]
        assert len(rows) == window["rows"]
        for name in ("temp", "atemp", "hum"):
            # In a week from Monday on one of the three did not move beyond chance.
            if ks_2samp(reference[name], rows[name]).pvalue < 1e-3:
                assert name in window["drifted_features"], (week, name)
                moved += 1
    assert moved == 9


def test_on_its_training_rows_the_model_is_better_than_in_any_week(
    weeks: Weeks, known: dict[str, Any]
) -> None:
    assert "in-sample" in known["note"]
    for week in WEEKS:
        assert weeks["training"][week]["verdicts"]["performance"] == "alert", week
    mae = measured(weeks["training"]["week1"], "mae")
    assert mae["reference_value"] == pytest.approx(known["reference"]["mae"], abs=1e-3)


def test_against_its_first_production_week_the_model_fails_in_the_third_and_the_fourth(
    weeks: Weeks, known: dict[str, Any]
) -> None:
    found = weeks["held out"]
    assert found["week2"]["verdicts"]["performance"] == "ok"
    alerting = [w for w in WEEKS if found[w]["verdicts"]["performance"] == "alert"]
    assert alerting == known["must_alert_performance"]


def test_against_the_weeks_before_the_decay_shows_where_it_begins(
    weeks: Weeks,
) -> None:
    found = weeks["trailing"]
    verdicts = [found[week]["verdicts"]["performance"] for week in WEEKS]
    assert verdicts[:3] == ["insufficient_data", "ok", "alert"]
    assert measured(found["week3"], "mae")["n_reference"] == sum(
        found[week]["rows"] for week in ("first days", "week1", "week2")
    )
