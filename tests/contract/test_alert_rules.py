"""The shipped rules: valid, tested both ways, and about nothing that is not exported."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml
from fastapi import FastAPI
from starlette.routing import Route

from service.evaluation import causes
from service.evaluation.policy import Action
from service.exporter.catalogue import CATALOGUE
from service.foreign.routes import mount_foreign
from service.ingest.routes import mount_ingest
from service.telemetry import PROCESS_METRICS

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "prometheus"
ALERTMANAGER = PROMETHEUS / "alertmanager.yml"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
PAGE = ROOT / "docs" / "prometheus.md"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
TESTS = PROMETHEUS / "tests" / "rules.yml"

RULES: list[dict[str, Any]] = [
    rule
    for path in RULE_FILES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARDS = {
    json.loads(path.read_text())["uid"] for path in (ROOT / "grafana" / "dashboards").glob("*.json")
}
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}

promtool, amtool = which("promtool"), which("amtool")
needs_promtool = pytest.mark.skipif(
    promtool is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)
needs_amtool = pytest.mark.skipif(
    amtool is None,
    reason="amtool is not installed (Debian: apt-get install prometheus-alertmanager)",
)
every_alert = pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])


def run(*command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@needs_promtool
def test_the_rules_pass_the_lint() -> None:
    run(promtool, "check", "rules", "--lint-fatal", *RULE_FILES)


@needs_promtool
def test_every_rule_fires_and_stays_quiet_as_its_unit_test_says() -> None:
    run(promtool, "test", "rules", TESTS)


@needs_promtool
def test_the_rule_of_the_page_passes_the_lint(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "ours.yml").write_text(block)
    run(promtool, "check", "rules", "--lint-fatal", tmp_path / "ours.yml")
    assert set(re.findall(r"modelwatch_\w+", block)) <= CATALOGUE.keys()


def test_every_alert_is_tested_firing_and_quiet() -> None:
    fires: set[str] = set()
    quiet: set[str] = set()
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            (fires if case["exp_alerts"] else quiet).add(case["alertname"])
    names = {rule["alert"] for rule in ALERTS}
    assert fires == names
    # What always fires is the one that cannot be quiet.
    assert quiet == names - {"MonitorWatchdog"}


@every_alert
def test_an_alert_says_what_it_is_and_where_to_look(rule: dict[str, Any]) -> None:
    of_incidents = "modelwatch_incident_open{" in rule["expr"]
    more = {"incidents_url"} if of_incidents else set()
    said = rule["annotations"]
    more |= {"measured"} & said.keys()
    assert said.keys() == {"summary", "description", "runbook_url", "dashboard_url"} | more
    headings = re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)
    anchor = rule["alert"].lower()
    assert said["runbook_url"] == f"{{{{ $externalLabels.runbooks }}}}#{anchor}"
    assert rule["alert"] in headings
    dashboard = re.search(r"/d/([\w-]+)", said["dashboard_url"])
    assert dashboard is not None
    assert dashboard[1] in DASHBOARDS
    told = rule["labels"]
    assert told.keys() in ({"category"}, {"category", "severity", "action"})
    if "severity" in told:
        assert told["severity"] in {"none", "warning", "critical"}
        assert told["action"] in {action.value for action in Action}
    else:
        assert of_incidents, "the incident brings its own"


def test_an_alert_of_an_incident_says_what_was_measured() -> None:
    said = [
        rule["annotations"].get("measured")
        for rule in ALERTS
        if "modelwatch_incident_open{" in rule["expr"] and "count by" not in rule["expr"]
    ]
    assert len(set(said)) == 1
    assert "modelwatch_incident_value" in said[0]


@pytest.mark.parametrize("name", ["prometheus.yml", "compose.yml"])
def test_what_alerts_link_to_is_configured_and_no_label_of_theirs(name: str) -> None:
    config = yaml.safe_load((PROMETHEUS / name).read_text())
    links = config["global"]["external_labels"]
    named = set(re.findall(r"\$externalLabels\.(\w+)", "".join(p.read_text() for p in RULE_FILES)))
    assert named == links.keys()
    assert ROOT / links["runbooks"] == RUNBOOKS
    (dropped,) = config["alerting"]["alert_relabel_configs"]
    assert set(dropped["regex"].split("|")) == links.keys()


def test_every_runbook_is_of_an_alert() -> None:
    headings = re.findall(r"^## (.+)$", RUNBOOKS.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted({rule["alert"] for rule in ALERTS})


def test_no_rule_names_what_is_not_exported() -> None:
    process = {sample.name for metric in PROCESS_METRICS for sample in metric.describe()}
    suffixes = ("", "_total", "_bucket", "_count", "_sum")
    exported = CATALOGUE.keys() | {name + suffix for name in process for suffix in suffixes}
    known = exported | RECORDED
    for rule in RULES:
        asked = " ".join([rule["expr"], *rule.get("annotations", {}).values()])
        named = set(re.findall(r"\b(?:\w+:)?modelwatch_[\w:]+", asked))
        assert named <= known, rule.get("alert", rule.get("record"))


def test_rules_and_panels_mean_by_ingest_every_route_that_stores_rows() -> None:
    app = FastAPI(openapi_url=None)
    mount_ingest(app)
    mount_foreign(app)
    stores = [route.path for route in app.routes if isinstance(route, Route)]
    panels = (ROOT / "grafana" / "dashboards" / "service.json").read_text().replace('\\"', '"')
    for said in (" ".join(rule["expr"] for rule in RULES), panels):
        (pattern,) = set(re.findall(r'route=~"([^"]+)"', said))
        assert [path for path in stores if re.fullmatch(pattern, path)] == stores


def test_no_label_of_a_rule_hides_one_of_its_metrics_but_severity_and_action() -> None:
    of_metrics = {label for spec in CATALOGUE.values() for label in spec.metric_labels}
    for rule in ALERTS:
        hidden = rule["labels"].keys() & of_metrics
        assert hidden <= {"severity", "action"}, rule["alert"]


def test_every_kind_of_incident_has_an_alert() -> None:
    kinds = {"quality", "slice", "fairness", "drift", "multivariate_drift"}
    kinds |= set(causes._CONSEQUENCES)
    matched = set()
    for rule in ALERTS:
        for operator, pattern in re.findall(r'incident_open\{kind(=~?)"([^"]+)"', rule["expr"]):
            matched |= set(pattern.split("|")) if operator == "=~" else {pattern}
    assert matched == kinds


@needs_amtool
def test_the_configuration_of_alertmanager_is_valid() -> None:
    run(amtool, "check-config", ALERTMANAGER)


@needs_amtool
def test_the_command_of_the_page_points_alertmanager_to_one_machine(tmp_path: Path) -> None:
    (command,) = re.findall(r"^sed .*", PAGE.read_text(), re.MULTILINE)
    *edit, _, target = shlex.split(command)
    assert target in PAGE.read_text().partition("prometheus-alertmanager --config.file=")[2]
    made = tmp_path / "alertmanager.yml"
    made.write_text(run(*(ROOT / part if part.endswith(".yml") else part for part in edit)))
    run(amtool, "check-config", made)
    before, after = (yaml.safe_load(path.read_text()) for path in (ALERTMANAGER, made))
    (webhook,) = after["receivers"][-1]["webhook_configs"]
    assert webhook.pop("url") == "http://127.0.0.1:8080/v1/alertmanager"
    (compose,) = before["receivers"][-1]["webhook_configs"]
    assert compose.pop("url")
    assert compose.pop("http_config")
    assert after == before


@needs_amtool
def test_the_receivers_of_the_page_are_valid_and_name_what_the_alerts_have(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    config = yaml.safe_load(ALERTMANAGER.read_text())
    named = {each["name"]: each for each in yaml.safe_load(block)["receivers"]}
    assert {each["name"] for each in config["receivers"] if len(each) == 1} == set(named)
    config["receivers"] = [named.get(each["name"], each) for each in config["receivers"]]
    made = tmp_path / "alertmanager.yml"
    made.write_text(yaml.safe_dump(config))
    run(amtool, "check-config", made)
    known = {name for rule in ALERTS for name in rule["annotations"]}
    assert set(re.findall(r"Annotations\.(\w+)", block)) <= known


@needs_amtool
@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ("alertname=ModelDataQualityFailing model=a model_version=1 action=fix_data",
         "modelwatch,team"),
        ("alertname=ModelConceptDrift model=a model_version=1 action=retrain",
         "modelwatch,retraining"),
        ("alertname=Ours model=a model_version=1 action=retrain severity=critical",
         "modelwatch,retraining"),
        ("alertname=MonitorWatchdog severity=none", "watchdog"),
        ("alertname=MonitorWorkerDead severity=critical", "team"),
        ("alertname=MonitorDeadLetters model=a kind=labels", "team"),
    ],
)  # fmt: skip
def test_alerts_are_routed(labels: str, receivers: str) -> None:
    run(
        amtool, "config", "routes", "test", f"--config.file={ALERTMANAGER}",
        f"--verify.receivers={receivers}", *labels.split(),
    )  # fmt: skip


def test_alertmanager_groups_and_inhibits_as_its_comments_say() -> None:
    config = yaml.safe_load(ALERTMANAGER.read_text())
    routes = {route["receiver"]: route for route in config["route"]["routes"]}
    assert routes["retraining"]["group_by"] == ["model", "model_version"]
    for rule in config["inhibit_rules"]:
        matchers = [*rule["source_matchers"], *rule["target_matchers"]]
        for name, value in (re.fullmatch(r'(\w+)=~?"(.+)"', m).groups() for m in matchers):  # type: ignore[union-attr]  # every matcher has this form, or the test fails
            known = {r["labels"].get(name) for r in ALERTS} | {r["alert"] for r in ALERTS}
            assert name == "model_version" or value in known, "a rule that inhibits nothing"
