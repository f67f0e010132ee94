"""The distances that the data sets' files give, by our own functions on the bins that they name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from service.detection.calibration import homogeneity
from service.detection.drift import (
    Floats,
    jensen_shannon_distance,
    population_stability_index,
)
from service.detection.ordered import kolmogorov_smirnov_distance, wasserstein_distance

SHARED = Path(__file__).parents[4] / "shared" / "data"
pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the data sets are not beside the project"
)

MOST_VALUES = 10

Pair = tuple[Floats, Floats]


def by_value(reference: pd.Series, current: pd.Series) -> tuple[Pair, Floats]:
    """Return rows per distinct value of either side, and the values."""
    values = np.unique(np.concatenate([reference, current]))
    sides = [np.searchsorted(values, side) for side in (reference, current)]
    counts = [np.bincount(at, minlength=len(values)).astype(float) for at in sides]
    return (counts[0], counts[1]), values.astype(float)


def by_edges(reference: pd.Series, current: pd.Series, edges: Floats) -> Pair:
    """Return rows per bin; the outer bins are open."""
    open_edges = np.concatenate([[-np.inf], edges[1:-1], [np.inf]])
    before, after = (np.histogram(side, open_edges)[0] for side in (reference, current))
    return before.astype(float), after.astype(float)


def check_number(reference: pd.Series, current: pd.Series, published: dict[str, Any]) -> None:
    rows, values = by_value(reference, current)
    assert kolmogorov_smirnov_distance(*rows) == pytest.approx(published["ks"], abs=1e-6)
    moved = wasserstein_distance(*rows, (values, values), float(np.std(reference)))
    assert moved == pytest.approx(published["w1n"], rel=1e-5)
    # The files have deciles of the reference for the one, its Doane bins and one bin for all that
    # is outside of them for the other.
    deciles = by_edges(reference, current, np.unique(np.quantile(reference, np.linspace(0, 1, 11))))
    if min(map(np.min, deciles)):
        # Where a decile is empty, the files add something of their own.
        index = population_stability_index(*deciles, pseudocount=0)
        assert index == pytest.approx(published["psi"], rel=1e-5)
    doane = np.histogram_bin_edges(reference, bins="doane")
    inside = [np.histogram(side, doane)[0] for side in (reference, current)]
    whole = [
        np.append(rows, len(side) - rows.sum()).astype(float)
        for rows, side in zip(inside, (reference, current), strict=True)
    ]
    # Numbers of few values are their own bins.
    binned = rows if reference.nunique() <= MOST_VALUES else tuple(whole)
    assert jensen_shannon_distance(*binned) == pytest.approx(published["js"], abs=1e-6)


def check_category(reference: pd.Series, current: pd.Series, published: dict[str, Any]) -> None:
    names = sorted(set(reference) | set(current), key=str)
    before, after = (
        side.value_counts().reindex(names, fill_value=0).to_numpy(np.int64)
        for side in (reference, current)
    )
    shares = before.astype(float), after.astype(float)
    assert jensen_shannon_distance(*shares) == pytest.approx(published["js"], abs=1e-6)
    if min(map(np.min, shares)):
        index = population_stability_index(*shares, pseudocount=0)
        assert index == pytest.approx(published["psi"], rel=1e-5)
    # Of two categories the files have the statistic with Yates's correction.
    if len(names) > 2:
        assert homogeneity(before.astype(np.int64), after.astype(np.int64)).x2 == pytest.approx(
            published["chi2"], rel=1e-5
        )


def test_the_distances_of_car_loans() -> None:
    folder = SHARED / "nannyml_car_loan"
    reference = pd.read_parquet(folder / "reference.parquet")
    rows = pd.read_parquet(folder / "analysis.parquet")
    checked = 0
    for chunk in json.loads((folder / "expected.json").read_text())["chunks"]:
        first = chunk["chunk"] * 5_000
        current = rows.iloc[first : first + 5_000]
        for name, published in chunk["drift"].items():
            check = check_number if "ks" in published else check_category
            check(reference[name], current[name], published)
            checked += 1
    assert checked == 80


def test_the_ks_distances_of_a_bank_s_months() -> None:
    folder = SHARED / "bank_marketing"
    reference = pd.read_parquet(folder / "replay/reference.parquet")
    events = pd.read_parquet(folder / "replay/events.parquet")
    months = dict(iter(events.groupby(events["ts"].dt.strftime("%Y-%m"))))
    checked = 0
    for month, known in json.loads((folder / "expected.json").read_text())["windows"].items():
        for name, published in known["drift"].items():
            if "ks" not in published:
                continue
            rows, _ = by_value(reference[name], months[month][name])
            distance = kolmogorov_smirnov_distance(*rows)
            assert distance == pytest.approx(published["ks"], abs=1e-6), (month, name)
            oracle = ks_2samp(reference[name], months[month][name])
            assert distance == pytest.approx(float(oracle.statistic), abs=1e-12)
            checked += 1
    assert checked > 150


def test_the_distances_of_bicycle_rentals() -> None:
    folder = SHARED / "bike_sharing"
    reference = pd.read_parquet(folder / "replay/reference.parquet")
    events = pd.read_parquet(folder / "replay/events.parquet")
    rows = events.merge(pd.read_parquet(folder / "replay/labels.parquet"), on="id")
    checked = 0
    # The weeks overlap, as they do where they were published.
    for week in json.loads((folder / "expected.json").read_text())["windows"].values():
        current = rows[rows["ts"].between(week["start"], week["end"])]
        check_number(reference["label"], current["label"], week["target_drift"])
        for name, published in week["drift"].items():
            check = check_number if "ks" in published else check_category
            check(reference[name], current[name], published)
            checked += 1
    assert checked == 36
