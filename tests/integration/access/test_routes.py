"""Keys and the audit log over HTTP, as ``modelwatch serve`` answers."""

import logging
from typing import Any

import httpx
import pytest

from service.access.tokens import new_token
from tests.clients import TestClient

RECORD = {"prediction_id": "a", "ts": "2026-01-02T03:04:05Z", "features": {}, "prediction": "1"}
BATCH = {"model": "loans", "version": "7", "records": [RECORD]}


def as_(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def make(client: TestClient, **wish: Any) -> dict[str, Any]:
    answer = client.post("/v1/keys", json=wish)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def register(client: TestClient, model: str = "loans") -> None:
    assert client.put(f"/v1/models/{model}", json={"task": "binary"}).status_code == 200
    document = {"classes": ["0", "1"], "features": []}
    assert client.put(f"/v1/models/{model}/versions/7", json=document).status_code == 200


def test_a_key_lives_from_its_creation_to_its_revocation(client: TestClient) -> None:
    made = make(client, scopes=["read"], name="a dashboard", expires_in_days=10)
    assert client.get("/v1/models", headers=as_(made["key"])).status_code == 200
    listed = {key["kid"]: key for key in client.get("/v1/keys").json()["keys"]}
    assert listed[made["kid"]] == {name: made[name] for name in listed[made["kid"]]} | {
        "last_used_at": listed[made["kid"]]["last_used_at"]
    }
    assert "key" not in listed[made["kid"]]
    revoked = client.delete(f"/v1/keys/{made['kid']}")
    assert revoked.json()["revoked_at"] is not None
    assert client.get("/v1/models", headers=as_(made["key"])).status_code == 401
    again = client.delete(f"/v1/keys/{made['kid']}").json()
    assert again["revoked_at"] == revoked.json()["revoked_at"]


def test_a_rotated_key_goes_on_for_the_grace_alone(client: TestClient) -> None:
    made = make(client, scopes=["read"], models=["loans"])
    url = f"/v1/keys/{made['kid']}/rotate"
    new = client.post(url, json={"grace_hours": 1}).json()
    for key in (made["key"], new["key"]):
        assert client.get("/v1/models", headers=as_(key)).status_code == 200
    assert (new["scopes"], new["models"]) == (["read"], ["loans"])
    assert client.post(url, json={}).status_code == 409
    at_once = client.post(f"/v1/keys/{new['kid']}/rotate", json={"grace_hours": 0}).json()
    assert client.get("/v1/models", headers=as_(new["key"])).status_code == 401
    assert client.get("/v1/models", headers=as_(at_once["key"])).status_code == 200


@pytest.mark.parametrize("kid", ["0123456789abcdef", "%00", "..%2f..", "x" * 3_000, "é"])
def test_a_key_that_does_not_exist_is_unknown(client: TestClient, kid: str) -> None:
    assert client.delete(f"/v1/keys/{kid}").status_code == 404
    assert client.post(f"/v1/keys/{kid}/rotate", json={}).status_code == 404


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"scopes": []},
        {"scopes": ["root"]},
        {"scopes": ["read"], "models": []},
        {"scopes": ["read"], "models": ["Not a name"]},
        {"scopes": ["read"], "expires_in_days": 0},
        {"scopes": ["read"], "rows_per_minute": -1},
        {"scopes": ["read"], "name": "a\x00b"},
        {"scopes": ["read"], "kid": "0123456789abcdef"},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(client: TestClient, wish: dict[str, Any]) -> None:
    assert client.post("/v1/keys", json=wish).status_code == 422


def test_a_key_that_is_bound_to_models_makes_no_keys(client: TestClient) -> None:
    bound = make(client, scopes=["admin"], models=["loans"])["key"]
    own = client.get("/v1/keys").json()["keys"][0]["kid"]
    for method, url in (
        ("GET", "/v1/keys"),
        ("POST", "/v1/keys"),
        ("POST", f"/v1/keys/{own}/rotate"),
        ("DELETE", f"/v1/keys/{own}"),
        ("GET", "/v1/audit"),
    ):
        answer = client.request(method, url, headers=as_(bound), json={"scopes": ["admin"]})
        assert answer.status_code == 403


def test_a_bound_key_may_register_its_model_and_no_other(client: TestClient) -> None:
    bound = as_(make(client, scopes=["admin"], models=["loans"])["key"])
    assert client.put("/v1/models/loans", json={}, headers=bound).status_code == 200
    assert client.put("/v1/models/cards", json={}, headers=bound).status_code == 404
    assert [m["model"] for m in client.get("/v1/models").json()["models"]] == ["loans"]


def test_records_of_another_model_are_unknown_in_an_envelope_and_in_lines(
    client: TestClient,
) -> None:
    register(client, "loans")
    register(client, "cards")
    key = as_(make(client, scopes=["ingest"], models=["loans"])["key"])
    stored = client.post("/v1/predictions", json=BATCH, headers=key)
    assert stored.json()["accepted"] == 1
    whole = client.post("/v1/predictions", json={**BATCH, "model": "cards"}, headers=key)
    assert (whole.status_code, whole.json()["code"]) == (404, "unknown-model")
    records = [
        {**RECORD, "prediction_id": f"{model}-b", "model": model, "version": "7"}
        for model in ("loans", "cards", "nobody")
    ]
    one_by_one = client.post("/v1/predictions", json={"records": records}, headers=key).json()
    assert one_by_one["accepted"] == 1
    # A model that is hidden and one that is not there are told alike.
    hidden, missing = one_by_one["rejected"]
    assert {**hidden, "index": 2, "prediction_id": missing["prediction_id"]} == missing
    label = {"prediction_id": "a", "label": 1, "label_ts": "2026-02-01T00:00:00Z"}
    labels = {"model": "cards", "records": [label]}
    assert client.post("/v1/labels", json=labels, headers=key).status_code == 404


def test_rows_over_the_limit_are_refused_before_they_are_read(client: TestClient) -> None:
    register(client)
    key = as_(make(client, scopes=["ingest"], rows_per_minute=2)["key"])
    records = [{**RECORD, "prediction_id": str(each)} for each in range(5)]
    large = {**BATCH, "records": records}
    assert client.post("/v1/predictions", json=large, headers=key).is_success
    refused = client.post("/v1/predictions", content=b"not even JSON", headers=key)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
    assert 60 <= int(refused.headers["Retry-After"]) <= 120


def test_the_log_says_who_did_what(client: TestClient, admin: str) -> None:
    register(client)
    made = make(client, scopes=["admin"])
    client.delete(f"/v1/keys/{made['kid']}")
    page = client.get("/v1/audit", params={"limit": 2}).json()
    assert [entry["action"] for entry in page["entries"]] == ["key.revoke", "key.create"]
    rest = client.get("/v1/audit", params={"cursor": page["next"]}).json()
    entries = page["entries"] + rest["entries"]
    assert [entry["id"] for entry in entries] == list(range(len(entries), 0, -1))
    assert {entry["actor"] for entry in entries} == {"cli", f"key:{admin.split('_')[2]}"}
    assert {entry["subject"] for entry in entries} >= {"model:loans", "version:loans@7"}
    verified = client.get("/v1/audit/verification").json()
    assert verified == {"entries": len(entries), "head": entries[0]["hash"], "broken_at": None}


def test_neither_answers_nor_logs_repeat_a_key(
    client: TestClient, admin: str, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = new_token("live").text
    with caplog.at_level(logging.DEBUG):
        answers = [
            client.get("/v1/models", headers=as_(key)) for key in (admin, stranger, admin[:-1])
        ]
        answers.append(client.get("/v1/models", headers={"Authorization": stranger}))
        answers.append(client.get(f"/v1/models/{'x' * 300}", headers=as_(admin)))
    for key in (admin, stranger):
        secret = key.rsplit("_", 1)[1][:20]
        assert secret not in caplog.text
        assert all(secret not in answer.text for answer in answers)
    assert {httpx.codes.OK, 401, 404} == {answer.status_code for answer in answers}


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/cloudevents/", "/metrics/", "/healthz/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nobody_is_led_from_https_to_http(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path, follow_redirects=False)
    assert answer.status_code == 404
    assert "location" not in answer.headers
