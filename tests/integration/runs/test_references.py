import gzip
import io
import json
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from service.profiles.binning import NumericBins
from service.profiles.segments import segments_from_bytes
from service.profiles.serialise import binning_from_bytes
from service.registry.repository import (
    find_version,
    latest_reference,
    load_binning,
    reference_calibrator,
    reference_sample,
    reference_segments,
)
from tests.clients import TestClient

URL = "/v1/models/loans/versions/7/reference"
PARQUET = "application/vnd.apache.parquet"
ARROW = "application/vnd.apache.arrow.stream"
NDJSON = "application/x-ndjson"


def a_reference(rows: int = 2000, *, shift: float = 0.0, **overrides: Any) -> pa.Table:
    rng = np.random.default_rng(7)
    score = rng.uniform(size=rows)
    start = datetime(2026, 1, 1)
    columns = {
        "ts": [start + timedelta(minutes=10 * row) for row in range(rows)],
        "income": rng.normal(shift, 1, size=rows),
        "region": rng.choice(["north", "south"], size=rows).tolist(),
        "employed": (rng.uniform(size=rows) < 0.7).tolist(),
        "score": score,
        "prediction": (score > 0.5).astype(int),
        "label": (rng.uniform(size=rows) < score).astype(int),
        **overrides,
    }
    return pa.table(columns)


def as_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def as_arrow(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def as_csv(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table, buffer)
    return buffer.getvalue()


def as_ndjson(table: pa.Table) -> bytes:
    return b"".join(json.dumps(row, default=str).encode() + b"\n" for row in table.to_pylist())


FORMATS = {
    PARQUET: as_parquet,
    ARROW: as_arrow,
    "text/csv": as_csv,
    NDJSON: as_ndjson,
}


def put(
    client: TestClient, table: pa.Table, media: str = PARQUET, query: str = "", **headers: str
) -> dict[str, Any]:
    answer = client.put(
        f"{URL}{query}", content=FORMATS[media](table), headers={"content-type": media, **headers}
    )
    return {"status": answer.status_code, **answer.json()}


@pytest.mark.parametrize("media", FORMATS)
def test_every_format_says_the_same(client: TestClient, media: str) -> None:
    answer = put(client, a_reference(), media)
    assert answer["status"] == 200, answer
    kinds = {feature["name"]: feature["kind"] for feature in answer["features"]}
    assert kinds == {"income": "numeric", "region": "categorical", "employed": "boolean"}
    assert (answer["rows"], answer["labelled"]) == (2000, 2000)
    assert (answer["classes"], answer["positive_class"]) == (["0", "1"], "1")
    # 2,000 rows ten minutes apart cover 13.9 days.
    assert answer["chunks"] == 14
    assert answer["warnings"] == []


def test_what_is_stored_can_be_read_back(
    client: TestClient, sessions: sessionmaker[Session]
) -> None:
    put(client, a_reference())
    with sessions() as session:
        version = find_version(session, "loans", "7")
        reference = latest_reference(session, version.version_id)
        assert reference is not None
        segments = segments_from_bytes(reference_segments(session, reference.id))
        edges = binning_from_bytes(load_binning(session, reference.binning_id))
        sample = pq.read_table(io.BytesIO(reference_sample(session, reference.id)))
        assert reference_calibrator(session, reference.id) is not None
    assert version.inferred
    assert sum(segment.features.rows for segment in segments) == 2000
    assert sum(segment.performance.labelled for segment in segments) == 2000
    assert {"income", "region", "employed", "prediction"} <= set(edges.columns)
    assert sample.num_rows == 2000
    assert sample.schema.field("label").type == pa.string()


def test_the_version_gets_a_view_with_the_inferred_names(
    client: TestClient, engine: Engine
) -> None:
    put(client, a_reference())
    with engine.connect() as connection:
        row = connection.execute(text('SELECT income, region, employed FROM logs."loans@7"'))
    assert list(row.keys()) == ["income", "region", "employed"]


def test_the_query_maps_columns_and_leaves_others_out(client: TestClient) -> None:
    table = a_reference().rename_columns(
        ["when", "income", "region", "employed", "p", "y_pred", "repaid"]
    )
    query = "?ts=when&score=p&prediction=y_pred&label=repaid&ignore=region,employed"
    answer = put(client, table, query=query)
    assert [feature["name"] for feature in answer["features"]] == ["income"]
    assert answer["labelled"] == 2000


def test_declared_kinds_win_over_what_the_file_looks_like(client: TestClient) -> None:
    features = [{"name": "code", "kind": "categorical"}, {"name": "flag", "kind": "boolean"}]
    client.put("/v1/models/loans/versions/7", json={"features": features})
    table = a_reference(code=["007"] * 2000, flag=[0, 1] * 1000)
    answer = put(client, table.drop_columns(["region"]), "text/csv")
    kinds = {feature["name"]: feature["kind"] for feature in answer["features"]}
    assert kinds["code"] == "categorical"
    assert kinds["flag"] == "boolean"
    assert put(client, table.drop_columns(["region", "code"]))["warnings"] == [
        {"code": "missing-column", "column": "code"}
    ]


def test_odd_columns_are_warned_of(client: TestClient) -> None:
    table = a_reference(
        400,
        plan=["gold"] * 400,
        empty=pa.nulls(400),
        hash=[f"h{row}" for row in range(400)],
        prediction=[None, *["1"] * 399],
    ).drop_columns(["label"])
    found = [(each["code"], each.get("column")) for each in put(client, table)["warnings"]]
    assert found == [
        ("small-reference", None),
        ("no-labels", None),
        ("rows-without-prediction", None),
        ("constant-column", "plan"),
        ("all-missing", "empty"),
        ("high-cardinality", "hash"),
    ]


@pytest.mark.parametrize(
    ("overrides", "field", "row"),
    [
        ({"score": [0.5] * 1500 + [1.5] + [0.5] * 499}, "score", 1500),
        ({"weight": [1.0] * 3 + [-1.0] + [1.0] * 1996}, "weight", 3),
        ({"label": [0, 1, 2] + [0] * 1997}, "label", 2),
        ({"income": ["1"] * 1200 + ["x"] + ["1"] * 799}, "income", 1200),
        ({"region": ["a"] * 7 + ["\x00"] + ["a"] * 1992}, "region", 7),
        ({"ts": ["2026-01-01"] * 9 + ["soon"] + ["2026-01-01"] * 1990}, "ts", 9),
        ({"income": [[1.0]] * 2000}, "income", None),
        # A long text took minutes to summarise, and no logged row has one.
        ({"region": ["a"] * 5 + ["é" * 4_097] + ["a"] * 1994}, "region", 5),
    ],
)
def test_a_bad_value_is_located(
    client: TestClient, overrides: dict[str, Any], field: str, row: int | None
) -> None:
    declared = {"features": [{"name": "income", "kind": "numeric"}], "classes": ["0", "1"]}
    client.put("/v1/models/loans/versions/7", json=declared)
    answer = put(client, a_reference(**overrides))
    assert answer["status"] == 422
    assert answer["code"] == "bad-column"
    assert answer["rejected"][0]["field"] == field
    assert answer["rejected"][0].get("index") == row


def test_a_refused_reference_leaves_nothing_behind(client: TestClient) -> None:
    put(client, a_reference(score=[7.0] * 2000))
    assert client.get("/v1/models/loans/versions/7").json()["features"] == []


def test_a_replaced_reference_is_a_new_revision_over_the_same_edges(client: TestClient) -> None:
    first, second = put(client, a_reference()), put(client, a_reference())
    assert (first["revision"], second["revision"]) == (1, 2)
    assert (first["binning_revision"], second["binning_revision"]) == (1, 1)


def test_edges_that_no_longer_describe_a_column_are_frozen_again(client: TestClient) -> None:
    put(client, a_reference())
    assert put(client, a_reference(shift=50.0))["binning_revision"] == 2


def test_a_new_column_makes_new_edges_and_keeps_the_old_ones(
    client: TestClient, sessions: sessionmaker[Session]
) -> None:
    put(client, a_reference())
    rng = np.random.default_rng(8)
    answer = put(client, a_reference(shift=0.01, age=rng.normal(size=2000)))
    assert answer["binning_revision"] == 2
    with sessions() as session:
        old, new = (binning_from_bytes(load_binning(session, i)) for i in (1, 2))
    before, after = (binning.columns["income"] for binning in (old, new))
    assert isinstance(before, NumericBins)
    assert isinstance(after, NumericBins)
    assert before.edges.tolist() == after.edges.tolist()
    assert "age" in new.columns


def test_gzip_is_read_and_a_cut_one_refused(client: TestClient) -> None:
    body = gzip.compress(as_csv(a_reference()))
    headers = {"content-type": "text/csv", "content-encoding": "gzip"}
    assert client.put(URL, content=body, headers=headers).json()["rows"] == 2000
    answer = client.put(URL, content=body[:-9], headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-gzip")


def test_a_reference_is_limited_in_wire_and_in_inflated_bytes(client: TestClient) -> None:
    for body, encoding in (
        (b"a" * (1 << 21), "identity"),
        (gzip.compress(b"a\n" * (1 << 24)), "gzip"),
    ):
        headers = {"content-type": "text/csv", "content-encoding": encoding}
        assert client.put(URL, content=body, headers=headers).status_code == 413


def constant(rows: int, columns: int) -> bytes:
    """Return a small file of many rows."""
    return as_parquet(pa.table({f"x{column}": np.zeros(rows) for column in range(columns)}))


@pytest.mark.parametrize(
    ("rows", "columns", "limit"), [(50_001, 1, 50_000), (50_000, 20, 4 << 20)], ids=["rows", "size"]
)
def test_a_small_file_does_not_grow_to_anything(
    client: TestClient, rows: int, columns: int, limit: int
) -> None:
    body = constant(rows, columns)
    assert len(body) < 1 << 16
    answer = client.put(URL, content=body, headers={"content-type": PARQUET})
    assert (answer.status_code, answer.json()["limit"]) == (413, limit)


def test_the_api_holds_no_row_of_a_reference(client: TestClient) -> None:
    pa.default_memory_pool().release_unused()
    before = pa.default_memory_pool().max_memory()
    body = constant(50_000, 10)
    assert client.put(URL, content=body, headers={"content-type": PARQUET}).json()["rows"] == 50_000
    assert pa.default_memory_pool().max_memory() == before


def test_references_are_read_one_after_the_other(client: TestClient) -> None:
    app = cast("FastAPI", client.app)
    body, headers = as_parquet(a_reference()), {"content-type": PARQUET}
    room = app.state.references
    with ExitStack() as others:
        others.enter_context(room.place())
        for _ in range(room.WAITING):
            assert room.line.acquire(blocking=False)
            others.callback(room.line.release)
        refused = client.put(URL, content=body, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        assert int(refused.headers["retry-after"]) > 0
    assert client.put(URL, content=body, headers=headers).status_code == 200


def test_files_that_come_at_the_same_time_are_limited_together(client: TestClient) -> None:
    app = cast("FastAPI", client.app)
    body, headers = as_parquet(a_reference()), {"content-type": PARQUET}
    with app.state.references.received.share() as another:
        another.take((1 << 20) - len(body) + 1)
        assert client.put(URL, content=body, headers=headers).status_code == 503
        # Nothing is kept of what was refused.
        assert client.put(URL, content=body[:1000], headers=headers).status_code == 422
    assert client.put(URL, content=body, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("media", "body", "status", "code"),
    [
        ("application/json", b"[]", 415, "unsupported-type"),
        (PARQUET, b"no parquet", 422, "malformed-reference"),
        (ARROW, b"no arrow", 422, "malformed-reference"),
        ("text/csv", b"a,b\n1,2\n3\n", 422, "malformed-reference"),
        (NDJSON, b'{"a":1}\n{"a":', 422, "malformed-reference"),
        (PARQUET, as_parquet(a_reference(0)), 422, "empty-reference"),
        ("text/csv", b"a,a\n1,2\n", 422, "duplicate-column"),
        ("text/csv", b"x,label\n1,cat\n2,dog\n", 422, "unknown-classes"),
        ("text/csv", b"x,label\n1,a\n2,b\n3,c\n", 422, "too-many-classes"),
        ("text/csv; charset=latin-1", b"a\n1\n", 415, "unsupported-type"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    client: TestClient, media: str, body: bytes, status: int, code: str
) -> None:
    answer = client.put(URL, content=body, headers={"content-type": media})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_ragged_csv_row_is_located(client: TestClient) -> None:
    answer = client.put(URL, content=b"a,b\n1,2\n3\n", headers={"content-type": "text/csv"})
    assert answer.json()["rejected"][0]["index"] == 1


def test_an_unknown_version_has_no_reference(client: TestClient) -> None:
    headers = {"content-type": "text/csv"}
    answer = client.put(URL.replace("/7/", "/8/"), content=b"a\n1\n", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown-version")
