import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from modelwatch import Monitor, correlate
from modelwatch.encoding import encode
from tests.unit.client.recorder import Recorder

COLUMNS = {
    "prediction_id": ["a", "b"],
    "ts": ["2026-11-20T10:00:00Z", "2026-11-20T12:00:00+02:00"],
    "prediction": [1, 0],
    "score": [0.83, None],
    "label": [None, 1],
    "weight": [1.0, 2.0],
    "subject": ["customer-17", None],
    "tags.channel": ["web", None],
    "scores.0": [0.17, None],
    "attributions.income": [0.3, 0.1],
    "income": [41_000.0, 12_000.0],
    "region": ["north", None],
}
AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
MAKERS: list[Callable[[Any], Any]] = [
    pd.DataFrame,
    pa.table,
    pa.RecordBatch.from_pydict,
    dict,
    lambda columns: [dict(zip(columns, row, strict=True)) for row in zip(*columns.values())],  # noqa: B905 - as long as the shortest
]


@pytest.fixture
def monitor() -> Recorder:
    return Recorder()


def without_missing(features: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in features.items() if not pd.isna(value)}


@pytest.mark.parametrize("make", MAKERS)
def test_columns_have_the_names_of_the_interface(
    monitor: Recorder, make: Callable[[Any], Any]
) -> None:
    assert monitor.log_frame(make(COLUMNS)) == ["a", "b"]
    first, second = monitor.logged
    assert without_missing(first.pop("features")) == {"income": 41_000.0, "region": "north"}
    assert without_missing(second.pop("features")) == {"income": 12_000.0}
    assert first == {
        "id": "a",
        "ts": AT,
        "prediction": 1,
        "score": 0.83,
        "weight": 1.0,
        "subject": "customer-17",
        "tags": {"channel": "web"},
        "scores": {"0": 0.17},
        "attributions": {"income": 0.3},
    }
    assert second == {
        "id": "b",
        "ts": AT,
        "prediction": 0,
        "weight": 2.0,
        "attributions": {"income": 0.1},
    }
    assert monitor.labels == [("b", 1, None)]
    assert not monitor.faults


def test_other_names_are_said(monitor: Recorder) -> None:
    frame = pd.DataFrame({"y": [1], "p": [0.5], "id": [17], "truth": [0], "at": [1.5], "x": [2]})
    ids = monitor.log_frame(
        frame, prediction="y", score="p", prediction_id="id", label="truth", label_ts="at"
    )
    assert ids == ["17"]
    assert monitor.features() == [{"x": 2}]
    assert monitor.labels == [("17", 0, 1.5)]


def test_features_can_be_chosen(monitor: Recorder) -> None:
    monitor.log_frame(pd.DataFrame({"prediction": [1], "x": [2], "row_nr": [3]}), features=["x"])
    assert monitor.features() == [{"x": 2}]


def test_new_ids_and_one_time_are_given_where_there_are_none(monitor: Recorder) -> None:
    ids = monitor.log_frame({"prediction": [1, 0], "x": [1, 2]})
    assert len({*ids}) == 2
    assert ids == [row["id"] for row in monitor.logged]
    assert monitor.logged[0]["ts"] == monitor.logged[1]["ts"]
    with correlate("job"):
        assert monitor.log_frame({"prediction": [1, 0]}) == ["job", "job~1"]


@pytest.mark.parametrize(
    ("table", "options", "fault", "said"),
    [
        ({"x": [1]}, {"score": "p"}, ValueError, "no column 'p'"),
        ({"x": [1]}, {"features": ["z"]}, ValueError, "no column 'z'"),
        ({"x": [1], "y": [1, 2]}, {}, ValueError, "differ in length"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), {}, ValueError, "twice: x"),
        (np.zeros((2, 2)), {}, TypeError, "ndarray is no table"),
        ("text", {}, TypeError, "str is no table"),
        (None, {}, TypeError, "NoneType is no table"),
    ],
)
def test_what_is_no_such_table_is_told(
    monitor: Recorder, table: Any, options: Any, fault: type[Exception], said: str
) -> None:
    with pytest.raises(fault, match=said):
        monitor.log_frame(table, **options)
    assert not monitor.logged


def test_a_bad_row_is_counted_and_harms_no_other(monitor: Recorder) -> None:
    times = ["2026-11-20T10:00:00Z", "yesterday", None]
    ids = monitor.log_frame({"ts": times, "prediction": [1, 1, 1]})
    assert len(ids) == 3
    assert [row["id"] for row in monitor.logged] == ids[:1]
    assert len(monitor.faults) == 2


def as_sent(monitor: Recorder) -> list[bytes]:
    return [encode(features) for features in monitor.features()]


def test_what_pandas_has_for_missing_is_null(monitor: Recorder) -> None:
    frame = pd.DataFrame(
        {
            "float": [1.5, None],
            "int": pd.array([2**53 + 1, None], dtype="Int64"),
            "flag": pd.array([True, None], dtype="boolean"),
            "text": pd.array(["a", None], dtype="string"),
            "kind": pd.Categorical(["b", None]),
            "at": [pd.Timestamp("2026-11-20T10:00:00"), None],
            "zoned": [pd.Timestamp("2026-11-20T12:00:00", tz="Europe/Sofia"), None],
            "vector": [[1.0, 2.0], None],
        }
    )
    monitor.log_frame(frame)
    time = "2026-11-20T10:00:00.000000Z"
    first, second = map(json.loads, as_sent(monitor))
    assert first == {
        "float": 1.5,
        "int": 2**53 + 1,
        "flag": True,
        "text": "a",
        "kind": "b",
        "at": time,
        "zoned": time,
        "vector": [1.0, 2.0],
    }
    assert set(second.values()) == {None}
    assert set(second) == set(first)


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"at": [pd.NaT, pd.Timestamp("2026-11-20T10:00:00")]}),
        pa.table({"at": pa.array([None, datetime(2026, 11, 20, 10)], pa.timestamp("us"))}),
        {"at": [None, datetime(2026, 11, 20, 10)]},
    ],
)
def test_times_of_tables_without_a_zone_are_in_utc(monitor: Recorder, table: Any) -> None:
    monitor.log_frame(table)
    assert as_sent(monitor)[1].replace(b" ", b"") == b'{"at":"2026-11-20T10:00:00.000000Z"}'


def test_polars_is_read_where_it_is_installed(monitor: Recorder) -> None:
    polars = pytest.importorskip("polars")
    rows = {
        **COLUMNS,
        "at": [datetime(2026, 11, 20, 10), None],
        "zoned": [AT, None],
        "vector": [[1.0, 2.0], None],
    }
    table = polars.DataFrame(rows).with_columns(
        polars.col("region").cast(polars.Categorical),
        polars.col("vector").cast(polars.Array(polars.Float32, 2)),
        polars.col("zoned").dt.convert_time_zone("Europe/Sofia"),
    )
    assert monitor.log_frame(table) == ["a", "b"]
    first, second = monitor.logged
    time = "2026-11-20T10:00:00.000000Z"
    assert json.loads(encode(first["features"])) == {
        "income": 41_000.0,
        "region": "north",
        "at": time,
        "zoned": time,
        "vector": [1.0, 2.0],
    }
    assert without_missing(second["features"]) == {"income": 12_000.0}
    with pytest.raises(TypeError, match="LazyFrame is no table yet; collect"):
        monitor.log_frame(table.lazy())


def test_vectors_of_numpy_and_arrow_are_lists(monitor: Recorder) -> None:
    vectors = [np.array([1.0, 2.0], np.float32), np.array([3.0, np.nan], np.float32)]
    monitor.log_frame({"vector": vectors})
    monitor.log_frame(pd.DataFrame({"vector": vectors}))
    monitor.log_frame(pa.table({"vector": [[1.0, 2.0], [3.0, None]]}))
    expected = [b'{"vector":[1.0,2.0]}', b'{"vector":[3.0,null]}']
    assert [row.replace(b" ", b"") for row in as_sent(monitor)] == expected * 3


def test_it_waits_for_room_and_not_for_ever(
    monitor: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: Iterator[bool] = iter([True, True, False, False])
    monkeypatch.setattr(monitor, "_is_filling", lambda: next(waits))
    monitor.log_frame({"prediction": [1, 2]})
    assert next(waits, None) is None
    monkeypatch.setattr(monitor, "_is_filling", lambda: True)
    monitor.log_frame({"prediction": range(1_000)}, timeout=0.01)
    assert len(monitor.logged) == 1_002


def test_in_the_mode_of_tests_it_waits_for_nobody_and_keeps_all() -> None:
    monitor = Monitor("loans", "7", mode="memory", max_rows=1_000)
    ids = monitor.log_frame({"prediction": [1] * 2_500}, timeout=1)
    assert [record["prediction_id"] for record in monitor.records] == ids
