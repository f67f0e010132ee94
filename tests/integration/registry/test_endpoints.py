from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from service.db.engine import make_engine, make_sessions
from service.registry.documents import read
from service.registry.repository import find_version, live_versions
from service.registry.schemas import VersionDocument
from service.registry.service import put_version
from tests.clients import TestClient

INCOME = {"name": "income", "kind": "numeric", "importance": 0.31, "min": 0}
REGION = {"name": "region", "kind": "categorical"}
EMPLOYED = {"name": "employed", "kind": "boolean"}


@pytest.fixture(autouse=True)
def loans(client: TestClient) -> None:
    assert client.put("/v1/models/loans", json={"owner": "risk"}).status_code == 200


def put(client: TestClient, version: str = "7", **document: Any) -> dict[str, Any]:
    answer = client.put(f"/v1/models/loans/versions/{version}", json=document)
    return {"status": answer.status_code, **answer.json()}


def slots(sessions: sessionmaker[Session], version: str) -> dict[str, str]:
    with sessions() as session:
        return {f.name: f.slot for f in find_version(session, "loans", version).features}


def test_a_model_is_registered_and_changed_in_place(client: TestClient) -> None:
    client.put("/v1/models/loans", json={"task": "binary", "description": "repaid?"})
    stored = client.get("/v1/models/loans").json()
    assert (stored["model"], stored["owner"], stored["description"]) == ("loans", "", "repaid?")
    assert [each["model"] for each in client.get("/v1/models").json()["models"]] == ["loans"]


def test_a_version_is_stored_with_its_schema(client: TestClient) -> None:
    put(client, features=[INCOME, REGION], classes=["yes", "no"], positive_class="yes")
    stored = client.get("/v1/models/loans/versions/7").json()
    assert stored["features"][0] == {
        **INCOME,
        "min": 0.0,
        "max": None,
        "length": None,
        "pii": "keep",
    }
    assert (stored["classes"], stored["positive_class"]) == (["no", "yes"], "yes")
    assert not stored["inferred"]


def test_a_later_version_reuses_slots_and_takes_the_next_for_a_new_feature(
    client: TestClient, sessions: sessionmaker[Session]
) -> None:
    put(client, "7", features=[INCOME, REGION])
    put(client, "8", features=[EMPLOYED, REGION, INCOME])
    assert slots(sessions, "7") == {"income": "n1", "region": "c1"}
    assert slots(sessions, "8") == {"employed": "n2", "region": "c1", "income": "n1"}


def test_a_version_takes_features_more_but_no_other_kinds(client: TestClient) -> None:
    put(client, features=[INCOME])
    answer = put(client, features=[REGION])
    assert [feature["name"] for feature in answer["features"]] == ["income", "region"]
    answer = put(client, features=[{"name": "income", "kind": "categorical"}])
    assert (answer["status"], answer["code"]) == (409, "conflict")


def test_the_classes_of_a_version_do_not_change(client: TestClient) -> None:
    put(client, classes=[0, 1])
    assert put(client, classes=["0", "1"])["status"] == 200
    assert put(client, classes=["0", "1"], positive_class="0")["status"] == 409


def test_concurrent_registrations_never_share_a_slot(
    client: TestClient, sessions: sessionmaker[Session]
) -> None:
    def register(number: int) -> None:
        features = [{"name": f"f{number}_{i}", "kind": "numeric"} for i in range(5)]
        document = read(VersionDocument, {"features": features})
        with sessions.begin() as session:
            put_version(session, "loans", f"v{number}", document)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(register, range(4)))
    given = [slot for number in range(4) for slot in slots(sessions, f"v{number}").values()]
    assert len(set(given)) == 20


def test_retired_versions_are_no_longer_watched(
    client: TestClient, sessions: sessionmaker[Session]
) -> None:
    put(client, "6", stage="retired")
    put(client, "7")
    put(client, "8", stage="shadow")
    with sessions() as session:
        assert [version.version for version in live_versions(session)] == ["7", "8"]


def test_the_view_bears_real_names_and_the_newest_label(
    client: TestClient, engine: Engine, sessions: sessionmaker[Session]
) -> None:
    odd = {"name": 'say "100%": :x', "kind": "numeric"}
    clash = {"name": "received_at", "kind": "categorical"}
    put(client, features=[EMPLOYED, odd])
    put(client, features=[clash, {"name": "n" * 100, "kind": "numeric"}])
    with sessions() as session:
        version = find_version(session, "loans", "7")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE p1 PARTITION OF prediction DEFAULT"))
        values = {"m": version.model_id, "v": version.version_id}
        connection.execute(
            text(
                "INSERT INTO prediction (model_id, version_id, prediction_id, ts, n1, n2, c1)"
                " VALUES (:m, :v, 'a', '2026-01-01', 1, 2.5, 'x'),"
                " (:m, :v + 1, 'b', '2026-01-01', 0, 0, '')"
            ),
            values,
        )
        connection.execute(
            text(
                "INSERT INTO label (model_id, prediction_id, label_ts, label) VALUES"
                " (:m, 'a', '2026-02-01', '0'), (:m, 'a', '2026-03-01', '1')"
            ),
            values,
        )
        rows = connection.execute(text('SELECT * FROM logs."loans@7"')).mappings().all()
    assert len(rows) == 1
    assert rows[0]["label"] == "1"
    assert rows[0]["employed"] is True
    assert rows[0][odd["name"]] == 2.5
    assert rows[0]["received_at~2"] == "x"
    assert "n" * 63 in rows[0]


def test_views_of_long_names_do_not_collide(client: TestClient) -> None:
    first = put(client, "a" * 62 + "1")
    second = put(client, "a" * 62 + "2")
    assert first["view"] != second["view"]


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"features": [{"name": "ts", "kind": "numeric"}]}, "invalid-document"),
        ({"features": [{"name": "tags.web", "kind": "numeric"}]}, "invalid-document"),
        ({"features": [{"name": "a\u0000", "kind": "numeric"}]}, "invalid-document"),
        ({"features": [{"name": "", "kind": "numeric"}]}, "invalid-document"),
        ({"features": [{"name": "a" * 201, "kind": "numeric"}]}, "invalid-document"),
        ({"features": [INCOME, INCOME]}, "invalid-document"),
        ({"features": [{**REGION, "min": 0}]}, "invalid-document"),
        ({"features": [{**INCOME, "max": -1}]}, "invalid-document"),
        ({"features": [{"name": "a", "kind": "embedding"}]}, "invalid-document"),
        ({"features": [{"name": "a", "kind": "numeric", "pii": "hash"}]}, "invalid-document"),
        ({"features": [{**REGION, "pii": "hash"}]}, "pii-key-needed"),
        ({"tags": {"email": "hash"}}, "pii-key-needed"),
        ({"classes": ["a", "b"]}, "invalid-document"),
        ({"classes": ["a", "b"], "positive_class": "c"}, "invalid-document"),
        ({"classes": ["a", "a"]}, "invalid-document"),
        ({"positive_class": "1"}, "invalid-document"),
        ({"features": [{"name": f"f{i}", "kind": "numeric"} for i in range(257)]},
         "too-many-features"),
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_is_refused(
    client: TestClient, document: dict[str, Any], code: str
) -> None:
    answer = put(client, **document)
    assert (answer["status"], answer["code"]) == (422, code)
    assert client.get("/v1/models/loans/versions/7").status_code == 404


def test_an_unknown_task_is_refused(client: TestClient) -> None:
    answer = client.put("/v1/models/prices", json={"task": "ranking"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-document")


@pytest.mark.parametrize("name", ["Loans", "-x", "a b", "a" * 64, "a%00", "\u0440red"])
def test_a_bad_name_is_refused_when_put_and_unknown_when_read(
    client: TestClient, name: str
) -> None:
    assert client.put(f"/v1/models/{name}", json={}).json()["code"] == "bad-name"
    assert client.get(f"/v1/models/{name}").json()["code"] == "unknown-model"
    assert client.get(f"/v1/models/loans/versions/{name}").json()["code"] == "unknown-version"


def test_a_monitor_has_a_revision_that_only_changes_raise(client: TestClient) -> None:
    url = "/v1/models/loans/monitor"
    assert client.get(url).json()["revision"] == 0
    assert client.put(url, json={"window": "1w"}).json()["revision"] == 1
    assert client.put(url, json={"model": "loans", "window": "1w"}).json()["revision"] == 1
    yaml = "model: loans\nwindow: 1w\nevery: 1d\n"
    answer = client.put(url, content=yaml, headers={"content-type": "application/yaml"})
    assert (answer.json()["revision"], answer.json()["every"]) == (2, "1d")
    assert client.get(url).json() == answer.json()


def test_the_document_that_a_window_was_judged_by_can_be_read_when_another_is_in_force(
    client: TestClient,
) -> None:
    url = "/v1/models/loans/monitor"
    put = [client.put(url, json={"min_rows": rows}).json() for rows in (50, 60)]
    assert [client.get(url, params={"revision": n}).json() for n in (1, 2)] == put
    default = client.get(url, params={"revision": 0}).json()
    assert (default["revision"], default["min_rows"]) == (0, 100)
    missing = client.get(url, params={"revision": 3})
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown-revision")


def test_an_edited_monitor_can_be_put_back_unless_another_came_between(
    client: TestClient,
) -> None:
    url = "/v1/models/loans/monitor"
    seen = client.put(url, json={}).json()
    assert client.put(url, json={**seen, "min_rows": 50}).json()["revision"] == 2
    assert client.put(url, json={**seen, "min_rows": 60}).status_code == 409


def test_a_monitor_of_another_model_is_refused(client: TestClient) -> None:
    assert client.put("/v1/models/loans/monitor", json={"model": "cars"}).status_code == 422
    assert client.put("/v1/models/cars/monitor", json={}).json()["code"] == "unknown-model"


@pytest.mark.parametrize(
    ("body", "media", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed-json"),
        (b'{"min_rows": NaN}', "application/json", 400, "malformed-json"),
        (b"a: [", "application/yaml", 400, "malformed-yaml"),
        (b"a: \xff", "application/yaml", 400, "malformed-yaml"),
        (b"[" * 100_000, "application/yaml", 400, "malformed-yaml"),
        (b"at: 2026-99-99", "application/yaml", 400, "malformed-yaml"),
        (b"{}", "text/plain", 415, "unsupported-type"),
        (b"{}", "application/json; charset=latin-1", 415, "unsupported-type"),
        (b" " * (1 << 21), "application/json", 413, "too-large"),
        (b" " * (1 << 18), "application/yaml", 413, "too-large"),
        (b"!!python/object/apply:os.system [ls]", "application/yaml", 400, "malformed-yaml"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_by_name(
    client: TestClient, body: bytes, media: str, status: int, code: str
) -> None:
    answer = client.put("/v1/models/loans/monitor", content=body, headers={"content-type": media})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_database_that_is_away_is_said_to_be(client: TestClient, engine: Engine) -> None:
    away = make_engine("postgresql://nobody@/none?host=/nowhere")
    application: Any = client.app
    application.state.sessions = make_sessions(away)
    answer = client.get("/v1/models")
    assert (answer.status_code, answer.json()["code"]) == (503, "database-away")
    assert answer.headers["retry-after"] == "2"
