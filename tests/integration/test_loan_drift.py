"""Drift verdicts on a public data set that is known to drift from its sixth window on."""

from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from service.evaluation.drift import judge_drift
from service.evaluation.drift_columns import DriftPolicy
from service.evaluation.measurement import Measurement, Verdict
from service.profiles.build import profile_features
from service.profiles.columns import Classes, Column, Kind
from service.profiles.freeze import freeze_binning

LOANS = Path(__file__).parents[2] / "../shared/data/nannyml_car_loan"
CLASSES = Classes("0", "1")
DRIFTING = {"car_value", "salary_range", "loan_length", "repaid_loan_on_prev_car"}


@pytest.fixture(scope="module")
def loan_windows() -> list[dict[str, Measurement]]:
    if not LOANS.exists():
        pytest.skip("needs the public data set in ../shared/data/nannyml_car_loan")
    tables = [loan_rows(name) for name in ("reference", "analysis")]
    kinds = {pa.bool_(): Kind.BOOLEAN, pa.float64(): Kind.NUMERIC}
    columns = [
        Column(field.name, kinds.get(field.type, Kind.CATEGORICAL))
        for field in tables[0].schema
        if field.name not in {"prediction", "score"}
    ]
    binning = freeze_binning(tables[0], columns, CLASSES)
    profile = partial(profile_features, columns=columns, binning=binning)
    chunks, windows = ([profile(t.slice(k * 5000, 5000)) for k in range(10)] for t in tables)
    reference = profile(tables[0])
    policy = DriftPolicy()
    return [
        {str(m.subject): m for m in judge_drift(binning, reference, chunks, window, policy)}
        for window in windows
    ]


def loan_rows(name: str) -> pa.Table:
    rows = pq.read_table(LOANS / f"{name}.parquet").drop_columns(["timestamp", "repaid"])
    prediction = pc.cast(rows["y_pred"], pa.string())
    rows = rows.drop_columns(["y_pred"]).append_column("prediction", prediction)
    return rows.rename_columns({"y_pred_proba": "score"})


def test_the_loan_data_drifts_from_the_sixth_window_on(
    loan_windows: list[dict[str, Measurement]],
) -> None:
    for k, window in enumerate(loan_windows):
        alerts = {name for name, m in window.items() if m.verdict is Verdict.ALERT}
        features = alerts - {"prediction", "score"}
        assert features == (DRIFTING if k >= 5 else set()), f"window {k}"
        assert Verdict.INSUFFICIENT_DATA not in {m.verdict for m in window.values()}
