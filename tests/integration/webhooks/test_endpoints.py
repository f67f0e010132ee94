"""Webhooks are documents; what could turn them inward is refused when it is put."""

import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import sessionmaker

from service.access.tables import AuditEntry
from service.db.visibility import only
from service.errors import InvalidDocumentError
from service.registry.endpoints import router as registry_router
from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.settings import Settings
from service.webhooks import service
from service.webhooks.endpoints import router
from tests.clients import TestClient, client_of
from tests.integration.webhooks.receiver import SECRET, Sessions, add_webhook, tell

URL = "https://hooks.example.com/retrain?token=s3cret"
NAMES = {
    "hooks.example.com": "8.8.8.8",
    "inside.example.com": "10.0.0.7",
    "metadata.example.com": "169.254.169.254",
    "mixed.example.com": "8.8.8.8 127.0.0.1",
    "airflow.internal": "10.0.0.8",
}
_getaddrinfo = socket.getaddrinfo


def look_up(host: str, port: int, **how: Any) -> Sequence[Any]:
    """Answer as a name server that knows a few names, and as the system for what is a number."""
    if host in NAMES:
        return [(0, 0, 0, "", (address, port)) for address in NAMES[host].split()]
    if host.replace(".", "").isalpha() and host != "localhost":
        raise socket.gaierror
    return _getaddrinfo(host, port, **how)


@pytest.fixture
def client(sessions: sessionmaker[Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    settings = Settings(secret_key=SecretStr("k" * 40), webhook_allow="airflow.internal:8080")
    with client_of(registry_router, router, sessions=sessions, settings=settings) as client:
        yield client


def put(client: TestClient, name: str = "ci", **content: Any) -> Any:
    return client.put(f"/v1/webhooks/{name}", json={"url": URL, **content})


def test_a_made_secret_is_shown_once_and_no_token_ever(client: TestClient) -> None:
    made = put(client, headers={"Authorization": "Bearer s3cret"})
    assert made.status_code == 200
    document = made.json()
    secret = document.pop("secret")
    assert secret.startswith("whsec_")
    assert document["secret_ends"] == secret[-4:]
    assert document["url"] == "https://hooks.example.com/retrain?token=…"
    assert document["headers"] == ["Authorization"]
    assert document["events"] == ["retraining.requested"]
    found = client.get("/v1/webhooks/ci").json()
    assert found == {**document, "secret": None}
    assert client.get("/v1/webhooks").json() == {"webhooks": [found]}
    assert "s3cret" not in made.text
    again = put(client).json()
    assert (again["secret"], again["secret_ends"]) == (None, secret[-4:])
    assert again["rotating_until"] is None


def test_a_secret_is_replaced_by_another_or_by_a_new_one(client: TestClient) -> None:
    first = put(client, secret=SECRET).json()
    assert (first["secret"], first["secret_ends"]) == (None, SECRET[-4:])
    second = put(client, secret="generate").json()
    assert second["secret"] != SECRET
    assert second["rotating_until"] is not None
    assert put(client, secret=second["secret"]).json()["secret"] is None


@pytest.mark.parametrize(
    ("url", "code"),
    [
        # The ten classic ways in.
        ("https://127.0.0.1/", "forbidden-address"),
        ("https://localhost/", "forbidden-address"),
        ("https://2130706433/", "invalid-document"),
        ("https://0177.0.0.1/", "invalid-document"),
        ("https://127.1/", "invalid-document"),
        ("https://0.0.0.0/", "forbidden-address"),
        ("https://[::ffff:127.0.0.1]/", "forbidden-address"),
        ("https://[64:ff9b::a9fe:a9fe]/", "forbidden-address"),
        ("https://169.254.169.254/latest/meta-data/", "forbidden-address"),
        ("https://mixed.example.com/", "forbidden-address"),
        ("https://metadata.example.com/", "forbidden-address"),
        ("https://inside.example.com/", "forbidden-address"),
        ("http://hooks.example.com/", "forbidden-address"),
        ("https://hooks.example.com:22/", "forbidden-address"),
        ("http://airflow.internal:22/", "forbidden-address"),
        ("https://good.example@127.0.0.1/", "invalid-document"),
        ("https://hooks.example.com/\r\nHost: s3cret", "invalid-document"),
        ("file:///etc/passwd", "invalid-document"),
    ],
)
def test_an_address_of_the_inside_cannot_be_put(client: TestClient, url: str, code: str) -> None:
    answer = put(client, url=url)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert "s3cret" not in answer.text
    assert client.get("/v1/webhooks/ci").status_code == 404


def test_what_the_administrator_allows_can_be_put(client: TestClient) -> None:
    answer = put(
        client, url="http://airflow.internal:8080/api/v2/dags/x/dagRuns", preset="airflow3"
    )
    assert answer.status_code == 200
    # Its address is judged at each delivery.
    assert put(client, url="https://unknown.example.org/").status_code == 200


def test_without_a_key_no_webhook_is_kept(client: TestClient) -> None:
    application: Any = client.app
    application.state.settings = Settings()
    answer = put(client)
    assert (answer.status_code, answer.json()["code"]) == (409, "no-secret-key")
    assert "MODELWATCH_SECRET_KEY" in answer.json()["detail"]


def test_names_and_models_are_checked(client: TestClient) -> None:
    assert put(client, "No").json()["code"] == "bad-name"
    assert client.get("/v1/webhooks/No").json()["code"] == "unknown-webhook"
    client.put("/v1/models/loans", json={})
    assert put(client, models=["laons"]).status_code == 422
    assert "'loans'" in put(client, models=["laons"]).json()["detail"]
    assert put(client, models=["loans"]).status_code == 200


def test_there_is_an_end_to_their_number(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_WEBHOOKS", 2)
    assert [put(client, name).status_code for name in "abc"] == [200, 200, 409]
    assert put(client, "a").status_code == 200


def test_a_monitor_names_webhooks_that_there_are_and_keeps_them(client: TestClient) -> None:
    client.put("/v1/models/loans", json={})
    document = {"model": "loans", "retraining": {"webhooks": ["ci"]}}
    unknown = client.put("/v1/models/loans/monitor", json=document)
    assert (unknown.status_code, "retraining.webhooks" in unknown.text) == (422, True)
    put(client)
    stored = client.put("/v1/models/loans/monitor", json=document).json()
    assert stored["retraining"]["webhooks"] == ["ci"]
    assert client.delete("/v1/webhooks/ci").status_code == 409
    client.put("/v1/models/loans/monitor", json={"model": "loans"})
    assert client.delete("/v1/webhooks/ci").status_code == 204
    assert client.get("/v1/webhooks/ci").status_code == 404
    assert client.delete("/v1/webhooks/ci").status_code == 404


def test_who_sees_a_few_models_learns_of_no_webhook(client: TestClient, sessions: Sessions) -> None:
    client.put("/v1/models/loans", json={})
    put(client)

    def name(*webhooks: str) -> str:
        document = MonitorDocument(model="loans", retraining={"webhooks": webhooks})
        try:
            with only(frozenset({"loans"})), sessions.begin() as session:
                put_monitor(session, "loans", document)
        except InvalidDocumentError as error:
            return error.detail
        return ""

    there, near, nowhere = name("ci"), name("cii"), name("nowhere")
    assert there == near == nowhere != ""
    document = {"model": "loans", "retraining": {"webhooks": ["ci"]}}
    assert client.put("/v1/models/loans/monitor", json=document).status_code == 200
    # What a key of the whole service has put there may stay there, or go.
    assert name("ci") == name() == ""
    assert name("ci") == there


def test_deliveries_are_listed_by_pages_and_replayed(
    client: TestClient, sessions: Sessions
) -> None:
    add_webhook(sessions, "ci")
    for number in range(5):
        tell(sessions, number)
    first = client.get("/v1/webhooks/ci/deliveries", params={"limit": 3}).json()
    second = client.get(
        "/v1/webhooks/ci/deliveries", params={"limit": 3, "cursor": first["next"]}
    ).json()
    found = first["deliveries"] + second["deliveries"]
    assert [each["event_id"] for each in found] == [f"event-{n}" for n in (4, 3, 2, 1, 0)]
    assert second["next"] is None
    assert found[0]["state"] == "pending"
    assert found[0]["next_attempt_at"] is not None
    path = f"/v1/webhooks/ci/deliveries/{found[0]['id']}/replay"
    replayed = client.post(path)
    assert replayed.status_code == 202
    assert replayed.json()["replayed_at"] is not None
    for wrong in ("0", str(2**63 - 1), str(2**64), "-1"):
        answer = client.post(f"/v1/webhooks/ci/deliveries/{wrong}/replay")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown-delivery")
    put(client, "other")
    assert client.post(path.replace("/ci/", "/other/")).status_code == 404


def test_what_is_changed_is_logged_without_its_secrets(
    client: TestClient, sessions: Sessions
) -> None:
    put(client, secret=SECRET, headers={"Authorization": "s3cret"})
    delivery = client.post("/v1/webhooks/ci/test").json()
    client.post(f"/v1/webhooks/ci/deliveries/{delivery['id']}/replay")
    client.delete("/v1/webhooks/ci")
    with sessions() as session:
        log = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    assert [entry.action for entry in log] == [
        *("webhook.put", "webhook.test", "webhook.replay", "webhook.delete"),
    ]
    assert {entry.subject for entry in log} == {"webhook:ci"}
    assert not any("s3cret" in entry.details or SECRET in entry.details for entry in log)


def test_a_webhook_can_be_tried(client: TestClient) -> None:
    put(client, events=["incident.opened"])
    answer = client.post("/v1/webhooks/ci/test")
    assert answer.status_code == 202
    assert answer.json()["type"] == "dev.modelwatch.ping.v1"
    assert client.get("/v1/webhooks/ci/deliveries").json()["deliveries"] == [answer.json()]
    assert client.post("/v1/webhooks/gone/test").status_code == 404
