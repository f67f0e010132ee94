"""What is hashed or dropped is nowhere: in no table, no answer and no log."""

import io
import json
import logging
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.errors import ModelwatchSetupError
from service.processes.keys import own_key, refuse_other_key
from service.settings import Settings
from tests.conftest import RUN_DIRECTORY
from tests.integration.privacy.conftest import KEY, PSEUDONYMS, Serve
from tests.integration.sweep import traces

EMAIL, IBAN, DEVICE, ADDRESS, SUBJECT = PLANTED = (
    *("ann.planted@example.org", "DE44500105175407324931", "device-planted-5"),
    *("10.231.47.99", "customer-planted-17"),
)
VERSION = {
    "features": [
        {"name": "income", "kind": "numeric"},
        {"name": "email", "kind": "categorical", "pii": "hash"},
        {"name": "iban", "kind": "categorical", "pii": "drop"},
    ],
    "classes": ["0", "1"],
    "positive_class": "1",
    "tags": {"device": "hash", "ip": "drop", "channel": "keep"},
}
MEDIA = {"Content-Type": "application/vnd.apache.parquet"}


def a_record(prediction_id: str = "a", **overrides: Any) -> dict[str, Any]:
    return {
        "prediction_id": prediction_id,
        "ts": "2026-01-02T03:04:05Z",
        "features": {"income": 41000, "email": EMAIL, "iban": IBAN},
        "prediction": "1",
        "score": 0.83,
        "tags": {"device": DEVICE, "ip": ADDRESS, "channel": "web"},
        "subject": SUBJECT,
        **overrides,
    }


def post(client: httpx.Client, *records: dict[str, Any]) -> httpx.Response:
    body = {"model": "loans", "version": "7", "records": list(records)}
    return client.post("/v1/predictions", json=body)


def register(client: httpx.Client) -> None:
    assert client.put("/v1/models/loans", json={}).is_success
    answer = client.put("/v1/models/loans/versions/7", json=VERSION)
    assert answer.is_success, answer.text


def put_reference(client: httpx.Client) -> httpx.Response:
    rows = 200
    columns = {
        "income": [float(n) for n in range(rows)],
        "email": [EMAIL, "other@example.org"] * (rows // 2),
        "iban": [IBAN] * rows,
        "tags.device": [DEVICE] * rows,
        "tags.ip": [ADDRESS] * rows,
        "subject": [SUBJECT] * rows,
        "score": [n / rows for n in range(rows)],
        "prediction": [n % 2 for n in range(rows)],
        "label": [n % 2 for n in range(rows)],
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    url = "/v1/models/loans/versions/7/reference"
    return client.put(url, content=buffer.getvalue(), headers=MEDIA)


def test_nothing_personal_is_stored_answered_or_logged(
    serve: Serve,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
    pytestconfig: pytest.Config,
) -> None:
    caplog.set_level(logging.DEBUG)
    client = serve()
    register(client)
    answers = [put_reference(client)]
    assert answers[0].is_success, answers[0].text
    # Stored, repeated, in conflict, refused for one field of many, and by the database alone.
    wrong = {**a_record("c")["features"], "income": EMAIL, "iban": {"a": [IBAN]}}
    records = (
        a_record(),
        a_record(),
        a_record(score=0.5),
        a_record("b", weight=IBAN),
        a_record("c", features=wrong),
        a_record("d", features={"surname": IBAN}),
    )
    answers += [post(client, record, a_record("e")) for record in records]
    answers.append(post(client, a_record(EMAIL * 20), a_record("f")))
    answers += [client.get(f"/v1/models/loans/predictions/{name}") for name in ("a", "c", "e")]
    answers.append(client.get("/v1/models/loans/versions/7"))
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert traces(database_url, *PLANTED) == []
    text = "".join(answer.text for answer in answers) + caplog.text
    text += "".join(
        file.read_text() for file in pytestconfig.stash[RUN_DIRECTORY].glob("**/*.log*")
    )
    assert not [value for value in PLANTED if value in text]
    logged = client.get("/v1/models/loans/predictions/c").json()["predictions"][0]
    assert logged["features"] == {"income": None, "email": PSEUDONYMS.of("email", EMAIL)}
    assert logged["tags"] == {"device": PSEUDONYMS.of("tags.device", DEVICE), "channel": "web"}
    assert logged["subject"] == PSEUDONYMS.of("subject", SUBJECT)


def test_a_reference_hashes_as_ingest_does_and_a_dropped_feature_is_not_missing(
    serve: Serve, database_url: str
) -> None:
    client = serve()
    register(client)
    stored = put_reference(client).json()
    assert [own["code"] for own in stored["warnings"] if own.get("column") == "iban"] == []
    post(client, a_record())
    places = {place for place, _ in traces(database_url, PSEUDONYMS.of("email", EMAIL))}
    assert {"binning.content", "reference.sample"} <= places
    assert any(place.startswith("prediction_m") for place in places)


def test_the_policy_of_a_feature_or_tag_stays_what_it_was(serve: Serve) -> None:
    client = serve()
    register(client)
    url = "/v1/models/loans/versions/7"
    plain = {"name": "email", "kind": "categorical", "importance": 2}
    answer = client.put(url, json={"features": [plain]})
    (email,) = [own for own in answer.json()["features"] if own["name"] == "email"]
    assert (email["pii"], email["importance"]) == ("hash", 2)
    for document in (
        {"features": [{**plain, "pii": "keep"}]},
        {"features": [{"name": "income", "kind": "numeric", "pii": "drop"}]},
        {"tags": {"ip": "keep"}},
    ):
        answer = client.put(url, json=document)
        assert (answer.status_code, answer.json()["code"]) == (409, "policy-changed")
    assert client.put(url, json=VERSION).is_success


def test_no_process_stores_anything_without_the_key_or_with_another(
    serve: Serve, database_url: str
) -> None:
    register(serve())
    for key, code in ((None, "pii-key-missing"), ("a key of somebody else", "pii-key-wrong")):
        other = serve(key)
        for answer in (
            post(other, a_record()),
            put_reference(other),
            other.put("/v1/models/loans/versions/8", json={}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, code)
        settings = Settings.model_validate({"database_url": database_url, "pii_key": key})
        with pytest.raises(ModelwatchSetupError, match="MODELWATCH_PII_KEY"):
            refuse_other_key(settings, database_url)
    refuse_other_key(
        Settings.model_validate({"database_url": database_url, "pii_key": KEY}), database_url
    )
    in_settings = [("audit.details", "device"), ("version.tag_policies", "device")]
    assert traces(database_url, "device") == in_settings


def test_a_key_is_made_once_and_read_by_nobody_else(tmp_path: Any) -> None:
    made = own_key(tmp_path / "new", "pii.key")
    assert own_key(tmp_path / "new", "pii.key") == made != own_key(tmp_path / "other", "pii.key")
    assert (tmp_path / "new" / "pii.key").stat().st_mode & 0o077 == 0
    assert KEY not in json.dumps(Settings.model_validate({"pii_key": KEY}).model_dump(mode="json"))
