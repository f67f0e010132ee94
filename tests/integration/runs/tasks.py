"""Models that are not binary, over HTTP: what tests of each of their kinds do."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import SecretStr

from service.processes.api import create_app
from service.settings import Settings
from tests.clients import TestClient

DAY = datetime(2026, 11, 1, tzinfo=UTC)
ROWS = 400
PARQUET = {"content-type": "application/vnd.apache.parquet"}


@contextmanager
def the_api(database_url: str) -> Iterator[TestClient]:
    app = create_app(Settings(database_url=SecretStr(database_url)), keyless=True)
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def put(client: TestClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.put(f"/v1/models/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def put_reference(client: TestClient, model: str, table: pa.Table, **names: str) -> dict[str, Any]:
    file = io.BytesIO()
    pq.write_table(table, file)
    answer = client.put(
        f"/v1/models/{model}/versions/1/reference",
        content=file.getvalue(),
        params=names,
        headers=PARQUET,
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def send(client: TestClient, path: str, model: str, records: list[dict[str, Any]]) -> None:
    body: dict[str, Any] = {"model": model, "records": records}
    if path == "predictions":
        body["version"] = "1"
    answer = client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == len(records), answer.text


def send_day(
    client: TestClient, model: str, day: int, rows: list[dict[str, Any]], labels: list[Any]
) -> None:
    start = DAY + timedelta(days=day)
    step = timedelta(days=1) / len(rows)
    records = [
        {"prediction_id": f"{day}-{i}", "ts": (start + i * step).isoformat(), **row}
        for i, row in enumerate(rows)
    ]
    send(client, "predictions", model, records)
    later = (start + timedelta(days=1)).isoformat()
    truths = [
        {"prediction_id": f"{day}-{i}", "label": label, "label_ts": later}
        for i, label in enumerate(labels)
    ]
    send(client, "labels", model, truths)


def judged(client: TestClient, model: str) -> list[dict[str, Any]]:
    """Return the windows, their measurements by metric and subject."""
    found = []
    for window in client.get(f"/v1/models/{model}/windows").json()["windows"]:
        whole = client.get(f"/v1/models/{model}/windows/{window['start']}").json()
        whole["by"] = {(m["metric"], m["subject"]): m for m in whole["measurements"]}
        found.append(whole)
    return found
