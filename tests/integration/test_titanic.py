"""Missing and unseen values of a public data set, as others have published them."""

import csv
import json
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.evaluation.measurement import Measurement, Verdict
from service.evaluation.quality import QualityPolicy, judge_quality
from service.profiles.build import profile_features
from service.profiles.columns import Classes, Column, Kind
from service.profiles.freeze import freeze_binning

DATA = Path(__file__).parents[3] / "shared" / "data" / "titanic_missing"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the data set titanic_missing is not beside the project"
)
NUMBERS = (pa.int64(), pa.float64())
Found = dict[tuple[str, str | None], Measurement]


def read(name: str) -> pa.Table:
    return pq.read_table(DATA / f"{name}.parquet")


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    return {name: read(name) for name in ("reference", "analysis")}


def judge(tables: dict[str, pa.Table], window: pa.Table) -> Found:
    columns = [
        Column(field.name, Kind.NUMERIC if field.type in NUMBERS else Kind.CATEGORICAL)
        for field in tables["reference"].schema
    ]
    binning = freeze_binning(tables["reference"], columns, Classes("0", "1"))
    profile = partial(profile_features, columns=columns, binning=binning)
    judged = judge_quality(
        binning, profile(tables["reference"]), [], profile(window), QualityPolicy(min_rows=30),
        columns=columns,
    )  # fmt: skip
    return {(m.metric, m.subject): m for m in judged}


def published(name: str, period: str) -> list[dict[str, str]]:
    with (DATA / "published" / f"{name}.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["chunk.period"] == period]


def chunk_of(tables: dict[str, pa.Table], row: dict[str, str]) -> pa.Table:
    first, last = int(row["chunk.start_index"]), int(row["chunk.end_index"])
    return tables[row["chunk.period"]].slice(first, last - first + 1)


def test_the_missing_ratios_are_the_expected_ones(tables: dict[str, pa.Table]) -> None:
    expected = json.loads((DATA / "expected.json").read_text())
    found = judge(tables, tables["analysis"])
    for name, ratio in expected["analysis_missing"].items():
        measured = found["missing_ratio", name]
        assert measured.value == pytest.approx(ratio, abs=1e-6)
        assert measured.reference_value == pytest.approx(
            expected["reference_missing"][name], abs=1e-6
        )
        assert measured.verdict is Verdict.OK


@pytest.mark.parametrize("period", ["reference", "analysis"])
def test_the_missing_ratios_of_chunks_are_the_published_ones(
    tables: dict[str, pa.Table], period: str
) -> None:
    for row in published("missing", period):
        found = judge(tables, chunk_of(tables, row))
        for column, value in row.items():
            if column.endswith(".value"):
                measured = found["missing_ratio", column.removesuffix(".value")]
                assert measured.value == pytest.approx(float(value), abs=1e-6)


@pytest.mark.parametrize("period", ["reference", "analysis"])
def test_the_unseen_values_of_chunks_are_the_published_ones(
    tables: dict[str, pa.Table], period: str
) -> None:
    for row in published("unseen", period):
        window = chunk_of(tables, row)
        found = judge(tables, window)
        for column, value in row.items():
            if column.endswith(".value"):
                measured = found["unseen_ratio", column.removesuffix(".value")]
                # Published as a share of all rows; here as a share of those with a value.
                counted = (measured.value or 0.0) * measured.n
                assert counted == pytest.approx(float(value) * window.num_rows, abs=1e-4)


def test_tickets_are_new_as_often_as_the_reference_promises(tables: dict[str, pa.Table]) -> None:
    found = judge(tables, tables["analysis"])
    assert found["unseen_ratio", "Ticket"].verdict is Verdict.OK
    assert found["unseen_ratio", "Name"].verdict is Verdict.OK
    # The numbers of the passengers go on where the reference's end.
    alerts = {key for key, measured in found.items() if measured.verdict is Verdict.ALERT}
    assert alerts == {("out_of_range_ratio", "PassengerId")}
