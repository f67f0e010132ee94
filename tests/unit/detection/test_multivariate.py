"""Rows that moved as a whole are found, and rows that did not are left alone."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from service.detection.encoding import MOST_CATEGORIES, encode, vectors_of
from service.detection.multivariate import classify_domain, directions_of, reconstruct
from service.detection.separation import Fold, measure_separation
from service.profiles.columns import Column, Kind

LOANS = Path(__file__).resolve().parents[4] / "shared" / "data" / "nannyml_car_loan"
SOME = np.random.default_rng(5)

scores = st.lists(st.integers(-3, 3), min_size=2, max_size=40)


def _mixed(rng: np.random.Generator, rows: int, *, together: float = 0.5) -> pa.Table:
    a = rng.normal(size=rows)
    b = together * a + np.sqrt(1 - together**2) * rng.normal(size=rows)
    income = np.where(rng.random(rows) < 0.2, np.nan, np.exp(rng.normal(size=rows)))
    plan = rng.choice(["basic", "gold", "silver"], rows, p=[0.6, 0.3, 0.1])
    return pa.table({"a": a, "b": b, "income": income, "plan": plan, "old": a > 1})


COLUMNS = (
    *(Column(name, Kind.NUMERIC) for name in ("a", "b", "income")),
    Column("plan", Kind.CATEGORICAL),
    Column("old", Kind.BOOLEAN),
)


@given(scores, scores)
def test_the_area_is_that_of_scikit_learn(before: list[int], now: list[int]) -> None:
    found = measure_separation([Fold(np.array(before, float), np.array(now, float))])
    sides = np.repeat([0, 1], [len(before), len(now)])
    assert found.auc == pytest.approx(roc_auc_score(sides, [*before, *now]))
    assert 0 <= found.ci_low <= found.auc <= found.ci_high <= 1


def test_chance_is_that_of_mann_and_whitney_with_ties() -> None:
    before, now = SOME.integers(0, 5, 80).astype(float), SOME.integers(0, 6, 60).astype(float)
    found = measure_separation([Fold(before, now)])
    oracle = stats.mannwhitneyu(now, before, alternative="greater", use_continuity=False)
    # Ours divides by the variance without the finite population's factor of N/(N - 1).
    assert found.p_above == pytest.approx(oracle.pvalue, rel=0.05)


def test_a_reference_whose_pieces_differ_among_themselves_makes_a_window_that_differs_usual() -> (
    None
):
    levels = SOME.normal(0, 1, 20)
    before = (levels[:, None] + SOME.normal(0, 0.3, (20, 50))).ravel()
    now = 1.0 + SOME.normal(0, 0.3, 200)
    pieces = np.repeat(np.arange(20), 50)
    assert measure_separation([Fold(before, now)]).p_above < 1e-9
    assert measure_separation([Fold(before, now, pieces)]).p_above > 0.01


@pytest.mark.parametrize(("before", "now"), [(0.0, 0.8), (0.8, 0.0)])
def test_a_change_of_the_correlation_alone_is_found(before: float, now: float) -> None:
    rng = np.random.default_rng(int(10 * before))
    sides = _mixed(rng, 3000, together=before), _mixed(rng, 2000, together=now)
    encoded = encode(*sides, COLUMNS)
    found = classify_domain(encoded, None)
    assert found.auc > 0.6
    assert found.p_above < 1e-6
    rebuilt = reconstruct(encoded, None)
    assert rebuilt is not None
    # What was no structure cannot be missed; what was is.
    assert (rebuilt.separation.p_either < 1e-6) == (before > now)


def test_windows_of_the_same_rows_seldom_differ() -> None:
    # Fresh references: of 40 windows at 1 % more than three are a one in 1,500 event.
    rng = np.random.default_rng(8)
    found = []
    for _ in range(40):
        encoded = encode(_mixed(rng, 500), _mixed(rng, 150), COLUMNS)
        rebuilt = reconstruct(encoded, np.arange(500) // 50)
        assert rebuilt is not None
        found += [(classify_domain(encoded, None).p_above, rebuilt.separation.p_either)]
    alerts = (np.array(found) < 0.01).sum(axis=0)
    assert (alerts <= 3).all()


def test_the_published_alerts_of_the_car_loans_are_found_in_the_same_chunks() -> None:
    reference = pq.read_table(LOANS / "reference.parquet")
    analysis = pq.read_table(LOANS / "analysis.parquet")
    outputs = {"repaid", "timestamp", "y_pred_proba", "y_pred"}
    columns = [
        Column(field.name, Kind.NUMERIC if pa.types.is_floating(field.type) else Kind.CATEGORICAL)
        for field in reference.schema
        if field.name not in outputs
    ]
    before = reference.take(pa.array(np.arange(5000) * 10))
    published = {
        name: np.genfromtxt(LOANS / "published" / file, delimiter=",", names=True, dtype=None)
        for name, file in (
            ("auc", "domain_classifier.csv"),
            ("pca", "pca_reconstruction.csv"),
        )
    }
    for chunk in (0, 4, 5, 9):
        encoded = encode(before, analysis.slice(chunk * 5000, 5000), columns)
        found = classify_domain(encoded, np.arange(5000) // 500)
        rebuilt = reconstruct(encoded, np.arange(5000) // 500)
        assert rebuilt is not None
        said = published["auc"]["domain_classifier_aurocvalue"][chunk]
        assert found.auc == pytest.approx(said, abs=0.04)
        alert = bool(published["auc"]["domain_classifier_aurocalert"][chunk])
        assert (found.p_above < 0.005 and found.auc >= 0.6) == alert
        moved = abs(rebuilt.current - rebuilt.reference) >= 0.1 * rebuilt.deviation
        alert = bool(published["pca"]["reconstruction_erroralert"][chunk])
        assert (rebuilt.separation.p_either < 0.005 and moved) == alert


def test_odd_columns_neither_fail_nor_tell_anything() -> None:
    rows = 40
    odd = {
        "constant": pa.array([1.0] * rows),
        "nothing": pa.nulls(rows, pa.float64()),
        "infinite": pa.array([np.inf, -np.inf] * (rows // 2)),
        "large": pa.array([1e308, -1e308] * (rows // 2)),
        "id": pa.array([str(i) for i in range(rows)]),
        "untyped": pa.nulls(rows),
    }
    numeric = {"constant", "nothing", "infinite", "large"}
    columns = [
        Column(name, Kind.NUMERIC if name in numeric else Kind.CATEGORICAL)
        for name in (*odd, "absent")
    ]
    table = pa.table(odd)
    encoded = encode(table, table, columns)
    assert encoded.columns == 2
    assert encoded.codes.max() == MOST_CATEGORIES
    found = classify_domain(encoded, None)
    assert np.isfinite([found.auc, found.ci_low, found.ci_high, found.z, found.p_above]).all()
    rebuilt = reconstruct(encoded, None)
    assert rebuilt is None or np.isfinite([rebuilt.current, rebuilt.deviation]).all()


def _vectors(rng: np.random.Generator, rows: int, shift: float) -> NDArray[np.float64]:
    return rng.normal(size=(rows, 64)) + shift


def test_vectors_that_moved_are_told_apart_and_others_are_not() -> None:
    rng = np.random.default_rng(3)
    same = directions_of(_vectors(rng, 800, 0.0), _vectors(rng, 500, 0.0))
    moved = directions_of(_vectors(rng, 800, 0.0), _vectors(rng, 500, 0.2))
    assert classify_domain(same, None).p_above > 0.001
    assert classify_domain(moved, None).auc > 0.75


def test_vectors_without_a_value_or_of_another_length_are_left_out() -> None:
    fixed = pa.array([[1.0, 2.0], None, [3.0, np.nan], [5.0, 6.0]], pa.list_(pa.float64(), 2))
    table = pa.table({"fixed": fixed, "free": [[1.0], [1.0, 2.0], [3.0, 4.0], []]})
    for name, wanted in (("fixed", [[1, 2], [5, 6]]), ("free", [[1, 2], [3, 4]])):
        found = vectors_of(table, name)
        assert found is not None
        assert found.tolist() == wanted
    assert vectors_of(table, "absent") is None
    assert vectors_of(pa.table({"x": [1.0]}), "x") is None
