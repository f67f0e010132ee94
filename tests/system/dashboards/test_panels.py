"""Every panel's query runs where Grafana would send it, over what the real service exported."""

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from shutil import which
from typing import Any

import psycopg
import pytest

from grafana.__main__ import documents
from grafana.sources import health
from service.db.engine import make_engine, make_sessions
from tests.system.configuration import hurried_rules, process, shipped, write
from tests.system.dashboards import extremes
from tests.system.dashboards.asking import Target, promql, sql, targets
from tests.system.dashboards.extremes import CROWD, NEW, SILENT
from tests.system.dashboards.history import Past, open_metrics
from tests.system.dashboards.world import KINDS, LOANS, VERSION, World, build, traffic
from tests.system.harness import eventually, free_port, running

ROOT = Path(__file__).parents[3]
STEP = timedelta(hours=3)
RESULTS = 'job="modelwatch-results",instance="modelwatch"'
PROM = [target for target in targets() if "expr" in target.query]
SQL = [target for target in targets() if "rawSql" in target.query]
CHOSEN = {"job": ".+", "version": VERSION, "metric": "roc_auc", "feature": ".+", "slice": ".+"}

pytestmark = pytest.mark.skipif(
    which("prometheus") is None or which("promtool") is None,
    reason="Prometheus is not installed (Debian: apt-get install prometheus)",
)


@dataclass(frozen=True)
class Asked:
    """Where queries are sent, and of which time."""

    url: str
    start: datetime

    def get(self, path: str, **query: str) -> Any:
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=60) as answer:
            return json.load(answer)["data"]

    def instant(self, expr: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=expr)["result"]
        return found

    def over_time(self, expr: str) -> list[dict[str, Any]]:
        # Counted back from now: what only the last minutes know is in the last point.
        end = datetime.now(UTC)
        start = end - (end - self.start) // STEP * STEP
        span = {"start": start.isoformat(), "end": end.isoformat()}
        found: list[dict[str, Any]] = self.get(
            "query_range", query=expr, step=f"{STEP.total_seconds():.0f}", **span
        )["result"]
        return found


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def world(
    module_database: str, metrics_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with running(
        module_database,
        tmp_path_factory.mktemp("logs"),
        MODELWATCH_WORKER_METRICS_PORT=str(metrics_port),
        MODELWATCH_SECRET_KEY="k" * 40,
        MODELWATCH_WEBHOOK_ALLOW="127.0.0.1",
    ) as service:
        service.start_worker()
        yield build(service, module_database)


def configuration(world: World, metrics_port: int, folder: Path) -> Path:
    """Write the shipped configuration for these targets, with rules that do not wait."""
    config = shipped("prometheus.yml")
    quick = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "1s")
    config["global"] |= quick
    config["rule_files"] = hurried_rules(folder)
    del config["alerting"]
    targets = {"modelwatch": [world.service.port, metrics_port]}
    for job in config["scrape_configs"]:
        ports = targets.get(job["job_name"], [world.service.port])
        job["static_configs"][0]["targets"] = [f"127.0.0.1:{port}" for port in ports]
        job["authorization"] = {"credentials": world.service.key}
    return write(folder / "prometheus.yml", config)


def backfill(lines: Iterable[str], folder: Path) -> None:
    """Give Prometheus a history that it would have scraped."""
    file = folder / "history"
    with file.open("w") as output:
        output.writelines(f"{line}\n" for line in lines)
    command = ["promtool", "tsdb", "create-blocks-from", "--max-block-duration=768h"]
    subprocess.run(
        [*command, "openmetrics", str(file), str(folder / "data")], check=True, capture_output=True
    )


@pytest.fixture(scope="module")
def prometheus(
    world: World, module_database: str, metrics_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("prometheus")
    now = datetime.now(UTC)
    past = Past(world.start, now - STEP / 2, STEP, timedelta(0))
    engine = make_engine(module_database)
    backfill(open_metrics(make_sessions(engine), past, RESULTS), folder)
    engine.dispose()
    backfill(extremes.open_metrics(past, RESULTS), folder)
    port = free_port()
    asked = Asked(f"http://127.0.0.1:{port}", world.start)
    command = [
        "prometheus",
        f"--config.file={configuration(world, metrics_port, folder)}",
        f"--storage.tsdb.path={folder / 'data'}",
        # Its past has a sample every three hours, and ends up to four and a half hours ago.
        "--query.lookback-delta=5h",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with process(folder / "log", *command):
        eventually(lambda: ready(asked), seconds=120, message="Prometheus scraped nothing")
        traffic(world, module_database)
        eventually(lambda: counted(asked), seconds=120, message="the traffic was not counted")
        yield asked


def ready(asked: Asked) -> bool:
    try:
        # A rate wants two samples of each process.
        scraped = asked.instant("min(count_over_time(up[5m])) >= 2 and count(up == 1) == 3")
    except OSError:
        return False
    return bool(scraped)


def counted(asked: Asked) -> bool:
    """Say whether what happened is seen, and has a second sample; and whether an alert fires."""
    wanted = (
        "increase(modelwatch_webhook_deliveries_total[1h])",
        "increase(modelwatch_ingest_dead_letters_total[1h])",
        'modelwatch_labels_pending{model="loans"}',
        'ALERTS{alertstate="firing",model="loans"}',
    )
    return all(asked.instant(expr) for expr in wanted)


def seen(asked: Asked, expr: str) -> list[dict[str, Any]]:
    """Return what there is now; a scrape that fails takes every series away until the next."""
    return eventually(lambda: asked.instant(expr), seconds=120, message=f"no data: {expr}")


def numbers(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the series that have a number; a division by nothing is none."""
    return [
        series
        for series in found
        if any(value != "NaN" for _, value in series.get("values") or [series["value"]])
    ]


def model_of(target: Target) -> str:
    return KINDS if "class" in target.panel.lower() else LOANS


@pytest.mark.parametrize("target", PROM, ids=lambda target: target.name)
def test_a_query_of_prometheus_returns_data(target: Target, prometheus: Asked) -> None:
    values = CHOSEN | {"model": ".+" if target.dashboard == "fleet" else model_of(target)}
    expr = promql(target.query["expr"], values)
    ask = prometheus.instant if target.query.get("instant") else prometheus.over_time
    # A scrape that fails on a busy machine takes every series away until the next.
    found = eventually(
        lambda: numbers(ask(expr)), seconds=120, message=f"no data: {expr}", every=0.5
    )
    if ask is prometheus.over_time and model_of(target) == LOANS and target.dashboard == "model":
        assert max(len(series["values"]) for series in found) > 10, "this has no past"


@pytest.fixture(scope="module")
def reader(world: World, module_database: str) -> Iterator[psycopg.Connection]:
    statements = (ROOT / "grafana" / "reader.sql").read_text()
    with psycopg.connect(module_database, autocommit=True) as connection:
        for _ in range(2):
            connection.execute(statements.encode())
        connection.execute("SET ROLE modelwatch_reader")
        yield connection
        connection.execute("RESET ROLE")
        connection.execute("DROP OWNED BY modelwatch_reader")
        connection.execute("DROP ROLE modelwatch_reader")


@pytest.mark.parametrize("target", SQL, ids=lambda target: target.name)
def test_a_query_of_postgres_returns_data_to_the_reader(
    target: Target, reader: psycopg.Connection, world: World
) -> None:
    values = {"model": LOANS, "version": VERSION}
    statement = sql(target.query["rawSql"], values, world.start, world.end)
    cursor = reader.execute(statement.encode())
    assert cursor.fetchall()
    if target.query["format"] == "time_series":
        assert [column.name for column in cursor.description or ()] == ["time", "metric", "value"]


@pytest.mark.parametrize("target", SQL, ids=lambda target: target.name)
def test_a_query_of_postgres_reads_no_more_than_its_windows(
    target: Target, reader: psycopg.Connection, world: World
) -> None:
    values = {"model": LOANS, "version": VERSION}
    statement = sql(target.query["rawSql"], values, world.start, world.end)
    # So few rows as here are best read as a whole: the plan of many is asked for.
    with reader.transaction():
        reader.execute("SET LOCAL enable_seqscan = off")
        plan = [line for (line,) in reader.execute(f"EXPLAIN {statement}".encode())]
    assert [line for line in plan if "on measurement" in line]
    assert not [line for line in plan if "Seq Scan" in line], plan


@pytest.mark.parametrize(
    "table", ["prediction", "label", "api_key", "webhook", "pii_key", "audit", "dead_letter"]
)
def test_the_reader_sees_neither_rows_nor_keys(table: str, reader: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(f"SELECT 1 FROM {table}".encode())


def test_the_reader_changes_nothing(reader: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute("DELETE FROM measurement")


@pytest.mark.parametrize("name", documents())
def test_every_variable_has_values_and_every_annotation_its_events(
    name: str, prometheus: Asked
) -> None:
    document = documents()[name]
    values = CHOSEN | {"model": LOANS}
    for found in document["templating"]["list"]:
        if found["type"] == "query":
            parts = re.fullmatch(r"label_values\((.+), (\w+)\)", found["query"])
            assert parts, found["query"]
            path, chosen = f"label/{parts[2]}/values", promql(parts[1], values)
            assert prometheus.get(path, **{"match[]": chosen}), found["query"]
    for annotation in document["annotations"]["list"]:
        expr = promql(annotation["expr"], values)
        eventually(partial(prometheus.over_time, expr), seconds=120, message=f"no data: {expr}")


def test_health_is_the_worst_of_what_the_service_says_is_open(
    prometheus: Asked, world: World
) -> None:
    for model in (LOANS, KINDS):
        answer = world.service.get("/v1/incidents", model=model, state="open", limit="200")
        severities = {incident["severity"] for incident in answer["incidents"]}
        expected = 5 if "critical" in severities else 4 if "warning" in severities else 0
        of = f'job=~".+",model="{model}"'
        (found,) = seen(prometheus, health("model", of))
        assert float(found["value"][1]) == expected


def test_the_first_row_says_since_when_where_and_what_to_do(
    prometheus: Asked, world: World
) -> None:
    answer = world.service.get("/v1/incidents", model=LOANS, state="open", limit="200")
    told = [each for each in answer["incidents"] if each["severity"] in {"critical", "warning"}]
    by_title = {
        target.panel: target.query["expr"] for target in PROM if target.dashboard == "model"
    }
    values = CHOSEN | {"model": LOANS}

    def now(title: str) -> list[dict[str, Any]]:
        return seen(prometheus, promql(by_title[title], values))

    (since,) = now("Unhealthy since")
    oldest = min(datetime.fromisoformat(each["since"]) for each in told)
    assert float(since["value"][1]) == oldest.timestamp() * 1000
    doing = {found["metric"]["action"] for found in now("What to do")}
    assert doing == {each["action"] for each in answer["incidents"]} - {"none"}
    where = {
        (found["metric"].get("subject", ""), found["metric"].get("slice", ""))
        for found in now("Open incidents: where, since when, what to do")
    }
    assert where == {(e["subject"] or "", e["slice"] or "") for e in answer["incidents"]}


def test_lines_of_two_hundred_slices_columns_or_classes_are_the_worst_of_them(
    prometheus: Asked,
) -> None:
    drawn = {
        target.panel: prometheus.over_time(promql(target.query["expr"], CHOSEN | {"model": CROWD}))
        for target in PROM
        if target.kind in {"timeseries", "state-timeline"} and target.query["refId"] == "A"
        if target.dashboard in {"model", "slices", "quality"}
    }
    limited = {title: found for title, found in drawn.items() if len(found) > 1}
    assert {len(found) for found in limited.values()} == {10}
    worst = {f"segment={number}" for number in range(10)}
    for title in (
        *("$metric of the 10 worst slices", "Room of critical slices to their limit"),
        "Labelled rows of the 10 smallest slices",
    ):
        assert {found["metric"]["slice"] for found in limited.pop(title)} == worst
    longest = {f"column {number}" for number in range(190, 200)}
    in_a_row = limited.pop("Windows in a row that drift")
    assert {found["metric"]["feature"] for found in in_a_row} == longest
    # These were the largest at first, and are like all others now.
    for title in ("Values out of range", "Values never seen before"):
        assert {found["metric"]["feature"] for found in limited.pop(title)} == {
            f"column {number}" for number in range(10)
        }
    assert len(limited) == 3


def of_model(model: str) -> dict[tuple[str, str], str]:
    """Return the queries of the model dashboard by panel and letter."""
    return {
        (target.panel, target.query["refId"]): promql(
            target.query["expr"], CHOSEN | {"model": model}
        )
        for target in PROM
        if target.dashboard == "model"
    }


def test_a_model_that_was_never_judged_waits_for_data(prometheus: Asked) -> None:
    exprs = of_model(NEW)
    (found,) = seen(prometheus, exprs["Health", "A"])
    assert float(found["value"][1]) == 1
    (doing,) = prometheus.instant(exprs["What to do", "A"])
    assert doing["metric"] == {"action": "wait"}


def test_a_model_that_nothing_comes_from_is_not_healthy(prometheus: Asked) -> None:
    exprs = of_model(SILENT)
    (doing,) = seen(prometheus, exprs["What to do", "A"])
    assert doing["metric"] == {"action": "fix_data"}
    (found,) = prometheus.instant(exprs["Health", "A"])
    assert float(found["value"][1]) == 4
    where = "Open incidents: where, since when, what to do"
    (severity,) = prometheus.instant(exprs[where, "A"])
    (since,) = prometheus.instant(exprs[where, "B"])
    told = {"kind": "traffic", "check": "ModelNoTraffic", "severity": "warning"}
    assert severity["metric"] == since["metric"] == {**told, "action": "fix_data"}
    assert float(severity["value"][1]) == 2
    (oldest,) = prometheus.instant(exprs["Unhealthy since", "A"])
    assert oldest["value"][1] == since["value"][1]
    (count,) = prometheus.instant(exprs["Open incidents", "A"])
    assert count["value"][1] == "1"
