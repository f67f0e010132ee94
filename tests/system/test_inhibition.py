"""Which alerts a real Alertmanager tells, and together with which, by the configuration shipped."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from shutil import which

import httpx
import orjson
import pytest

from tests.integration.webhooks.receiver import Receiver, receiving
from tests.system.configuration import process, shipped, write
from tests.system.harness import eventually, free_port

# For hangs: each step takes a second.
PATIENCE = 60.0

pytestmark = pytest.mark.skipif(
    which("prometheus-alertmanager") is None,
    reason="Alertmanager is not installed (Debian: apt-get install prometheus-alertmanager)",
)

RULES = {
    rule["alert"]: rule["labels"]
    for name in ("models", "service")
    for group in shipped(f"rules/{name}.yml")["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def alert(name: str, model: str | None = None, **more: str) -> dict[str, str]:
    """Return the labels of a shipped rule's alert about version 7 of a model, or of the service."""
    of_model = {"model": model, "model_version": "7"} if model else {}
    return {"alertname": name, **RULES[name], **of_model, **more}


class Manager:
    """An Alertmanager that does not wait, and all that its receivers were told."""

    def __init__(self, url: str, receiver: Receiver) -> None:
        self._url = url
        self._receiver = receiver

    def post(self, *alerts: dict[str, str], **times: str) -> None:
        body = [{"labels": labels, **times} for labels in alerts]
        answer = httpx.post(f"{self._url}/api/v2/alerts", json=body, trust_env=False)
        assert answer.status_code == 200, answer.text

    def messages(self, receiver: str) -> list[list[dict[str, str]]]:
        """Return the labels of what fires in each message to a receiver."""
        messages = [orjson.loads(body) for _, body in list(self._receiver.received)]
        return [
            [each["labels"] for each in message["alerts"] if each["status"] == "firing"]
            for message in messages
            if message["receiver"] == receiver
        ]

    def told(self, receiver: str, labels: dict[str, str]) -> bool:
        return any(labels in message for message in self.messages(receiver))

    def wait_until_told(self, receiver: str, *alerts: dict[str, str]) -> None:
        def all_told() -> bool:
            return all(self.told(receiver, labels) for labels in alerts)

        eventually(all_told, seconds=PATIENCE, message=f"{receiver} was not told")

    def wait_until_held_back(self, labels: dict[str, str]) -> None:
        """Post an alert, and return when it is known to be inhibited, as all like it are then."""
        self.post(labels)

        def held_back() -> bool:
            found = httpx.get(f"{self._url}/api/v2/alerts", trust_env=False).json()
            return any(a["labels"] == labels and a["status"]["inhibitedBy"] for a in found)

        eventually(held_back, seconds=PATIENCE, message="it is not inhibited")

    def ready(self) -> bool:
        try:
            answer = httpx.get(f"{self._url}/-/ready", trust_env=False)
        except httpx.TransportError:
            return False
        return answer.status_code == 200


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    config = shipped("alertmanager.yml")
    quick = {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
    for route in (config["route"], *config["route"]["routes"]):
        route.update(quick)
    port = free_port()
    with receiving() as receiver:
        for each in config["receivers"]:
            each["webhook_configs"] = [{"url": receiver.url}]
        command = (
            "prometheus-alertmanager",
            f"--config.file={write(tmp_path / 'alertmanager.yml', config)}",
            f"--storage.path={tmp_path / 'alerts'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        )
        with process(tmp_path / "log", *command):
            started = Manager(f"http://127.0.0.1:{port}", receiver)
            eventually(started.ready, seconds=PATIENCE, message="Alertmanager did not start")
            yield started


def drift(model: str, subject: str = "income", **more: str) -> dict[str, str]:
    labels = {"kind": "drift", "subject": subject, "severity": "warning", "action": "watch"}
    return alert("ModelFeatureDriftSustained", model, **labels, **more)


def loss(model: str, severity: str = "critical") -> dict[str, str]:
    labels = {"kind": "performance", "severity": severity, "action": "retrain"}
    return alert("ModelPerformanceBelowBaseline", model, **labels)


def broken(model: str, check: str) -> dict[str, str]:
    labels = {"kind": "quality", "check": check, "subject": "age", "severity": "critical"}
    return alert("ModelDataQualityFailing", model, action="fix_data", **labels)


def test_broken_data_hold_back_drift_of_the_same_version_until_they_are_repaired(
    manager: Manager,
) -> None:
    source = broken("loans", "missing_ratio")
    manager.post(source)
    manager.wait_until_held_back(drift("loans", "held"))
    inhibited, other = drift("loans"), drift("fraud")
    another_version = {**drift("loans"), "model_version": "8"}
    manager.post(inhibited, loss("loans"), other, another_version)
    manager.wait_until_told("modelwatch", source, loss("loans"), other, another_version)
    manager.wait_until_told("team", source, other, another_version)
    for receiver in ("modelwatch", "team"):
        assert not manager.told(receiver, inhibited)
    manager.post(source, endsAt=datetime.now(UTC).isoformat())
    manager.wait_until_told("modelwatch", inhibited)
    manager.wait_until_told("team", inhibited)


def test_a_critical_alert_holds_back_the_warning_of_the_same_check(manager: Manager) -> None:
    source = broken("loans", "missing_ratio")
    manager.post(source)
    same = {**source, "severity": "warning"}
    manager.wait_until_held_back(same)
    other = {**broken("loans", "unseen_ratio"), "severity": "warning"}
    manager.post(other)
    manager.wait_until_told("team", source, other)
    assert not manager.told("team", same)
    assert not manager.told("modelwatch", same)


def test_without_results_nobody_is_told_of_models_or_workers(manager: Manager) -> None:
    source = alert("MonitorResultsEndpointDown")
    manager.post(source)
    manager.wait_until_held_back(drift("loans"))
    inhibited, told = [loss("loans"), alert("MonitorWorkerDead")], alert("MonitorJobBacklog")
    refused = {**alert("MonitorDeadLetters"), "model": "loans"}
    manager.post(*inhibited, told, refused)
    manager.wait_until_told("team", source, told, refused)
    for receiver in ("modelwatch", "retraining", "team"):
        for labels in (*inhibited, drift("loans")):
            assert not manager.told(receiver, labels)


def test_by_old_results_nobody_is_told_that_versions_are_silent(manager: Manager) -> None:
    source = alert("MonitorResultsStale")
    manager.post(source)
    manager.wait_until_held_back(alert("ModelNoTraffic", "loans"))
    manager.post(alert("ModelEvaluationStale", "loans"), loss("loans"))
    manager.wait_until_told("team", source)
    manager.wait_until_told("retraining", loss("loans"))
    for name in ("ModelNoTraffic", "ModelEvaluationStale"):
        assert not manager.told("team", alert(name, "loans"))


def test_all_alerts_that_ask_for_one_retraining_come_in_one_message(manager: Manager) -> None:
    asking = [
        loss("loans"),
        alert("ModelConceptDrift", "loans", kind="concept", severity="warning", action="retrain"),
        {**loss("loans"), "alertname": "Ours"},
    ]
    manager.post(*asking, loss("fraud"))

    def together() -> bool:
        return any(
            all(labels in message for labels in asking)
            for message in manager.messages("retraining")
        )

    eventually(together, seconds=PATIENCE, message="they were not told together")
    manager.wait_until_told("retraining", loss("fraud"))
    for message in manager.messages("retraining"):
        assert len({labels["model"] for labels in message}) == 1
    assert not manager.messages("team")
