"""What Alertmanager tells: at most one request, whatever is repeated, late or hostile."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import select, text, update

from service.processes.api import create_app
from service.registry.tables import Version
from service.retraining.alertmanager import EXAMPLE
from service.retraining.repository import MOST_ALERTS
from service.retraining.tables import RequestAlert, RetrainingRequest
from service.settings import Settings
from service.webhooks.tables import Outbox
from tests.clients import TestClient
from tests.integration.retraining.alertmanager import (
    LATER,
    NEVER,
    Sessions,
    an_alert,
    close,
    count,
    notification,
    opened_by,
    requests,
    tell,
    without_cooldown,
)
from tests.integration.seeded import add_request, register


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
    assert opened_by(client) == ["local"]


def test_who_reads_the_evidence_finds_what_the_alert_says_as_it_says_it_last(
    client: TestClient,
) -> None:
    said = {
        "measured": "40 %",
        "description": "Ours.",
        "runbook_url": "https://wiki/loans",
        "dashboard_url": "/d/loans",
    }
    query = "http://prometheus:9090/graph?g0.expr=up"
    first = an_alert(annotations=said | {"secret": "x"}, generatorURL=query)
    tell(client, first)
    (request,) = requests(client)
    assert request["evidence"]["alerts"][0]["annotations"] == said | {"generator_url": query}
    tell(client, an_alert(annotations={"description": "y\x00" * 5_000}))
    (request,) = requests(client)
    assert request["evidence"]["alerts"][0]["annotations"] == {"description": "y " * 1_000}


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
    tell(client, an_alert(status="resolved", startsAt=LATER, endsAt="2025-11-21T10:00:00Z"))
    assert tell(client, an_alert()) == [("updated", first)], "an old message that comes late"
    ((outcome, second),) = tell(client, an_alert(startsAt="2025-11-21T11:00:00Z"))
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


def test_what_goes_on_is_evidence_of_the_request_that_the_same_message_opens(
    client: TestClient, sessions: Sessions
) -> None:
    without_cooldown(sessions)
    ((_, first),) = tell(client, an_alert(1))
    assert first is not None
    close(client, first)
    told = tell(client, an_alert(1), an_alert(2))
    assert told == [("opened", first + 1)] * 2
    evidence = [len(request["evidence"]["alerts"]) for request in requests(client)]
    assert evidence == [1, 2]


def test_the_evidence_of_a_request_is_bounded(client: TestClient, sessions: Sessions) -> None:
    many = [an_alert(number) for number in range(MOST_ALERTS + 100)]
    answer = client.post("/v1/alertmanager", json=notification(*many)).json()
    outcomes = [told["outcome"] for told in answer["alerts"]]
    assert outcomes == ["opened"] * MOST_ALERTS + ["left_out"] * 100
    assert answer["left_out"] == 100
    assert count(sessions, RequestAlert) == MOST_ALERTS
    long = {"x" * 5000: "y" * 5000} | {f"l{n}": "" for n in range(200)}
    ((_, number),) = tell(client, an_alert(labels={"model_version": "7", **long}))
    assert number is not None


def test_an_alert_that_asks_finds_room_however_many_do_not(client: TestClient) -> None:
    watching = {"action": "watch"}
    others = [an_alert(number, labels=watching) for number in range(MOST_ALERTS)]
    told = tell(client, *others, an_alert(900))
    assert told == [("attached", 1)] * (MOST_ALERTS - 1) + [("left_out", 1), ("opened", 1)]
    # The next that asks comes when the request is full, and those that do not have ended in part.
    tell(client, an_alert(7, labels=watching, status="resolved"))
    assert tell(client, an_alert(901), an_alert(902, labels=watching)) == [
        ("attached", 1),
        ("left_out", 1),
    ]
    (request,) = requests(client)
    kept = {int(alert["fingerprint"], 16) for alert in request["evidence"]["alerts"]}
    assert (len(kept), {900, 901} & kept, 7 in kept) == (MOST_ALERTS, {900, 901}, False)
    assert opened_by(client) == ["local"]


def test_what_says_whom_an_alert_is_about_is_kept_of_however_many_labels(
    client: TestClient,
) -> None:
    tell(client, an_alert(labels={f"a{number:03}": "" for number in range(200)}))
    (request,) = requests(client)
    (alert,) = request["evidence"]["alerts"]
    assert (alert["name"], alert["labels"]["action"]) == ("Ours", "retrain")


@pytest.mark.parametrize(
    "broken",
    [
        {"version": "3"},
        {"alerts": None},
        {"alerts": [an_alert(fingerprint="'; DROP TABLE label")]},
        {"alerts": [an_alert(startsAt="9999-12-31T23:59:59-23:59")]},
        {"alerts": [an_alert(startsAt=NEVER)]},
        {"alerts": [an_alert(startsAt="2025-11-21T08:15:00")]},
        {"alerts": [an_alert(status="flapping")]},
        {"alerts": [{**an_alert(), "labels": {"a": 1}}]},
        {"alerts": [{}]},
        {"alerts": [{}] * 20_000},
    ],
)
def test_what_is_no_message_of_alertmanager_is_refused_without_an_echo(
    client: TestClient, broken: dict[str, Any]
) -> None:
    answer = client.post("/v1/alertmanager", json={**EXAMPLE, **broken})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-document")
    assert "DROP" not in answer.text
    assert len(answer.json()["rejected"]) < 10


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
