import numpy as np
import pyarrow as pa
import pytest

from service.detection.evidently_adapter import score_columns
from service.detection.evidently_methods import METHODS
from service.detection.methods import METHODS as DRIFT
from service.detection.methods import Sample
from service.profiles.columns import Column, Kind
from service.registry import monitor_drift as monitor


def test_a_monitor_accepts_only_tests_that_the_adapter_knows() -> None:
    numeric = {name for name, method in METHODS.items() if Kind.NUMERIC in method.kinds}
    categorical = {name for name, method in METHODS.items() if Kind.CATEGORICAL in method.kinds}
    assert set(monitor.EVIDENTLY_NUMERIC) <= numeric
    assert set(monitor.EVIDENTLY_CATEGORICAL) <= categorical


def test_hellinger_and_wasserstein_are_evidentlys_for_the_same_bins() -> None:
    rng = np.random.default_rng(3)
    old, new = rng.integers(0, 6, 900), rng.binomial(5, 0.4, 400)
    texts = [pa.table({"x": [f"v{i}" for i in side]}) for side in (old, new)]
    numbers = [pa.table({"x": side.astype(float)}) for side in (old, new)]
    rows = [np.bincount(side, minlength=6) for side in (old, new)]
    places = np.arange(6.0)
    a, b = (Sample(x, x * places, float(old.std())) for x in rows)
    for name, tables, kind in (
        ("hellinger", texts, Kind.CATEGORICAL),
        ("wasserstein", numbers, Kind.NUMERIC),
    ):
        asked = dict.fromkeys(("numeric", "categorical"), name)
        found = score_columns(tables[0], tables[1], [Column("x", kind)], asked, {}, min_rows=30)
        expected = next(score.value for score in found if score.subject == "x")
        assert DRIFT[name].score(a, b) == pytest.approx(expected, abs=1e-9)
