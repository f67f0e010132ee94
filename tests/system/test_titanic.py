"""The missing values of titanic_missing, through the running service."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.system.harness import running

DATA = Path(__file__).parents[3] / "shared" / "data" / "titanic_missing"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the data set titanic_missing is not beside the project"
)
DAY = datetime(2026, 1, 1, tzinfo=UTC)


def predictions() -> list[dict[str, Any]]:
    rows = pq.read_table(DATA / "analysis.parquet").drop_columns(["Survived"]).to_pylist()
    return [
        {
            "prediction_id": f"passenger-{number}",
            "ts": (DAY + number * timedelta(minutes=3)).isoformat(),
            "features": row,
            "prediction": "1" if row["Sex"] == "female" else "0",
        }
        for number, row in enumerate(rows)
    ]


def test_the_missing_values_of_the_titanic_are_the_expected_ones(
    database_url: str, tmp_path: Path
) -> None:
    expected = json.loads((DATA / "expected.json").read_text())
    with running(database_url, tmp_path) as service:
        service.start_worker()
        service.put("/v1/models/titanic", {"task": "binary"})
        service.put("/v1/models/titanic/versions/1", {"stage": "live"})
        answer = service.client.put(
            "/v1/models/titanic/versions/1/reference",
            params={"label": "Survived"},
            content=(DATA / "reference.parquet").read_bytes(),
            headers={"Content-Type": "application/vnd.apache.parquet"},
        )
        assert answer.status_code == 200, answer.text
        sent = service.client.post(
            "/v1/predictions",
            json={"model": "titanic", "version": "1", "records": predictions()},
        )
        assert sent.json()["accepted"] == 418, sent.text[:300]
        assert sent.json()["warnings"] == []
        service.evaluate("titanic", DAY + timedelta(days=1))
        window = service.get(f"/v1/models/titanic/windows/{DAY.isoformat()}", version="1")
    missing = {m["subject"]: m for m in window["measurements"] if m["metric"] == "missing_ratio"}
    for name, ratio in expected["analysis_missing"].items():
        if name != "Survived":
            assert missing[name]["value"] == pytest.approx(ratio, abs=1e-6)
            usual = expected["reference_missing"][name]
            assert missing[name]["reference_value"] == pytest.approx(usual, abs=1e-6)
            assert missing[name]["verdict"] == "ok"
    broken = {
        (m["metric"], m["subject"])
        for m in window["measurements"]
        if m["verdict"] == "alert" and m["metric"] != "drift"
    }
    # The numbers of the passengers go on where the reference's end.
    assert broken == {("out_of_range_ratio", "PassengerId")}
    assert window["action"] == "fix_data"
