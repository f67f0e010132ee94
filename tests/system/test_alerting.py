"""From a drifting model to people, by the real Prometheus and Alertmanager, and back."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import numpy as np
import orjson
import pandas as pd
import pytest

from tests.integration.webhooks.receiver import SECRET_KEY, Receiver
from tests.system.configuration import hurried_rules, process, shipped, write
from tests.system.harness import Service, eventually, free_port, running
from tests.system.replays import Replay, register, send_labels, send_predictions

ROWS = 600
# For hangs: the whole way takes some 20 s on free cores.
PATIENCE = 120.0
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
LOST = "ModelPerformanceBelowBaseline"

prometheus, alertmanager = which("prometheus"), which("prometheus-alertmanager")

pytestmark = pytest.mark.skipif(
    prometheus is None or alertmanager is None,
    reason="Prometheus or Alertmanager is not installed"
    " (Debian: apt-get install prometheus prometheus-alertmanager)",
)


@contextmanager
def monitoring(folder: Path, service: Service, alertmanager_port: int) -> Iterator[str]:
    """Run Prometheus and Alertmanager by the shipped configurations, at one second a step."""
    config = shipped("prometheus.yml")
    config["global"] |= {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    config["rule_files"] = hurried_rules(folder)
    (managers,) = config["alerting"]["alertmanagers"]
    managers["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager_port}"]
    for job in config["scrape_configs"]:
        job["authorization"] = {"credentials": service.key}
        for static in job["static_configs"]:
            static["targets"] = [f"127.0.0.1:{service.port}"]
    routing = shipped("alertmanager.yml")
    quick = {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
    for route in (routing["route"], *routing["route"]["routes"]):
        route.update(quick)
    (webhook,) = next(r for r in routing["receivers"] if r["name"] == "modelwatch")[
        "webhook_configs"
    ]
    webhook["url"] = f"{service.url}/v1/alertmanager"
    webhook["http_config"]["authorization"] = {"credentials": service.key}
    port = free_port()
    with ExitStack() as processes:
        processes.enter_context(
            process(
                folder / "alertmanager.log",
                str(alertmanager),
                f"--config.file={write(folder / 'alertmanager.yml', routing)}",
                f"--storage.path={folder / 'alerts'}",
                f"--web.listen-address=127.0.0.1:{alertmanager_port}",
                "--cluster.listen-address=",
            )
        )
        processes.enter_context(
            process(
                folder / "prometheus.log",
                str(prometheus),
                f"--config.file={write(folder / 'prometheus.yml', config)}",
                f"--storage.tsdb.path={folder / 'series'}",
                f"--web.listen-address=127.0.0.1:{port}",
            )
        )
        yield f"http://127.0.0.1:{port}"


def rows(seed: int, day: datetime, *, shift: float = 0.0, flip: float = 0.05) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    income = draw.normal(shift, 1, ROWS)
    score = 1 / (1 + np.exp(-2 * income))
    predicted = (score > 0.5).astype(int)
    label = np.where(draw.random(ROWS) < flip, 1 - predicted, predicted)
    step = timedelta(days=1) / ROWS
    return pd.DataFrame(
        {
            "id": [f"{day:%j}-{number}" for number in range(ROWS)],
            "ts": [day + number * step for number in range(ROWS)],
            "income": income,
            "score": score,
            "prediction": predicted.astype(str),
            "label": label.astype(str),
        }
    )


def a_replay(found: Sequence[pd.DataFrame]) -> Replay:
    reference = pd.concat([rows(100 + n, TODAY) for n in range(8)]).drop(columns=["id", "ts"])
    return Replay(
        model="loans",
        task="binary",
        features=["income"],
        reference=reference,
        rows=pd.concat(found, ignore_index=True),
        monitor={"performance": {"label_horizon": None}, "discover_slices": False},
        version={"classes": ["0", "1"], "positive_class": "1"},
    )


def send(service: Service, replay: Replay) -> None:
    send_predictions(service, replay)
    send_labels(service, replay)


def the_request(service: Service) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = service.get("/v1/retraining-requests")["requests"]
    assert len(found) <= 1
    return found[0] if found else None


def in_state(service: Service, name: str, state: str) -> dict[str, Any] | None:
    service.check_alive()
    request = the_request(service)
    alerts = request["evidence"]["alerts"] if request else []
    return request if (name, state) in {(a["name"], a["state"]) for a in alerts} else None


def asked_for(receiver: Receiver) -> list[dict[str, Any]]:
    events = [orjson.loads(body) for _, body in receiver.received]
    return [event for event in events if event["type"] == "dev.modelwatch.retrain.requested.v1"]


def check_chain(service: Service, said: dict[str, Any]) -> None:
    """Follow what somebody who was woken up reads: why, where, on which data, where to look."""
    first = said["signals"][0]
    assert first["metric"].startswith("concept_drift") or first["metric"] == "roc_auc"
    assert all(signal["n"] and signal["method"] for signal in said["signals"])
    window = service.get(said["window_url"])
    assert (window["start"], window["end"]) == tuple(said["window"])
    assert (window["rows"], window["labelled"]) == (said["rows"], said["labelled"])
    told = {(one["metric"], one["subject"]): one for one in window["measurements"]}
    for signal in said["signals"]:
        recorded = told[signal["metric"], signal["subject"]]
        assert {name: recorded[name] for name in signal} == signal
    asked = service.get(said["evidence_url"])["evidence"]["windows"]
    assert set(map(tuple, said["windows"])) <= {(one["start"], one["end"]) for one in asked}
    assert {one["reference_revision"] for one in asked} == {said["reference_revision"]}


def check_notification(alertmanager_port: int) -> None:
    """Read what Alertmanager sends to people: the numbers, their intervals, the rows, the time."""

    def told(name: str) -> str | None:
        answer = httpx.get(f"http://127.0.0.1:{alertmanager_port}/api/v2/alerts", trust_env=False)
        found = {one["labels"]["alertname"]: one["annotations"] for one in answer.json()}
        return found[name]["measured"] if name in found else None

    number = r"-?\d\.\d+"
    lost = eventually(lambda: told(LOST), seconds=PATIENCE, message="no loss")
    until = r"in the window until \d{4}-\d\d-\d\d 00:00:00"
    limits = rf"limit {number}, reference {number}, {ROWS} rows"
    assert re.search(rf"roc_auc {number} \({number} to {number}\), {limits}", lost), lost
    assert re.search(rf"{ROWS} rows {until}", lost), lost
    drifted = eventually(
        lambda: told("ModelFeatureDriftSustained"), seconds=PATIENCE, message="no drift"
    )
    seen = rf"jensen_shannon {number}, limit {number}, {ROWS} rows {until}"
    assert re.search(seen, drifted), drifted


def test_a_loss_reaches_people_and_its_end_leaves_the_request_to_them(
    database_url: str, tmp_path: Path
) -> None:
    receiver, alertmanager_port = Receiver(), free_port()
    environment = {
        "MODELWATCH_SECRET_KEY": SECRET_KEY,
        "MODELWATCH_WEBHOOK_ALLOW": "127.0.0.1",
        "MODELWATCH_ALERTMANAGER_URL": f"http://127.0.0.1:{alertmanager_port}",
    }
    try:
        with (
            running(database_url, tmp_path, **environment) as service,
            monitoring(tmp_path, service, alertmanager_port) as address,
        ):
            service.start_worker()
            service.put("/v1/webhooks/pipeline", {"url": receiver.url})
            bad = [
                rows(days, TODAY - timedelta(days=days), shift=0.7, flip=0.3) for days in (6, 5, 4)
            ]
            register(service, a_replay(bad))
            send(service, a_replay(bad))
            request = eventually(
                lambda: in_state(service, LOST, "firing"), seconds=PATIENCE, message="no alert"
            )
            assert (request["state"], request["action"]) == ("open", "retrain")
            assert request["evidence"]["windows"]
            (event,) = eventually(
                lambda: asked_for(receiver), seconds=PATIENCE, message="nobody was told"
            )
            assert event["data"]["request"] == request["id"]
            check_chain(service, event["data"])
            check_notification(alertmanager_port)

            send(service, a_replay([rows(n, TODAY - timedelta(days=n)) for n in (3, 2, 1)]))
            request = eventually(
                lambda: in_state(service, LOST, "resolved"), seconds=PATIENCE, message="no end"
            )
            assert request["state"] == "open"
            assert len(asked_for(receiver)) == 1
            answer = httpx.get(f"{address}/api/v1/rules", trust_env=False, timeout=60)
            rules = answer.json()["data"]["groups"]
            health = {rule["name"]: rule["health"] for group in rules for rule in group["rules"]}
            assert set(health.values()) == {"ok"}, health
    finally:
        receiver.close()
