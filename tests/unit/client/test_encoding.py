import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelwatch import Monitor

AT = "2026-11-20T10:00:00.000000Z"


def logged(value: Any) -> Any:
    monitor = Monitor("loans", "7", mode="memory")
    monitor.log({"value": value}, 1)
    (record,) = monitor.records
    return record["features"]["value"]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (np.float16(0.5), 0.5),
        (np.int64(2**53 + 1), 2**53 + 1),
        (np.bool_(True), True),
        (np.str_("north"), "north"),
        (np.float32("nan"), None),
        (np.ma.masked, None),
        (pd.NA, None),
        (pd.NaT, None),
        (np.datetime64("NaT"), None),
        (np.timedelta64("NaT"), None),
        (np.ones((2, 2)), [[1.0, 1.0], [1.0, 1.0]]),
        (pd.Series([1, 2]), [1, 2]),
        (pd.Categorical(["a", None]), ["a", None]),
    ],
)
def test_values_of_numpy_and_pandas_are_plain_ones(value: Any, sent: Any) -> None:
    assert logged(value) == sent


@pytest.mark.parametrize(
    "value",
    [
        pd.Timestamp("2026-11-20T10:00:00"),
        pd.Timestamp("2026-11-20T12:00:00", tz="Europe/Sofia"),
        np.datetime64("2026-11-20T10:00:00", "ns"),
        np.datetime64("2026-11-20T10", "h"),
        datetime(2026, 11, 20, 10, tzinfo=UTC),
        datetime(2026, 11, 20, 10, tzinfo=UTC).astimezone().replace(tzinfo=None),
    ],
)
def test_a_time_is_in_utc_and_without_a_zone_that_of_the_library(value: Any) -> None:
    assert logged(value) == AT
    assert logged([value]) == [AT]
    monitor = Monitor("loans", "7", mode="memory")
    made = monitor.log({}, 1, ts=value)
    monitor.label(made, 1, label_ts=value)
    assert [monitor.records[0]["ts"], monitor.records[1]["label_ts"]] == [AT, AT]


def test_many_times_are_many_texts() -> None:
    times = np.array(["2026-11-20T10:00:00", "NaT"], "datetime64[ns]")
    assert logged(times) == [AT, None]
    assert logged(pd.Series(times)) == [AT, None]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (timedelta(hours=1), 3600.0),
        (pd.Timedelta("1h"), 3600.0),
        (np.timedelta64(3_600_000_000_000, "ns"), 3600.0),
        (date(2026, 11, 20), "2026-11-20"),
        (pd.Period("2026-11"), "2026-11"),
        (pd.cut(pd.Series([0.5]), [0, 1])[0], "(0, 1]"),
    ],
)
def test_durations_are_seconds_and_intervals_have_their_names(value: Any, sent: Any) -> None:
    assert logged(value) == sent


def test_a_row_of_a_frame_can_be_the_features() -> None:
    monitor = Monitor("loans", "7", mode="memory")
    monitor.log(pd.DataFrame({"a": [1], "b": ["x"]}).iloc[0], np.int64(1), score=np.float32(0.5))  # type: ignore[arg-type]  # a Series is no Mapping, and has what is used of one
    (record,) = json.loads(json.dumps(monitor.records))
    assert (record["features"], record["prediction"], record["score"]) == (
        {"a": 1, "b": "x"},
        1,
        0.5,
    )
