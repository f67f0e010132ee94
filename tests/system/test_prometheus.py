"""A real Prometheus scrapes what the service exports, by the configuration that is shipped."""

import json
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import uvicorn
import yaml
from fastapi import FastAPI
from sqlalchemy.orm import Session, sessionmaker

from service.exporter.endpoints import router
from service.exporter.refresher import ResultsRefresher
from service.web import install_problems
from tests.integration.seeded import HOSTILE, seed

CONFIG = Path(__file__).parents[2] / "prometheus" / "prometheus.yml"
PATIENCE_SECONDS = 60

prometheus = which("prometheus")
promtool = which("promtool")

pytestmark = pytest.mark.skipif(
    prometheus is None or promtool is None,
    reason="Prometheus is not installed (Debian: apt-get install prometheus)",
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


@pytest.fixture
def service_port(sessions: sessionmaker[Session], database_url: str) -> Iterator[int]:
    seed(sessions)
    app = FastAPI()
    app.state.results = ResultsRefresher(database_url, interval=0.5)
    app.include_router(router)
    install_problems(app)
    app.state.results.start()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield int(listener.getsockname()[1])
    server.should_exit = True
    thread.join(timeout=60)
    listener.close()
    app.state.results.close()


@pytest.fixture
def query(service_port: int, tmp_path: Path) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    config = yaml.safe_load(CONFIG.read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    for job in config["scrape_configs"]:
        for static in job["static_configs"]:
            static["targets"] = [f"127.0.0.1:{service_port}"]
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [
                str(prometheus),
                f"--config.file={file}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def ask(expression: str) -> list[dict[str, Any]]:
        address = f"http://127.0.0.1:{port}/api/v1/query?"
        address += urllib.parse.urlencode({"query": expression})
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                found: list[dict[str, Any]] = get(address)["data"]["result"]
            except OSError:
                found = []
            if found:
                return found
            time.sleep(0.2)
        pytest.fail(f"no data for {expression}: {(tmp_path / 'log').read_text()[-2000:]}")

    try:
        yield ask
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_prometheus_scrapes_both_endpoints_and_answers_with_what_was_recorded(
    query: Callable[[str], list[dict[str, Any]]],
) -> None:
    def value(expression: str) -> float:
        (found,) = query(expression)
        return float(found["value"][1])

    up = query('(count(up == 1) == 2) and on () (count(up{job="modelwatch-results"}) == 1)')
    assert up[0]["value"][1] == "2"
    version = '{model="loans",model_version="7"'
    assert value(f'modelwatch_performance_ratio{version},metric="roc_auc"}}') == 0.8
    assert value(f'modelwatch_verdict{version},kind="drift"}}') == 1
    assert value(f'modelwatch_retraining_requests{version},state="open"}}') == 1
    scores = query(f'modelwatch_feature_drift_score{version},method="jensen_shannon"}}')
    assert {found["metric"]["feature"] for found in scores} == {"income", HOSTILE}
    assert {found["metric"]["instance"] for found in scores} == {"modelwatch"}
    assert query("modelwatch_build_info")[0]["metric"]["job"] == "modelwatch"


def test_the_shipped_configuration_is_valid() -> None:
    checked = subprocess.run(
        [str(promtool), "check", "config", str(CONFIG)], capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
