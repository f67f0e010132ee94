"""Imports by the command line, into the running service."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.conftest import sized
from tests.system.harness import Service, eventually, running

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
KILLS = sized(default=2, full=20)
ROWS = 600 * (KILLS + 1)
FEATURES = [
    {"name": "income", "kind": "numeric"},
    {"name": "region", "kind": "categorical"},
]
MAPPED = ("--map", "ts=when", "--map", "score=p", "--map", "prediction=y", "--map", "label=paid")


@pytest.fixture(scope="module")
def service(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(module_database, tmp_path_factory.mktemp("logs")) as made:
        yield made


@pytest.fixture
def model(service: Service, request: pytest.FixtureRequest) -> str:
    name = request.node.originalname.replace("_", "-")[:60].strip("-")
    service.put(f"/v1/models/{name}", {"task": "binary"})
    document = {"features": FEATURES, "classes": ["0", "1"], "positive_class": "1"}
    service.put(f"/v1/models/{name}/versions/1", document)
    return str(name)


def command(service: Service, model: str, tmp_path: Path, *given: str) -> list[str]:
    return [
        *(sys.executable, "-m", "service.processes.cli", "import", *given),
        *("--model", model, "--version", "1", "--url", service.url),
        *("--checkpoint", str(tmp_path / "checkpoint")),
    ]


def environment(service: Service, key: str = "") -> dict[str, str]:
    return {**os.environ, "MODELWATCH_API_KEY": key or service.key}


def imported(service: Service, model: str, tmp_path: Path, *given: str, key: str = "") -> str:
    done = subprocess.run(
        command(service, model, tmp_path, *given),
        env=environment(service, key), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stored(service: Service, module_database: str, model: str, columns: str) -> list[Any]:
    with psycopg.connect(module_database) as connection:
        return connection.execute(
            f'SELECT {columns} FROM logs."{model}@1" ORDER BY prediction_id'
        ).fetchall()


def a_row(number: int) -> dict[str, Any]:
    return {
        "when": FIRST + timedelta(minutes=number),
        "income": 1000.0 + number,
        "region": ("north", "south")[number % 2],
        "p": number % 100 / 100,
        "y": number % 2,
        "paid": number % 3 // 2,
    }


def write_folder(folder: Path) -> None:
    """Write the rows as files of three kinds, one of them deeper down."""
    rows = [a_row(number) for number in range(ROWS)]
    third = ROWS // 3
    (folder / "later").mkdir(parents=True)
    pyarrow.parquet.write_table(
        pa.Table.from_pylist(rows[:third]), folder / "a.parquet", row_group_size=200
    )
    with (folder / "b.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(
            {**row, "when": row["when"].isoformat()} for row in rows[third : 2 * third]
        )
    with (folder / "later" / "c.jsonl").open("w") as file:
        for row in rows[2 * third :]:
            file.write(json.dumps({**row, "when": row["when"].isoformat()}) + "\n")


def test_a_folder_that_is_killed_again_and_again_is_imported_once(
    service: Service, module_database: str, model: str, tmp_path: Path
) -> None:
    write_folder(tmp_path / "data")
    line = command(service, model, tmp_path, str(tmp_path / "data"), *MAPPED, "--batch", "50")
    kills = 0

    def has_come(child: subprocess.Popen[bytes], goal: int) -> bool:
        return child.poll() is not None or len(stored(service, module_database, model, "1")) >= goal

    for goal in range(200, 600 * KILLS, 600):
        with subprocess.Popen(
            line, env=environment(service), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as child:
            eventually(
                partial(has_come, child, goal),
                seconds=120,
                message="the import does not move",
                every=0.01,
            )
            kills += child.poll() is None
            child.send_signal(signal.SIGKILL)
    # An import may be faster than the look at how far it is.
    assert kills > 0
    said = imported(service, model, tmp_path, *line[4:5], *MAPPED, "--batch", "50")
    found = stored(service, module_database, model, "income, region, score, prediction, label")
    expected = [a_row(number) for number in range(ROWS)]
    assert sorted(found) == sorted(
        (row["income"], row["region"], row["p"], str(row["y"]), str(row["paid"]))
        for row in expected
    )
    # What was acknowledged before a kill was not sent again.
    assert int(said.split(" records in")[0].split()[-1]) < 2 * ROWS - 2 * 500 * (KILLS - 1)
    assert not (tmp_path / "checkpoint").exists()
    again = imported(service, model, tmp_path, *line[4:5], *MAPPED)
    assert f"predictions: 0 accepted, {ROWS} duplicates, 0 rejected" in again


def capture(number: int) -> str:
    side = {"observedContentType": "text/csv", "encoding": "CSV"}
    return json.dumps(
        {
            "captureData": {
                "endpointInput": {**side, "mode": "INPUT", "data": f"{number},north"},
                "endpointOutput": {**side, "mode": "OUTPUT", "data": "0.25"},
            },
            "eventMetadata": {"eventId": f"e{number}", "inferenceTime": "2026-01-02T03:04:05Z"},
            "eventVersion": "0",
        }
    )


def truth(number: int) -> str:
    said = {"data": str(number % 2), "encoding": "CSV"}
    return json.dumps(
        {"groundTruthData": said, "eventMetadata": {"eventId": f"e{number}"}, "eventVersion": "0"}
    )


def test_folders_of_sagemaker_are_imported(
    service: Service, module_database: str, model: str, tmp_path: Path
) -> None:
    hour = tmp_path / "loans" / "AllTraffic" / "2026" / "01" / "02" / "03"
    labels = tmp_path / "truth" / "2026" / "02" / "01" / "00"
    for folder, write in ((hour, capture), (labels, truth)):
        folder.mkdir(parents=True)
        (folder / "x.jsonl").write_text("\n".join(map(write, range(500))))
    folders = str(tmp_path / "loans"), str(tmp_path / "truth")
    answer = service.client.post("/v1/keys", json={"scopes": ["ingest"], "models": [model]})
    key = answer.json()["key"]
    said = imported(service, model, tmp_path, *folders, "--batch", "100", key=key)
    assert "lines: 1000 accepted" in said
    found = stored(service, module_database, model, "income, score, label")
    assert sorted(found) == [(float(n), 0.25, str(n % 2)) for n in range(500)]


def event(kind: str, number: int) -> str:
    data = {"income": number} if kind == "model_inputs" else {"0": number % 2}
    return json.dumps(
        {
            "specversion": "1.0", "id": f"{kind}{number}", "correlationid": f"c{number}",
            "source": "/onlineEndpoints/x/deployments/blue", "time": "2026-01-02T03:04:05Z",
            "type": f"azureml.inference.{kind}", "data": [data],
        }
    )  # fmt: skip


def test_folders_of_azure_are_paired(
    service: Service, module_database: str, model: str, tmp_path: Path
) -> None:
    for kind in ("model_inputs", "model_outputs"):
        folder = tmp_path / "blue" / kind / "2026" / "01" / "02" / "03"
        folder.mkdir(parents=True)
        (folder / "x.jsonl").write_text("\n".join(event(kind, n) for n in range(500)))
    said = imported(service, model, tmp_path, str(tmp_path / "blue"), "--batch", "100")
    assert "lines: 1000 accepted" in said
    assert "predictions: 500 accepted" in said
    found = stored(service, module_database, model, "income, prediction")
    assert sorted(found) == [(float(n), str(n % 2)) for n in range(500)]


def test_records_of_our_own_are_imported(
    service: Service, module_database: str, model: str, tmp_path: Path
) -> None:
    ids = [f"r{number}" for number in range(300)]
    records = [
        {
            "prediction_id": name,
            "ts": "2026-01-02T03:04:05Z",
            "features": {"income": 1},
            "score": 0.5,
        }
        for name in ids
    ]
    labels = [
        {"prediction_id": name, "label": 1, "label_ts": "2026-02-02T03:04:05Z"} for name in ids
    ]
    for name, lines in (("a.jsonl", records), ("b.ndjson", labels)):
        (tmp_path / name).write_text("\n".join(map(json.dumps, lines)))
    said = imported(service, model, tmp_path, str(tmp_path), "--batch", "100")
    assert "lines: 600 accepted" in said
    found = stored(service, module_database, model, "prediction_id, label")
    assert found == [(name, "1") for name in sorted(ids)]


def test_what_is_wrong_is_said_in_one_line(service: Service, model: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("shoe,ts,prediction\n44,2026-01-01T00:00:00Z,1\n")
    for given, code in (((str(tmp_path / "a.csv"),), 2), ((str(tmp_path / "nothing"),), 2)):
        done = subprocess.run(
            command(service, model, tmp_path, *given),
            env=environment(service), capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == code
        assert len(done.stderr.splitlines()) == 1
        assert "Traceback" not in done.stderr
