"""What the entries of the audit log say beside who did what: what was there, and what is now."""

from typing import Any

from service.access.audit import change
from tests.clients import TestClient


def details(client: TestClient, action: str) -> list[Any]:
    """Return what the entries say, oldest first."""
    entries = client.get("/v1/audit").json()["entries"]
    return [entry["details"] for entry in entries if entry["action"] == action][::-1]


def put(client: TestClient, path: str, **document: Any) -> None:
    answer = client.put(f"/v1/models/{path}", json=document)
    assert answer.status_code == 200, answer.text


def test_of_what_is_new_there_is_nothing_before() -> None:
    assert change(None, {"a": 1}) == {"before": None, "after": {"a": 1}}


def test_what_stays_is_left_out() -> None:
    found = change({"a": 1, "b": 2}, {"a": 1, "b": 3})
    assert found == {"before": {"b": 2}, "after": {"b": 3}}


def test_a_model_that_changes_hands_says_whose_it_was(client: TestClient) -> None:
    put(client, "loans", task="binary", owner="risk")
    put(client, "loans", task="binary", owner="sales")
    new, changed = details(client, "model.put")
    assert (new["before"], new["after"]["task"], new["after"]["owner"]) == (None, "binary", "risk")
    assert changed == {"before": {"owner": "risk"}, "after": {"owner": "sales"}}


def test_a_version_says_its_stage_and_its_policies(client: TestClient) -> None:
    put(client, "loans", task="binary")
    features = [{"name": "age", "kind": "numeric"}, {"name": "iban", "kind": "categorical"}]
    features[1]["pii"] = "drop"
    put(client, "loans/versions/7", classes=["0", "1"], positive_class="1", features=features)
    put(client, "loans/versions/7", stage="retired")
    new, retired = details(client, "version.put")
    assert new["before"] is None
    assert new["after"] == {
        "stage": "live",
        "features": 2,
        "classes": 2,
        "positive_class": "1",
        "pii": {"iban": "drop"},
    }
    assert retired == {"before": {"stage": "live"}, "after": {"stage": "retired"}}


def test_an_evaluation_says_what_was_asked_for(client: TestClient) -> None:
    put(client, "loans", task="binary")
    asked = {"until": "2026-12-01T00:00:00Z", "alert": False}
    assert client.post("/v1/models/loans/evaluate", json=asked).status_code == 202
    (said,) = details(client, "evaluation.ask")
    assert said["alert"] is False
    assert said["from"] is None
    assert said["until"].startswith("2026-12-01")
