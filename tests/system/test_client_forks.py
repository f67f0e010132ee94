"""Processes that are forked while their parent logs and sends: no row is lost, none is doubled."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from tests.conftest import sized
from tests.system.harness import running

FORKS = sized(default=50, full=500)
ROWS = 60


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks_under_load_lose_and_double_no_row(database_url: str, tmp_path: Path) -> None:
    script = Path(__file__).with_name("forking_client.py")
    with running(database_url, tmp_path) as service:
        service.put("/v1/models/loans", {"task": "binary"})
        document = {"features": [{"name": "x", "kind": "numeric"}], "classes": ["0", "1"]}
        service.put("/v1/models/loans/versions/7", document)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(script), service.url, str(FORKS), str(ROWS)],
            env=service._environment,
            capture_output=True,
            text=True,
            timeout=1_000,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2_000:]
        said = json.loads(done.stdout)
        assert set(said["codes"]) == {0}
        exposition = service.client.get("/metrics").text
    with psycopg.connect(database_url) as connection:
        ids = [name for (name,) in connection.execute("SELECT prediction_id FROM prediction")]
    stored = Counter(name.partition(":")[0] for name in ids)
    assert stored == Counter(said["logged"])
    assert len(set(ids)) == len(ids)
    assert 'result="accepted"' in exposition
    # The service would have taken a row that is sent twice for one: none was.
    assert 'result="duplicate"' not in exposition
