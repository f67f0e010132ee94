from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from service.processes.files import SourceError, local_file
from service.processes.table_files import as_utc
from service.processes.table_records import Options, Source

Document = dict[str, Any]
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = {"ts": "when", "prediction": "y_pred", "score": "p", "label": "repaid"}


def a_table(rows: int = 25) -> pa.Table:
    return pa.table(
        {
            "when": pa.array([FIRST + timedelta(hours=row) for row in range(rows)]),
            "income": pa.array([None if row == 3 else 1000.0 + row for row in range(rows)]),
            "region": pa.array(["north", "south"] * (rows // 2) + ["north"] * (rows % 2)),
            "row_nr": pa.array(range(rows)),
            "y_pred": pa.array([row % 2 for row in range(rows)]),
            "p": pa.array([row / rows for row in range(rows)]),
            "repaid": pa.array([None if row == 5 else row % 3 // 2 for row in range(rows)]),
        }
    )


def write(table: pa.Table, path: Path) -> Path:
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pyarrow.parquet.write_table(table, path)
    return path


def source(path: Path, **options: Any) -> Source:
    given = {"columns": COLUMNS, "ignore": frozenset({"row_nr"}), "batch": 10, **options}
    return Source(local_file(path), ["loans", "7"], Options(**given))


def predictions(path: Path, **options: Any) -> list[Document]:
    return [row for batch in source(path, **options).batches() for row in batch.predictions]


@pytest.fixture(params=["parquet", "csv"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(a_table(), tmp_path / f"rows.{request.param}")


def test_times_move_with_the_rows_and_attributions_have_their_own_place(tmp_path: Path) -> None:
    signup = pa.array([None, *[FIRST - timedelta(days=3)] * 24], pa.timestamp("us"))
    table = a_table().append_column("signup", signup)
    table = table.append_column("attributions.income", pa.array([0.5] * 25))
    moved = source(write(table, tmp_path / "rows.parquet"), shift=timedelta(days=1))
    moved.times = frozenset({"signup", "region"})
    first, second, *_ = (row for batch in moved.batches() for row in batch.predictions)
    assert "attributions.income" not in moved.features
    assert second["attributions"] == {"income": 0.5}
    assert (first["features"]["signup"], first["features"]["region"]) == (None, "north")
    assert second["features"]["signup"] == "2025-12-30T00:00:00Z"


def test_a_row_becomes_a_record_of_its_roles_and_features(path: Path) -> None:
    record = predictions(path)[1]
    assert record.pop("prediction_id")
    assert record == {
        "ts": "2026-01-01T01:00:00Z",
        "features": {"income": 1001.0, "region": "south"},
        "prediction": 1,
        "score": 1 / 25,
    }


def test_batches_have_the_size_that_was_asked_for_and_lose_no_row(path: Path) -> None:
    sizes = [len(batch) for batch in source(path).batches()]
    assert sizes == [10, 10, 5]


def test_a_missing_value_stays_missing(path: Path) -> None:
    assert predictions(path)[3]["features"]["income"] is None


def test_a_row_without_a_label_has_no_label_record(path: Path) -> None:
    labels = [one for batch in source(path).batches() for one in batch.labels]
    assert len(labels) == 24


def test_the_second_reading_gives_the_same_records(path: Path) -> None:
    assert predictions(path) == predictions(path)


def test_ids_do_not_depend_on_the_batch_or_on_where_the_file_lies(
    path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / f"elsewhere{path.suffix}"
    copy.write_bytes(path.read_bytes())
    ids = [record["prediction_id"] for record in predictions(path)]
    assert [record["prediction_id"] for record in predictions(copy, batch=7)] == ids
    assert len(set(ids)) == len(ids)


def test_moved_times_have_ids_of_their_own(path: Path) -> None:
    ids = {record["prediction_id"] for record in predictions(path)}
    moved = {record["prediction_id"] for record in predictions(path, shift=timedelta(days=1))}
    assert not ids & moved


def test_start_moves_the_first_row_and_keeps_the_distances(path: Path) -> None:
    start = datetime(2030, 6, 1, tzinfo=UTC)
    times = [datetime.fromisoformat(row["ts"]) for row in predictions(path, start=start)]
    assert times == [start + timedelta(hours=row) for row in range(25)]


def test_a_label_is_known_after_the_delay(path: Path) -> None:
    batch = next(source(path, label_delay=timedelta(days=10)).batches())
    known, record = batch.labels[0]
    assert known == FIRST + timedelta(days=10)
    assert record["label_ts"] == "2026-01-11T00:00:00Z"


def test_an_id_column_is_used_as_it_is(path: Path) -> None:
    ids = [
        row["prediction_id"]
        for row in predictions(path, columns={**COLUMNS, "prediction_id": "row_nr"}, ignore=())
    ]
    assert ids == [str(row) for row in range(25)]


def test_a_column_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(SourceError, match="'nope'"):
        source(path, columns={**COLUMNS, "ts": "nope"})


def test_a_file_of_another_kind_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"not parquet at all")
    with pytest.raises(SourceError, match="cannot be read"):
        source(path)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([datetime(2026, 1, 1)], pa.timestamp("ns")),
        pa.array(["2026-01-01 00:00:00"]),
        pa.array(["2026-01-01T01:00:00+01:00"]),
        pa.array([datetime(2026, 1, 1).date()], pa.date32()),
        pa.array([FIRST], pa.timestamp("ms", "Europe/Berlin")),
    ],
    ids=["naive", "text", "text-with-zone", "date", "zoned"],
)
def test_every_kind_of_time_is_read_as_utc(column: pa.Array) -> None:
    assert as_utc(pa.chunked_array([column])).to_pylist() == [FIRST]


def test_scores_of_classes_and_tags_have_fields_of_their_own(tmp_path: Path) -> None:
    table = pa.table(
        {
            "ts": pa.array([FIRST, FIRST]),
            "income": [1.0, 2.0],
            "scores.a": [0.25, None],
            "scores.b": [0.75, 1.0],
            "tags.shop": [17, None],
        }
    )
    read = Source(
        local_file(write(table, tmp_path / "rows.parquet")), ["loans", "7"], Options(columns={})
    )
    assert read.has_predictions
    assert read.features == ["income"]
    first, second = (row for batch in read.batches() for row in batch.predictions)
    assert (first["scores"], first["tags"]) == ({"a": 0.25, "b": 0.75}, {"shop": "17"})
    assert (second["scores"], second.get("tags")) == ({"b": 1.0}, None)
