"""Evidently measures what it says, and nothing that it meets costs another column its score."""

import importlib
import io
import json
import math
import re
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.detection.evidently_columns import OTHER, values_of, with_other
from service.detection.evidently_methods import METHODS, Scale
from service.evaluation.evidently import Subject, measure, render_report
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.profiles.columns import Column, Kind

NUMERIC = Column("amount", Kind.NUMERIC)
REGION = Column("region", Kind.CATEGORICAL)
WINDOW = Subject("loans", "7", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
HOSTILE = "</script><script>alert(1)</script>"


def rows(seed: int, n: int = 400, shift: float = 0.0) -> pa.Table:
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "amount": random.normal(shift, 1.0, n),
            "region": random.choice(["north", "south", "east"], n, p=[0.5, 0.3, 0.2]),
            "flag": random.random(n) < 0.3,
            "prediction": random.choice(["0", "1"], n),
            "score": random.random(n),
        }
    )


def only(found: list[Measurement]) -> Measurement:
    assert len(found) == 1
    return found[0]


def shares(values: list[Any], names: list[Any]) -> np.ndarray[Any, Any]:
    return np.array([values.count(name) for name in names]) / len(values)


def test_jensenshannon_and_psi_of_categories_equal_their_definitions() -> None:
    before, now = (rows(seed).select(["region"]) for seed in (1, 2))
    names = ["north", "south", "east"]
    p, q = (shares(t["region"].to_pylist(), names) for t in (before, now))
    m = (p + q) / 2
    divergence = (np.sum(p * np.log(p / m)) + np.sum(q * np.log(q / m))) / 2
    expected = {
        "jensenshannon": math.sqrt(divergence),
        "psi": float(np.sum((q - p) * np.log(q / p))),
    }
    for name, value in expected.items():
        found = only(measure(before, now, [REGION], {"categorical": name}))
        assert found.value == pytest.approx(value, rel=1e-9)
        assert found.method == f"evidently.{name}"


def test_wasserstein_equals_the_mean_gap_of_the_sorted_values_over_the_reference_sd() -> None:
    before, now = rows(1).select(["amount"]), rows(2, shift=0.5).select(["amount"])
    a, b = (np.sort(t["amount"].to_numpy()) for t in (before, now))
    found = only(measure(before, now, [NUMERIC]))
    assert found.value == pytest.approx(np.abs(a - b).mean() / a.std(), rel=1e-9)
    assert (found.n, found.n_reference, found.verdict) == (400, 400, None)


def test_every_method_is_known_to_evidently_under_its_kinds_and_threshold() -> None:
    importlib.import_module("service.detection.evidently_adapter")
    registry = importlib.import_module("evidently.legacy.calculations.stattests.registry")
    column = importlib.import_module("evidently.legacy.core").ColumnType
    kinds = {column.Numerical: Kind.NUMERIC, column.Categorical: Kind.CATEGORICAL}
    theirs = {
        name: (
            {kinds[kind] for kind in by_kind if kind in kinds},
            next(iter(by_kind.values())).default_threshold,
        )
        for name, by_kind in registry._registered_stat_tests.items()
    }
    ours = {
        name: (set(method.kinds) - {Kind.BOOLEAN}, method.threshold)
        for name, method in METHODS.items()
    }
    assert ours == theirs


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.kinds])
def test_scores_get_worse_in_the_direction_that_the_table_says(name: str) -> None:
    def two(share: float, n: int = 300) -> pa.Table:
        ones = int(share * n)
        random = np.random.default_rng(int(share * 1000))
        return pa.table(
            {
                "amount": random.normal(share, 0.2, n),
                "region": ["north"] * ones + ["south"] * (n - ones),
            }
        )

    column = NUMERIC if Kind.NUMERIC in METHODS[name].kinds else REGION
    methods = {"numeric": name, "categorical": name}
    near, far = (measure(two(0.50), two(share), [column], methods)[0] for share in (0.51, 0.95))
    assert near.value is not None
    assert far.value is not None
    if METHODS[name].scale is Scale.P_VALUE:
        assert far.value < near.value
        assert (far.direction, far.p_value) == (Direction.LOWER_IS_WORSE, far.value)
    else:
        assert far.value > near.value
        assert (far.direction, far.p_value) == (Direction.HIGHER_IS_WORSE, None)


BAD: dict[str, tuple[pa.Array, str]] = {
    "empty": (pa.array([], pa.float64()), "no_values"),
    "all missing": (pa.nulls(400, pa.float64()), "no_values"),
    "nothing finite": (pa.array([math.nan, math.inf] * 200), "no_values"),
    "one row": (pa.array([1.0]), "too_few_rows"),
    "another type": (pa.array(["a"] * 400), "column_unusable"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_column_that_cannot_be_measured_says_why_and_costs_no_other(case: str) -> None:
    values, reason = BAD[case]
    now = rows(2)
    bad = pa.table({"amount": values})
    reference = rows(1)
    assert only(measure(reference, bad, [NUMERIC])).reason == reason
    if len(values) == 400:
        both = now.set_column(0, "amount", values)
        found = {m.subject: m for m in measure(reference, both, [NUMERIC, REGION])}
        assert found["amount"].value is None
        assert found["region"].value is not None
        assert set(found) == {"amount", "region", "prediction", "score"}


def test_a_constant_reference_has_no_standard_deviation_to_measure_in() -> None:
    constant = pa.table({"amount": [5.0] * 100})
    varying = pa.table({"amount": np.arange(100.0)})
    assert only(measure(constant, varying, [NUMERIC])).reason == "constant_reference"
    assert only(measure(constant, constant, [NUMERIC])).value == 0.0


def test_a_column_that_is_absent_says_so() -> None:
    found = measure(rows(1), rows(2).drop_columns(["amount"]), [NUMERIC])
    assert {m.subject: m.reason for m in found if m.value is None} == {"amount": "column_unusable"}


def test_a_test_that_raises_is_a_reason() -> None:
    found = measure(rows(1), rows(2), [REGION], {"categorical": "fisher_exact"})
    assert {m.subject: m.reason for m in found}["region"] == "failed: ValueError"


def test_a_method_for_another_kind_does_not_apply() -> None:
    found = measure(rows(1), rows(2), [REGION], overrides={"region": "evidently.ks"})
    assert found[0].reason == "method_does_not_apply"
    with pytest.raises(KeyError):
        measure(rows(1), rows(2), [REGION], overrides={"region": "no-such-test"})


def test_measuring_leaves_the_global_seed_as_it_was() -> None:
    def state() -> Any:
        generator = np.random.get_state(legacy=False)  # noqa: NPY002  it is the one that is seeded
        return generator["state"]["key"].tolist()

    expected = state()
    measure(rows(1), rows(2), [REGION], {"categorical": "TVD"})
    assert state() == expected


def test_the_reference_may_be_a_parquet_file() -> None:
    file = io.BytesIO()
    pq.write_table(rows(1), file)
    columns = [NUMERIC, REGION, Column("flag", Kind.BOOLEAN)]
    assert measure(file.getvalue(), rows(2), columns) == measure(rows(1), rows(2), columns)


def test_rare_categories_are_folded_whatever_the_order_of_rows() -> None:
    before = pd.Series(["a", "a", "b", "c"])
    now = pd.Series(["a", "d", "b"])
    assert [side.tolist() for side in with_other(before, now, 2)] == [
        ["a", "a", "b", OTHER],
        ["a", OTHER, "b"],
    ]
    flags = values_of(pa.table({"f": [True, None, False]}), Column("f", Kind.BOOLEAN))
    assert flags is not None
    assert flags.tolist() == ["true", "false"]


def a_measurement(**overrides: Any) -> Measurement:
    fields: dict[str, Any] = {
        "metric": "roc_auc",
        "value": 0.8,
        "n": 400,
        "method": "delong",
        "direction": Direction.LOWER_IS_WORSE,
        "verdict": Verdict.ALERT,
        "reference_value": 0.9,
    }
    return Measurement(**{**fields, **overrides})


def embedded(html: str) -> Any:
    found = re.search(r"var metric_[0-9a-f]+ = ", html)
    assert found is not None
    return json.JSONDecoder().raw_decode(html, found.end())[0]


def hostile_report() -> str:
    def spoilt(table: pa.Table) -> pa.Table:
        region = [HOSTILE if name == "east" else name for name in table["region"].to_pylist()]
        return table.set_column(1, HOSTILE, pa.array(region))

    measurements = [
        a_measurement(subject=HOSTILE),
        a_measurement(metric="accuracy", verdict=Verdict.OK),
        a_measurement(
            metric="f1", value=None, verdict=Verdict.INSUFFICIENT_DATA, reason="single_class"
        ),
    ]
    return render_report(
        WINDOW,
        measurements,
        reference=spoilt(rows(1)),
        current=spoilt(rows(2)),
        columns=[NUMERIC, Column(HOSTILE, Kind.CATEGORICAL)],
    ).decode()


def test_text_of_the_data_cannot_end_a_script_element() -> None:
    html = hostile_report()
    assert HOSTILE not in html
    assert r"\u003c/script\u003e\u003cscript\u003ealert(1)" in html
    assert HOSTILE in json.dumps(embedded(html))


def test_a_report_bears_the_verdicts_of_the_service_and_draws_the_columns() -> None:
    document = embedded(hostile_report())
    states: dict[str, int] = {}
    tests = next(w for w in document["widgets"] if w["type"] == "test_suite")
    for test in tests["params"]["tests"]:
        states[test["state"]] = states.get(test["state"], 0) + 1
    assert states == {"fail": 1, "success": 1, "skipped": 1}
    text = json.dumps(document)
    assert "single_class" in text
    assert "0.8, reference 0.9, n 400" in text
    for column in ("amount", "prediction", "score"):
        assert f"Data drift in column '{column}'" in text or column in text


def test_a_report_loads_nothing_from_anywhere() -> None:
    html = render_report(
        WINDOW, [a_measurement()], reference=None, current=rows(1), columns=[NUMERIC]
    ).decode()
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)\s*=", html)
