"""Incidents are listed, read, and handled by people."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from service.access.audit import audit
from service.access.grants import LOCAL
from service.evaluation.hysteresis import State
from service.registry.values import VersionSpec
from service.runs.incident_endpoints import router
from service.webhooks.service import delete_webhook
from tests.clients import TestClient, client_of
from tests.integration.alerts.test_incidents import LOSS, judge
from tests.integration.seeded import add_incident, register
from tests.integration.webhooks.receiver import add_webhook
from tests.system.harness import eventually

A, C = State.ALERT, State.CALM
ANA = {"by": "ana", "note": "we look into it"}

Sessions = sessionmaker[Session]


@pytest.fixture
def client(sessions: Sessions) -> Iterator[TestClient]:
    with client_of(router, sessions=sessions) as client:
        yield client


@pytest.fixture
def version(sessions: Sessions) -> VersionSpec:
    return register(sessions, "7")


def listed(client: TestClient, **params: Any) -> list[dict[str, Any]]:
    answer = client.get("/v1/incidents", params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["incidents"]
    return found


def test_an_incident_says_what_since_when_and_in_which_windows(
    client: TestClient, sessions: Sessions, version: VersionSpec
) -> None:
    for day in range(3):
        judge(sessions, version, day, A)
    (incident,) = listed(client, model="loans", state="open", version="7")
    assert (incident["kind"], incident["metric"], incident["slice"]) == ("drift", None, None)
    assert (incident["subject"], incident["severity"]) == ("income", "warning")
    assert incident["since"] == "2026-11-01T00:00:00Z"
    assert incident["opened"] == {"start": "2026-11-02T00:00:00Z", "end": "2026-11-03T00:00:00Z"}
    assert (incident["closed"], incident["outcome"]) == (None, None)
    whole = client.get(f"/v1/incidents/{incident['id']}").json()
    assert [window["reason"] for window in whole.pop("windows")] == ["day 2", "day 1", "day 0"]
    assert whole == incident


def test_an_acknowledged_incident_says_by_whom(
    client: TestClient, sessions: Sessions, version: VersionSpec
) -> None:
    incident = add_incident(sessions)
    first = client.post(f"/v1/incidents/{incident}/acknowledge", json=ANA).json()
    assert (first["state"], first["acknowledged_by"]) == ("acknowledged", "ana")
    again = client.post(f"/v1/incidents/{incident}/acknowledge", json={"by": "bob"}).json()
    assert again == first
    assert [i["id"] for i in listed(client, state="acknowledged")] == [incident]


def test_who_does_not_say_a_name_is_named_as_in_the_audit_log(
    client: TestClient, sessions: Sessions, version: VersionSpec
) -> None:
    incident = add_incident(sessions)
    answer = client.post(f"/v1/incidents/{incident}/acknowledge", json={}).json()
    assert answer["acknowledged_by"] == LOCAL.actor


def test_what_is_resolved_opens_again_if_it_goes_on(
    client: TestClient, sessions: Sessions, version: VersionSpec
) -> None:
    for day in range(4):
        judge(sessions, version, day, A)
    (incident,) = listed(client)
    resolved = client.post(f"/v1/incidents/{incident['id']}/resolve", json=ANA).json()
    assert (resolved["state"], resolved["outcome"]) == ("closed", "resolved")
    assert resolved["closed"]["start"] == "2026-11-04T00:00:00Z"
    judge(sessions, version, 4, A)
    assert len(listed(client)) == 1
    judge(sessions, version, 5, A)
    assert [i["state"] for i in listed(client)] == ["closed", "open"]
    # A late window before the end takes nothing of that back.
    judge(sessions, version, 2, C)
    assert [(i["state"], i["outcome"]) for i in listed(client)] == [
        ("closed", "resolved"),
        ("open", None),
    ]


def test_what_is_dismissed_does_not_come_back_before_it_has_gone_away(
    client: TestClient, sessions: Sessions, version: VersionSpec
) -> None:
    for day in range(2):
        judge(sessions, version, day, A)
    (incident,) = listed(client)
    client.post(f"/v1/incidents/{incident['id']}/dismiss", json=ANA)
    for day, state in enumerate([A, A, C, C], 2):
        judge(sessions, version, day, state)
    (dismissed,) = listed(client)
    assert (dismissed["state"], dismissed["outcome"]) == ("closed", "dismissed")
    assert dismissed["closed"]["start"] == "2026-11-06T00:00:00Z"
    for day in (6, 7):
        judge(sessions, version, day, A)
    assert [i["state"] for i in listed(client)] == ["closed", "open"]


def test_incidents_are_filtered_and_paged(
    client: TestClient, sessions: Sessions, version: VersionSpec
) -> None:
    ids = [add_incident(sessions, subject=f"f{number}") for number in range(3)]
    page = client.get("/v1/incidents", params={"limit": 2}).json()
    assert [i["id"] for i in page["incidents"]] == ids[:2]
    rest = client.get("/v1/incidents", params={"limit": 2, "cursor": page["next"]}).json()
    assert ([i["id"] for i in rest["incidents"]], rest["next"]) == (ids[2:], None)
    assert listed(client, state="closed") == []
    judge(sessions, version, 0, C, causes=[LOSS])
    assert len(listed(client, model="loans")) == 3


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("get", "/v1/incidents/9", 404, "unknown-incident"),
        ("get", "/v1/incidents/99999999999999999999999", 404, "unknown-incident"),
        ("post", "/v1/incidents/9/resolve", 404, "unknown-incident"),
        ("post", "/v1/incidents/1/forget", 422, "invalid-request"),
        ("post", "/v1/incidents/1/acknowledge", 409, "conflict"),
        ("post", "/v1/incidents/1/dismiss", 409, "conflict"),
        ("get", "/v1/incidents?model=nothing", 404, "unknown-model"),
        ("get", "/v1/incidents?version=7", 422, "invalid-document"),
        ("get", "/v1/incidents?model=loans&version=8", 404, "unknown-version"),
    ],
)
def test_what_cannot_be_is_a_problem(
    client: TestClient,
    sessions: Sessions,
    version: VersionSpec,
    method: str,
    path: str,
    status: int,
    code: str,
) -> None:
    add_incident(sessions, state="closed", outcome="recovered")
    answer = client.request(method, path, json=ANA if method == "post" else None)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_who_deletes_a_webhook_and_who_handles_an_incident_do_not_wait_for_each_other(
    client: TestClient, sessions: Sessions, version: VersionSpec
) -> None:
    add_webhook(sessions, "ci", events=["incident.opened", "incident.closed"])
    for day in range(2):
        judge(sessions, version, day, A)
    (incident,) = listed(client)
    # Within one transaction the view would say the same all the time.
    waiting = text(
        "SELECT 1 FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with ThreadPoolExecutor(1) as pool, sessions.begin() as deleting:
        delete_webhook(deleting, "ci")
        handling = pool.submit(client.post, f"/v1/incidents/{incident['id']}/dismiss", json=ANA)
        with sessions() as looking:
            looking.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            eventually(lambda: looking.scalar(waiting), seconds=60, message="it announces nothing")
        # Without a deadlock, for the audit log is the last that anybody locks.
        audit(deleting, "bob", "webhook.delete", "webhook:ci")
        deleting.commit()
        assert handling.result(timeout=60).status_code == 200
