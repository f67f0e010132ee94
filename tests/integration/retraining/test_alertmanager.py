"""What Alertmanager tells: at most one request, whatever is repeated, late or hostile."""

import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from service.processes.api import create_app
from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.registry.tables import Version
from service.retraining.alertmanager import EXAMPLE
from service.retraining.reconciling import FORGOTTEN_AFTER, Reconciler
from service.retraining.repository import MOST_ALERTS
from service.retraining.tables import RequestAlert, RetrainingRequest
from service.settings import Settings
from service.webhooks.tables import Outbox
from tests.integration.seeded import add_request, register
from tests.integration.webhooks.receiver import add_webhook

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

Sessions = sessionmaker[Session]
START = "2026-11-21T08:15:00.123456789Z"
LATER = "2026-11-21T09:00:00Z"
NEVER = "0001-01-01T00:00:00Z"


def an_alert(number: int = 1, **overrides: Any) -> dict[str, Any]:
    firing = overrides.get("status", "firing") == "firing"
    labels = {"alertname": "Ours", "model": "loans", "model_version": "7", "action": "retrain"}
    return {
        "status": "firing",
        "labels": labels | overrides.pop("labels", {}),
        "annotations": {"summary": "too many are rejected"},
        "startsAt": START,
        "endsAt": NEVER if firing else LATER,
        "fingerprint": f"{number:016x}",
        **overrides,
    }


def notification(*alerts: dict[str, Any], **overrides: Any) -> dict[str, Any]:
    return {**EXAMPLE, "alerts": list(alerts), **overrides}


@pytest.fixture
def client(database_url: str, sessions: Sessions) -> Iterator[TestClient]:
    add_webhook(sessions, "ci")
    register(sessions, "7")
    app = create_app(Settings(database_url=SecretStr(database_url)), keyless=True)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def tell(client: TestClient, *alerts: dict[str, Any]) -> list[tuple[str, int | None]]:
    answer = client.post("/v1/alertmanager", json=notification(*alerts))
    assert answer.status_code == 200, answer.text
    return [(told["outcome"], told["request"]) for told in answer.json()["alerts"]]


def requests(client: TestClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/v1/retraining-requests").json()["requests"]
    return found


def count(sessions: Sessions, table: type) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def close(client: TestClient, request: int) -> None:
    answer = client.post(f"/v1/retraining-requests/{request}/dismiss", json={"by": "ana"})
    assert answer.status_code == 200


def without_cooldown(sessions: Sessions) -> None:
    document = {"model": "loans", "retraining": {"cooldown": "0s"}}
    with sessions.begin() as session:
        put_monitor(session, "loans", MonitorDocument.model_validate(document))


def test_an_alert_from_the_future_mutes_nothing_that_comes_after_it(
    client: TestClient, sessions: Sessions
) -> None:
    without_cooldown(sessions)
    ((_, first),) = tell(client, an_alert(startsAt="9990-01-01T00:00:00Z"))
    assert first is not None
    tell(client, an_alert(status="resolved", startsAt="9990-01-01T00:00:00Z"))
    close(client, first)
    # Its own clock has gone on since.
    after = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    ((outcome, second),) = tell(client, an_alert(startsAt=after))
    assert (outcome, second) == ("opened", first + 1)


def test_a_rule_of_the_teams_own_opens_a_request_and_its_webhook_is_told(
    client: TestClient, sessions: Sessions
) -> None:
    ((outcome, number),) = tell(client, an_alert())
    (request,) = requests(client)
    assert (outcome, number) == ("opened", request["id"])
    assert request["state"] == "open"
    assert request["reason"] == "alert Ours: too many are rejected"
    assert request["evidence"]["labelled_rows_per_class"] is None
    (alert,) = request["evidence"]["alerts"]
    assert (alert["name"], alert["state"], alert["ends_at"]) == ("Ours", "firing", None)
    assert alert["labels"]["action"] == "retrain"
    with sessions() as session:
        (event,) = session.scalars(select(Outbox.event)).all()
    assert event["data"]["window"] is None
    assert event["data"]["signals"][0]["metric"] == "Ours"
    entries = client.get("/v1/audit").json()["entries"]
    assert "retraining-request.open" in {entry["action"] for entry in entries}


def test_forty_identical_messages_at_once_open_one_request(
    client: TestClient, sessions: Sessions
) -> None:
    body = notification(*(an_alert(number) for number in range(3)))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/alertmanager", json=body), range(40)))
    assert {answer.status_code for answer in answers} == {200}
    assert [count(sessions, table) for table in (RetrainingRequest, Outbox, RequestAlert)] == [
        *(1, 1, 3)
    ]
    with sessions() as session:
        newest = text(
            "SELECT last_value FROM pg_sequences WHERE sequencename = 'retraining_request_id_seq'"
        )
        assert session.scalar(newest) == 1


def test_each_alert_has_its_own_status_whatever_the_groups_is(client: TestClient) -> None:
    tell(client, an_alert(1), an_alert(2), an_alert(3))
    told = tell(client, an_alert(1), an_alert(2, status="resolved"), an_alert(3))
    assert {outcome for outcome, _ in told} == {"updated"}
    (request,) = requests(client)
    states = {alert["fingerprint"][-1]: alert["state"] for alert in request["evidence"]["alerts"]}
    assert states == {"1": "firing", "2": "resolved", "3": "firing"}
    assert {alert["ends_at"] is None for alert in request["evidence"]["alerts"]} == {True, False}


def test_what_is_resolved_closes_no_request(client: TestClient) -> None:
    tell(client, an_alert())
    tell(client, an_alert(status="resolved"))
    assert [request["state"] for request in requests(client)] == ["open"]


def test_alerts_that_ask_for_nothing_are_evidence_of_the_live_request_alone(
    client: TestClient, sessions: Sessions
) -> None:
    watching = an_alert(2, labels={"action": "watch"})
    assert tell(client, watching) == [("ignored", None)]
    number = add_request(sessions)
    assert tell(client, watching) == [("attached", number)]
    assert tell(client, an_alert()) == [("attached", number)]
    assert count(sessions, RetrainingRequest) == 1


@pytest.mark.parametrize("stage", ["retired", "shadow"])
def test_a_version_that_is_not_live_gets_none(
    client: TestClient, sessions: Sessions, stage: str
) -> None:
    with sessions.begin() as session:
        session.execute(update(Version).values(stage=stage))
    assert tell(client, an_alert()) == [("ignored", None)]
    assert count(sessions, RetrainingRequest) == 0


@pytest.mark.parametrize(
    "labels",
    [{"model": "unknown"}, {"model_version": "8"}, {"model": ""}, {"model": "lo\x00ans"}],
)
def test_what_concerns_nobody_is_ignored_and_not_refused_for_ever(
    client: TestClient, labels: dict[str, str]
) -> None:
    assert tell(client, an_alert(labels=labels)) == [("ignored", None)]


def test_no_other_opens_within_the_cooldown_of_the_model(
    client: TestClient, sessions: Sessions
) -> None:
    ((_, first),) = tell(client, an_alert())
    assert first is not None
    close(client, first)
    register(sessions, "8")
    other = {"model_version": "8"}
    assert tell(client, an_alert(2), an_alert(3, labels=other)) == [("ignored", None)] * 2
    without_cooldown(sessions)
    ((outcome, second),) = tell(client, an_alert(3, labels=other))
    assert (outcome, second) == ("opened", first + 1)


def test_an_alert_that_goes_on_does_not_open_again_what_somebody_has_closed(
    client: TestClient, sessions: Sessions
) -> None:
    without_cooldown(sessions)
    ((_, first),) = tell(client, an_alert())
    assert first is not None
    close(client, first)
    # Prometheus has started again, and says another start.
    assert tell(client, an_alert(), an_alert(startsAt=LATER)) == [("updated", first)] * 2
    tell(client, an_alert(status="resolved", startsAt=LATER, endsAt="2026-11-21T10:00:00Z"))
    assert tell(client, an_alert()) == [("updated", first)], "an old message that comes late"
    ((outcome, second),) = tell(client, an_alert(startsAt="2026-11-21T11:00:00Z"))
    assert (outcome, second) == ("opened", first + 1)


def test_an_alert_of_a_closed_request_is_evidence_of_the_next(
    client: TestClient, sessions: Sessions
) -> None:
    ((_, first),) = tell(client, an_alert())
    assert first is not None
    close(client, first)
    second = add_request(sessions)
    assert tell(client, an_alert()) == [("attached", second)]
    evidence = [len(request["evidence"]["alerts"]) for request in requests(client)]
    assert evidence == [1, 1]


def test_an_older_message_changes_nothing(client: TestClient) -> None:
    tell(client, an_alert(startsAt=LATER))
    tell(client, an_alert(status="resolved", endsAt="2026-11-21T08:30:00Z"))
    (request,) = requests(client)
    assert request["evidence"]["alerts"][0]["state"] == "firing"


def test_the_evidence_of_a_request_is_bounded(client: TestClient, sessions: Sessions) -> None:
    many = [an_alert(number) for number in range(MOST_ALERTS + 100)]
    outcomes = [outcome for outcome, _ in tell(client, *many)]
    assert outcomes == ["opened"] * MOST_ALERTS + ["ignored"] * 100
    assert count(sessions, RequestAlert) == MOST_ALERTS
    long = {"x" * 5000: "y" * 5000} | {f"l{n}": "" for n in range(200)}
    ((_, number),) = tell(client, an_alert(labels={"model_version": "7", **long}))
    assert number is not None


@pytest.mark.parametrize(
    "broken",
    [
        {"version": "3"},
        {"alerts": None},
        {"alerts": [an_alert(fingerprint="'; DROP TABLE label")]},
        {"alerts": [an_alert(startsAt="9999-12-31T23:59:59-23:59")]},
        {"alerts": [an_alert(startsAt=NEVER)]},
        {"alerts": [an_alert(startsAt="2026-11-21T08:15:00")]},
        {"alerts": [an_alert(status="flapping")]},
        {"alerts": [{**an_alert(), "labels": {"a": 1}}]},
        {"alerts": [{}]},
    ],
)
def test_what_is_no_message_of_alertmanager_is_refused_without_an_echo(
    client: TestClient, broken: dict[str, Any]
) -> None:
    answer = client.post("/v1/alertmanager", json={**EXAMPLE, **broken})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-document")
    assert "DROP" not in answer.text


def test_a_body_is_bounded(client: TestClient) -> None:
    body = orjson.dumps(notification(*(an_alert(n) for n in range(5000))))
    answer = client.post(
        "/v1/alertmanager", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_hostile_message_is_an_error_of_ours(client: TestClient, data: st.DataObject) -> None:
    message = deepcopy(notification(an_alert(), an_alert(2, status="resolved")))
    parts = [message, message["alerts"][0], message["alerts"][0]["labels"]]
    for part in data.draw(st.lists(st.sampled_from(parts), min_size=1, max_size=3)):
        part[data.draw(st.sampled_from(sorted(part)) | st.text(max_size=5))] = data.draw(values)
    try:
        body = orjson.dumps(message)
    except TypeError:
        return
    answer = client.post(
        "/v1/alertmanager", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in {200, 400, 422}, answer.text
    assert client.get("/v1/retraining-requests").status_code == 200


def test_a_key_is_for_alerts_alone_and_finds_only_its_own_models(
    database_url: str, sessions: Sessions
) -> None:
    register(sessions, "7")
    keyless = create_app(Settings(database_url=SecretStr(database_url)), keyless=True)
    with TestClient(keyless, base_url="http://localhost") as open_door:
        keys = {
            name: open_door.post("/v1/keys", json=asked).json()["key"]
            for name, asked in {
                "alerts": {"scopes": ["alerts"]},
                "ingest": {"scopes": ["ingest", "read"]},
                "other": {"scopes": ["alerts"], "models": ["fraud"]},
            }.items()
        }
    app = create_app(Settings(database_url=SecretStr(database_url)))
    with TestClient(app, base_url="http://localhost") as client:

        def post(key: str | None) -> httpx.Response:
            headers = {} if key is None else {"Authorization": f"Bearer {keys[key]}"}
            body = notification(an_alert())
            answer: httpx.Response = client.post("/v1/alertmanager", json=body, headers=headers)
            return answer

        assert [post(key).status_code for key in (None, "ingest")] == [401, 403]
        assert post("other").json()["alerts"][0]["outcome"] == "ignored"
        assert post("alerts").json()["alerts"][0]["outcome"] == "opened"
        mine = {"Authorization": f"Bearer {keys['alerts']}"}
        assert client.get("/v1/models", headers=mine).status_code == 403


@pytest.fixture
def alertmanager() -> Iterator[tuple[str, Callable[[Any], None]]]:
    """Yield the address of an Alertmanager, and what makes it say something."""
    said: dict[str, bytes] = {"body": b"[]"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ok = self.path == "/api/v2/alerts"
            self.send_response(200 if ok else 404)
            self.send_header("Content-Length", str(len(said["body"])))
            self.end_headers()
            self.wfile.write(said["body"])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def say(found: Any) -> None:
        said["body"] = found if isinstance(found, bytes) else orjson.dumps(found)

    yield f"http://127.0.0.1:{server.server_port}/", say
    server.shutdown()
    server.server_close()
    thread.join()


def as_polled(alert: dict[str, Any], state: str = "active") -> dict[str, Any]:
    return {**alert, "status": {"state": state, "silencedBy": [], "inhibitedBy": []}}


def test_reconciling_attaches_what_was_told_too_early_and_ends_what_is_gone(
    client: TestClient, sessions: Sessions, alertmanager: tuple[str, Callable[[Any], None]]
) -> None:
    url, say = alertmanager
    reconciler = Reconciler(sessions, url)
    drift = an_alert(1, labels={"action": "watch"})
    tell(client, drift)
    number = add_request(sessions)
    say([as_polled(drift), {"not": "an alert"}, 7, as_polled(an_alert(2, labels={"model": ""}))])
    reconciler.reconcile()
    ((alert,),) = [request["evidence"]["alerts"] for request in requests(client)]
    assert (alert["state"], requests(client)[0]["id"]) == ("firing", number)
    say([])
    reconciler.reconcile()
    assert requests(client)[0]["evidence"]["alerts"][0]["state"] == "firing", "it may come yet"
    with sessions.begin() as session:
        earlier = datetime.now(UTC) - FORGOTTEN_AFTER - timedelta(seconds=1)
        session.execute(update(RequestAlert).values(received_at=earlier))
    reconciler.reconcile()
    (request,) = requests(client)
    assert request["evidence"]["alerts"][0]["state"] == "resolved"
    assert request["state"] == "open"


def test_a_silenced_alert_asks_for_nothing(
    client: TestClient, sessions: Sessions, alertmanager: tuple[str, Callable[[Any], None]]
) -> None:
    url, say = alertmanager
    say([as_polled(an_alert(), "suppressed")])
    Reconciler(sessions, url).reconcile()
    assert count(sessions, RetrainingRequest) == 0
    say([as_polled(an_alert())])
    Reconciler(sessions, url).reconcile()
    assert count(sessions, RetrainingRequest) == 1


@pytest.mark.parametrize("answer", [b"", b"{}", b"<html>", b"[[[[", b"null"])
def test_an_alertmanager_that_talks_nonsense_ends_no_alert(
    client: TestClient,
    sessions: Sessions,
    alertmanager: tuple[str, Callable[[Any], None]],
    answer: bytes,
) -> None:
    tell(client, an_alert())
    with sessions.begin() as session:
        session.execute(update(RequestAlert).values(received_at=datetime(2020, 1, 1, tzinfo=UTC)))
    url, say = alertmanager
    say(answer)
    stop = threading.Event()
    thread = threading.Thread(target=Reconciler(sessions, url, interval=0.01).run, args=(stop,))
    thread.start()
    thread.join(timeout=0.2)
    assert thread.is_alive()
    stop.set()
    thread.join(timeout=20)
    assert requests(client)[0]["evidence"]["alerts"][0]["state"] == "firing"
