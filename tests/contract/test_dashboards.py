"""The dashboards' files: as generated, readable by Grafana's own SDK, and by its linter's rules."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard
from pydantic import SecretStr

from grafana.__main__ import DASHBOARDS, documents, text
from grafana.frame import plain
from grafana.sources import POSTGRES, PROMETHEUS
from service.processes.api import create_app
from service.settings import Settings

ROOT = Path(__file__).parents[2]
PROVISIONING = ROOT / "grafana" / "provisioning"
EXPORTED = set(re.findall(r"`(modelwatch_\w+)`", (ROOT / "prometheus" / "METRICS.md").read_text()))
# What the client library exports of every process.
OF_PROCESSES = {"process_resident_memory_bytes", "process_cpu_seconds_total"}
ALERTS = "ALERTS"
UNITS = {value for name, value in vars(units).items() if name[0].isupper()}
DOCUMENTS = {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}
SELECTOR = re.compile(r"((?:modelwatch_|process_)\w+|ALERTS)(\{[^}]*\})?")
# A match of Grafana's own: ${__from:date:iso}, ${model:percentencode}, $metric.
VARIABLE = re.compile(r"\$\{?(\w[\w.]*)")

every_dashboard = pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())


def panels(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in document["panels"]:
        if panel["type"] != "row":
            yield panel


def expressions(document: dict[str, Any]) -> Iterator[str]:
    for panel in panels(document):
        yield from (target["expr"] for target in panel["targets"] if "expr" in target)


def strings(found: Any) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, dict):
        for value in found.values():
            yield from strings(value)
    elif isinstance(found, list):
        for value in found:
            yield from strings(value)


def variables(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {found["name"]: found for found in document["templating"]["list"]}


def test_the_files_are_what_the_code_generates() -> None:
    assert {path.name: path.read_text() for path in DASHBOARDS.glob("*.json")} == {
        name: text(document) for name, document in documents().items()
    }, "python -m grafana"


@every_dashboard
def test_nothing_is_lost_when_the_sdk_reads_a_dashboard(document: dict[str, Any]) -> None:
    register_default_plugins()
    assert plain(Dashboard.from_json(document)) == document


def test_a_misspelt_key_is_lost_when_the_sdk_reads_it() -> None:
    register_default_plugins()
    document = json.loads(json.dumps(DOCUMENTS["model"]))
    document["panels"][0]["fieldConfig"]["defaults"]["untit"] = "s"
    assert plain(Dashboard.from_json(document)) != document


@every_dashboard
def test_a_dashboard_is_known_by_a_fixed_name_and_asks_for_no_input(
    document: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    assert document["uid"] == f"modelwatch-{request.node.callspec.id}"
    assert document["tags"] == ["modelwatch"]
    assert "id" not in document
    assert "__inputs" not in document
    assert "libraryPanel" not in json.dumps(document)
    numbers = [panel["id"] for panel in document["panels"]]
    assert numbers == list(range(1, len(numbers) + 1))


@every_dashboard
def test_panels_fill_their_grid_without_overlap(document: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in document["panels"]]
    for place in places:
        assert place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        ), (one, other)


@every_dashboard
def test_queries_ask_only_for_what_is_exported(document: dict[str, Any]) -> None:
    asked = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for expr in expressions(document)
        for name, _ in SELECTOR.findall(expr)
    } - {ALERTS}
    assert asked
    assert asked <= EXPORTED | OF_PROCESSES
    of_variables = json.dumps([document["templating"], document["annotations"]])
    for name in re.findall(r"modelwatch_\w+(?![\w(])", of_variables):
        assert name in EXPORTED


@every_dashboard
def test_every_variable_that_is_used_is_declared(document: dict[str, Any]) -> None:
    declared = set(variables(document))
    for found in strings(document):
        used = {name.partition(".")[0] for name in VARIABLE.findall(found)}
        assert {name for name in used if not name.startswith("__")} <= declared, found


# What a link leads to


def links(document: dict[str, Any]) -> set[str]:
    return {found for found in strings(document) if found.startswith(("${service}", "/d/"))}


def test_links_lead_to_what_the_service_answers_and_to_dashboards() -> None:
    paths = create_app(Settings(database_url=SecretStr("postgresql://nowhere/none"))).openapi()[
        "paths"
    ]
    found = set().union(*(links(document) for document in DOCUMENTS.values()))
    assert len(found) > 8
    for link in found:
        address = urlsplit(link.removeprefix("${service}"))
        if address.path.startswith("/d/"):
            assert address.path.removeprefix("/d/modelwatch-") in DOCUMENTS
            continue
        path = re.sub(r"\$\{(\w+):percentencode\}", r"{\1}", address.path)
        asked = paths[path]["get"].get("parameters", [])
        known = {parameter["name"] for parameter in asked if parameter["in"] == "query"}
        assert set(parse_qs(address.query)) <= known, link


# The rules of Grafana's dashboard-linter, by their names there.  Left out, with the reason:
# * template-instance-rule, target-instance-rule: results do not depend on the replica that is asked
#   (the target's instance is constant), and a process is told apart within a panel, not chosen;
# * target-logql-rule, target-logql-auto-rule: there is no Loki;
# * target-promql-rule: Prometheus itself runs every query (tests/system/dashboards).
# ALERTS is excepted from target-job-rule: it is Prometheus' own series, and an alert over several
# jobs has no job.


@every_dashboard
def test_template_datasource_rule(document: dict[str, Any]) -> None:
    # Of a second source the linter wants names by its plugin, `grafana-postgresql-datasource_…`;
    # people read `Postgres` better.
    first, *others = [v for v in variables(document).values() if v["type"] == "datasource"]
    assert (first["name"], first["label"], first["query"]) == (
        *("datasource", "Data source"),
        "prometheus",
    )
    assert [(v["name"], v["query"]) for v in others] in (
        [],
        [("postgres", "grafana-postgresql-datasource")],
    )


@every_dashboard
def test_template_job_rule(document: dict[str, Any]) -> None:
    job = variables(document)["job"]
    assert job["datasource"]["uid"] == "${datasource}"
    assert (job["type"], job["label"], job["multi"], job["allValue"]) == (
        *("query", "Job"),
        True,
        ".+",
    )


@every_dashboard
def test_template_label_promql_rule_and_template_on_time_change_reload_rule(
    document: dict[str, Any],
) -> None:
    for found in variables(document).values():
        if found["type"] == "query":
            assert re.fullmatch(r"label_values\(.+, \w+\)", found["query"])
            assert found["refresh"] == 2


@every_dashboard
def test_overrides_are_of_names_that_grafana_does_not_have_to_fill_in(
    document: dict[str, Any],
) -> None:
    for panel in panels(document):
        for override in panel["fieldConfig"]["overrides"]:
            assert "$" not in override["matcher"]["options"]


@every_dashboard
def test_panel_datasource_rule(document: dict[str, Any]) -> None:
    for panel in panels(document):
        used = {json.dumps(each["datasource"]) for each in (panel, *panel["targets"])}
        assert used in (
            {json.dumps(PROMETHEUS, cls=JSONEncoder)},
            {json.dumps(POSTGRES, cls=JSONEncoder)},
        )


@every_dashboard
def test_panel_title_description_rule_panel_units_rule_and_panel_no_targets_rule(
    document: dict[str, Any],
) -> None:
    titles = [panel["title"] for panel in panels(document)]
    assert len(set(titles)) == len(titles)
    for panel in panels(document):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["targets"]
        defaults = panel["fieldConfig"]["defaults"]
        overrides = panel["fieldConfig"]["overrides"]
        set_units = [p["value"] for o in overrides for p in o["properties"] if p["id"] == "unit"]
        assert {defaults["unit"], *set_units} <= UNITS


@every_dashboard
def test_a_tile_without_a_value_is_neither_good_nor_bad(document: dict[str, Any]) -> None:
    for panel in panels(document):
        if panel["type"] == "stat":
            first = panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]
            assert first["color"] in {"text", "transparent"}, panel["title"]


@every_dashboard
def test_target_rate_interval_rule_and_target_counter_agg_rule(document: dict[str, Any]) -> None:
    for expr in expressions(document):
        for function, range_ in re.findall(r"(\w+)\([^()]*\[([^\]]+)\]", expr):
            assert function in {"rate", "increase"}
            assert function == "increase" or range_ == "$__rate_interval"
        for name, matchers in SELECTOR.findall(expr):
            if name.endswith(("_total", "_bucket", "_count")):
                assert re.search(rf"(rate|increase)\({name}{re.escape(matchers)}\[", expr)


@every_dashboard
def test_target_job_rule(document: dict[str, Any]) -> None:
    for expr in expressions(document):
        for name, matchers in SELECTOR.findall(expr):
            assert name == ALERTS or 'job=~"$job"' in matchers, expr


@every_dashboard
def test_uneditable_dashboard(document: dict[str, Any]) -> None:
    assert document["editable"] is False


# What Grafana is given at its start


def test_grafana_is_given_both_sources_and_all_dashboards() -> None:
    (file,) = (PROVISIONING / "datasources").glob("*.yml")
    sources = yaml.safe_load(file.read_text())["datasources"]
    kinds = {source["type"]: source for source in sources}
    assert set(kinds) == {PROMETHEUS.type_val, POSTGRES.type_val}
    assert kinds["prometheus"]["isDefault"]
    wanted = variables(DOCUMENTS["slices"])["postgres"]["regex"].strip("/")
    assert re.search(wanted, kinds["grafana-postgresql-datasource"]["name"])
    (file,) = (PROVISIONING / "dashboards").glob("*.yml")
    (provider,) = yaml.safe_load(file.read_text())["providers"]
    assert provider["allowUiUpdates"] is False
    volumes = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro,z" in volumes["volumes"]
