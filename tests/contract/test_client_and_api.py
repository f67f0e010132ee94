"""The wire between the client and the service: each field, each refusal and each status."""

import inspect
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
from pydantic import SecretStr

import modelwatch.sender
from modelwatch import LostRecordsError, Monitor
from service.access.grants import Scope
from service.access.service import Wish
from service.ingest.examine import LABEL_FIELDS, PREDICTION_FIELDS
from service.ingest.verdicts import Code
from service.processes.api import create_app
from service.settings import Settings
from tests.contract.conftest import served
from tests.contract.scripted import until
from tests.system.harness import a_key


def register(client: httpx.Client) -> None:
    assert client.put("/v1/models/loans", json={"task": "binary"}).status_code == 200
    version = {
        "features": [
            {"name": "income", "kind": "numeric"},
            {"name": "region", "kind": "categorical"},
            {"name": "employed", "kind": "boolean"},
        ],
        "classes": ["0", "1"],
        "positive_class": "1",
    }
    assert client.put("/v1/models/loans/versions/7", json=version).status_code == 200


def test_a_logged_prediction_and_its_label_are_read_back(api: str, client: httpx.Client) -> None:
    register(client)
    monitor = Monitor("loans", "7", url=api, interval=0.01)
    made = monitor.log(
        {"income": 41_000.0, "region": "north", "employed": True},
        1,
        score=0.83,
        tags={"channel": "web"},
        subject="customer-17",
    )
    assert monitor.flush(60)
    monitor.label(made, 1)
    assert monitor.flush(60)
    stats = monitor.stats()
    assert {name: count for name, count in stats.items() if count} == {
        "logged": 2,
        "sent": 2,
        "accepted": 2,
    }
    logged = client.get(f"/v1/models/loans/predictions/{made}").json()
    assert logged["label"] == "1"
    row = logged["predictions"][0]
    assert row["features"] == {"income": 41_000.0, "region": "north", "employed": True}
    assert (row["prediction"], row["score"]) == ("1", 0.83)


def test_a_batch_that_is_sent_twice_is_counted_as_duplicates(
    api: str, client: httpx.Client
) -> None:
    register(client)
    monitor = Monitor("loans", "7", url=api, interval=0.01)
    for _ in range(2):
        for row in range(100):
            monitor.log({"income": row}, row % 2, prediction_id=f"p{row}", ts=1_700_000_000 + row)
        assert monitor.flush(60)
    assert monitor.stats()["accepted"] == 100
    assert monitor.stats()["duplicates"] == 100


def test_the_reasons_of_the_server_reach_the_host_as_codes_with_counts(
    api: str, client: httpx.Client
) -> None:
    register(client)
    monitor = Monitor("loans", "7", url=api, interval=0.01)
    monitor.log({"income": 1.0}, 0)
    monitor.log({"incme": 1.0}, 0)
    monitor.log({"incme": 2.0}, 0)
    monitor.log({"income": 1.0}, 0, score=7.0)
    with pytest.raises(LostRecordsError) as raised:
        monitor.flush(20)
    assert raised.value.counts == {"rejected": 3}
    assert "unknown-feature (2), bad-score (1)" in str(raised.value)


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"])
def test_every_plain_address_answers(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


def test_the_page_of_routes_lists_them_and_loads_nothing(client: httpx.Client) -> None:
    page = client.get("/docs")
    for route in ("/v1/predictions", "/v1/labels", "/v1/retraining-requests"):
        assert route in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "http://" not in page.text.replace("http://127.0.0.1", "")
    assert "https://" not in page.text


def test_requests_are_timed_by_route_and_not_by_path(client: httpx.Client) -> None:
    client.get("/v1/models/some-name-that-is-in-no-metric")
    exposition = client.get("/metrics").text
    assert 'route="/v1/models/{model}"' in exposition
    assert "some-name-that-is-in-no-metric" not in exposition


def test_scores_of_many_classes_and_numbers_are_read_back(api: str, client: httpx.Client) -> None:
    assert client.put("/v1/models/cards", json={"task": "multiclass"}).status_code == 200
    assert client.put("/v1/models/prices", json={"task": "regression"}).status_code == 200
    document = {"classes": ["c", "a", "b"], "features": []}
    assert client.put("/v1/models/cards/versions/1", json=document).status_code == 200
    assert client.put("/v1/models/prices/versions/1", json={"features": []}).status_code == 200
    cards = Monitor("cards", "1", url=api, interval=0.01)
    prices = Monitor("prices", "1", url=api, interval=0.01)
    scores = {"a": 0.2, "b": 0.7, "c": 0.1}
    card, price = cards.log({}, "b", scores=scores), prices.log({}, 12.5)
    prices.label(price, 13)
    assert cards.flush(60)
    assert prices.flush(60)
    found = client.get(f"/v1/models/cards/predictions/{card}").json()["predictions"][0]
    assert (found["prediction"], found["scores"]) == ("b", scores)
    logged = client.get(f"/v1/models/prices/predictions/{price}").json()
    assert (logged["predictions"][0]["prediction"], logged["label"]) == (12.5, 13)


def test_every_field_of_the_interface_is_logged_and_read_back(
    api: str, client: httpx.Client
) -> None:
    register(client)
    version = {
        "features": [
            {"name": "income", "kind": "numeric"},
            {"name": "region", "kind": "categorical"},
            {"name": "employed", "kind": "boolean"},
            {"name": "since", "kind": "datetime"},
            {"name": "vector", "kind": "embedding", "length": 2},
        ],
        "classes": ["0", "1"],
        "positive_class": "1",
        "attributions": True,
    }
    assert client.put("/v1/models/loans/versions/8", json=version).status_code == 200
    at = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
    monitor = Monitor("loans", "8", url=api, interval=0.01)
    said: dict[str, Any] = {
        "prediction_id": "application-17",
        "score": np.float32(0.25),
        "ts": at,
        "weight": 2.0,
        "tags": {"channel": "web"},
        "subject": "customer-17",
        "attributions": {"income": 0.5, "region": -0.25},
    }
    features = {
        "income": np.int64(41_000), "region": "север", "employed": np.bool_(True),
        "since": at, "vector": np.array([0.5, 1.5], np.float32),
    }  # fmt: skip
    monitor.log(features, 1, **said)
    monitor.label("application-17", True, label_ts=at)
    assert monitor.flush(60)
    document = client.get("/v1/models/loans/predictions/application-17").json()
    (row,) = document["predictions"]
    (label,) = document["labels"]
    assert row.pop("received_at")
    assert label.pop("received_at")
    assert label == {"label": "1", "label_ts": "2026-11-20T10:30:00Z"}
    assert row == {
        "prediction_id": "application-17",
        "version": "8",
        "ts": "2026-11-20T10:30:00Z",
        "prediction": "1",
        "score": 0.25,
        "scores": None,
        "weight": 2.0,
        "subject": "customer-17",
        "tags": {"channel": "web"},
        "features": {
            "income": 41_000.0, "region": "север", "employed": True,
            "since": "2026-11-20T10:30:00Z", "vector": [0.5, 1.5],
        },
        "attributions": {"income": 0.5, "region": -0.25, "employed": None,
                         "since": None, "vector": None},
    }  # fmt: skip
    # Whatever the interface takes, the client can say: what it cannot is the envelope's.
    sent = {
        *inspect.signature(Monitor.log).parameters,
        *inspect.signature(Monitor.label).parameters,
    }
    assert (sent - {"self", "durable"}) | {"model", "version"} == PREDICTION_FIELDS | LABEL_FIELDS


def log(given: dict[str, Any], **options: Any) -> Callable[[Monitor], Any]:
    return lambda monitor: monitor.log(given, options.pop("prediction", 0), **options)


def nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


def logged_twice(monitor: Monitor) -> None:
    monitor.log({"income": 1.0}, 0, prediction_id="twice")
    monitor.log({"income": 2.0}, 0, prediction_id="twice")


def labelled_twice(monitor: Monitor) -> None:
    monitor.label("twice", 0, label_ts=1e9)
    monitor.label("twice", 1, label_ts=1e9)


YEAR = 366 * 86_400
REFUSED: dict[Code, Callable[[Monitor], Any]] = {
    Code.BAD_LABEL: lambda monitor: monitor.label("id", [1]),
    Code.BAD_PREDICTION: log({}, prediction=[1]),
    Code.BAD_PREDICTION_ID: log({}, prediction_id="x" * 200),
    Code.BAD_SCORE: log({}, score=1.5),
    Code.BAD_SUBJECT: log({}, subject=7),
    Code.BAD_TAGS: log({}, tags={"a": 7}),
    Code.BAD_WEIGHT: log({}, weight=-1),
    Code.CONFLICTING_DUPLICATE: logged_twice,
    Code.CONFLICTING_LABEL: labelled_twice,
    Code.CONTROL_CHARACTER: log({"region": "a\x00b"}),
    Code.MALFORMED_JSON: log({"income": 10**400}),
    Code.MISSING_FIELD: lambda monitor: monitor.log({}, None),
    Code.NUMBER_OUT_OF_RANGE: log({"income": 1 << 63}),
    Code.STRING_TOO_LONG: log({"region": "x" * 10_000}),
    Code.TIMESTAMP_IN_FUTURE: lambda monitor: monitor.log({}, 0, ts=time.time() + 3_600),
    Code.TIMESTAMP_TOO_OLD: log({}, ts=0.0),
    Code.TOO_DEEP: log({"income": nested(20)}),
    Code.TOO_MANY_FEATURES: log({f"f{i}": 1 for i in range(321)}),
    Code.UNKNOWN_CLASS: log({}, prediction="7"),
    Code.UNKNOWN_FEATURE: log({"incme": 1.0}),
}
OTHERS = {
    # The client makes the shape of a record, its names and its times.
    Code.BAD_FEATURES, Code.BAD_RECORD, Code.BAD_TIMESTAMP, Code.MODEL_MISMATCH,
    Code.TIMESTAMP_OUT_OF_RANGE, Code.TIMESTAMP_WITHOUT_ZONE, Code.TOO_MANY_VERSIONS,
    Code.UNKNOWN_FIELD,
    # Whole requests; and what only the service itself can bring about.
    Code.UNKNOWN_MODEL, Code.UNKNOWN_VERSION, Code.ERASED, Code.DATABASE_REFUSED,
}  # fmt: skip


def test_every_refusal_is_of_the_client_s_making_or_has_a_reason_why_not() -> None:
    assert set(REFUSED) | OTHERS == set(Code)
    assert not set(REFUSED) & OTHERS


def test_each_refusal_of_a_record_reaches_the_host_and_costs_that_record_only(
    api: str, client: httpx.Client
) -> None:
    register(client)
    for code, act in REFUSED.items():
        monitor = Monitor("loans", "7", url=api, interval=0.3)
        for row in range(3):
            monitor.log({"income": row}, 0)
        act(monitor)
        with pytest.raises(LostRecordsError) as raised:
            monitor.flush(60)
        assert f"1 record was refused: {code} (1)" in str(raised.value)
        stats = monitor.stats()
        assert stats["rejected"] == 1
        assert stats["accepted"] == stats["logged"] - 1 >= 3


@pytest.mark.parametrize("name", [("nobody", "1"), ("loans", "none")])
def test_a_version_that_is_not_registered_is_told_by_its_problem(
    api: str, client: httpx.Client, name: tuple[str, str]
) -> None:
    register(client)
    monitor = Monitor(*name, url=api, interval=0.01)
    monitor.log({}, 0)
    code = "unknown-model" if name[0] == "nobody" else "unknown-version"
    with pytest.raises(LostRecordsError, match=rf"1 record was refused: {code} \(1\)"):
        monitor.flush(20)


def test_batches_over_the_server_s_limits_are_halved(database_url: str) -> None:
    settings = Settings(
        database_url=SecretStr(database_url), secret_key=SecretStr("k" * 40),
        max_batch_rows=30, max_body_bytes=6_000, max_inflated_bytes=20_000,
    )  # fmt: skip
    with served(create_app(settings, keyless=True)) as url:
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            register(client)
        monitor = Monitor("loans", "7", url=url, interval=0.2)
        for row in range(200):
            monitor.log({"income": row, "region": f"{row}" * 200}, 0)
        assert monitor.flush(60)
    assert monitor.stats()["accepted"] == 200
    assert monitor.stats()["duplicates"] == 0


def a_served_key(database_url: str, **wish: Any) -> str:
    return a_key(database_url, Wish(**{"scopes": [Scope.INGEST], **wish}))


def told_of(url: str, caplog: pytest.LogCaptureFixture) -> str:
    """Return what was logged of this server: monitors of other tests complain of theirs."""
    address = url.removeprefix("http://")
    return "\n".join(line for line in caplog.messages if address in line)


def test_keys_that_do_not_open_pause_and_rates_that_are_spent_wait(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(modelwatch.sender, "LOCKED_OUT_DELAY", 0.1)
    monkeypatch.setattr(modelwatch.sender, "LONGEST_RETRY_AFTER", 0.1)
    settings = Settings(database_url=SecretStr(database_url), secret_key=SecretStr("k" * 40))
    admin = a_served_key(database_url, scopes=[Scope.ADMIN])
    keys = {
        401: "mw_none",
        403: a_served_key(database_url, scopes=[Scope.READ]),
        429: a_served_key(database_url, requests_per_minute=1),
        200: a_served_key(database_url),
    }
    with served(create_app(settings)) as url:
        headers = {"Authorization": f"Bearer {admin}"}
        with httpx.Client(base_url=url, trust_env=False, timeout=60, headers=headers) as client:
            register(client)
        said = {}
        for status, key in keys.items():
            caplog.clear()
            monitor = Monitor("loans", "7", url=url, interval=0.01, api_key=key)
            for _ in range(2):
                monitor.log({"income": 1.0}, 0)
                until(lambda: monitor.flush(0.1) or told_of(url, caplog))  # noqa: B023  awaited here
            said[status] = (monitor.stats()["accepted"], told_of(url, caplog))
    assert {status: count for status, (count, _) in said.items()} == {
        401: 0,
        403: 0,
        429: 1,
        200: 2,
    }
    assert "does not know the key" in said[401][1]
    assert "does not take predictions with this key" in said[403][1]
    assert "answers 429; records wait" in said[429][1]
    assert said[200][1] == ""


def test_a_database_that_is_away_costs_no_row_and_doubles_none(
    api: str, client: httpx.Client, database_url: str, cluster_url: str
) -> None:
    register(client)
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    monitor = Monitor("loans", "7", url=api, interval=0.01)
    monitor.log({"income": 0.0}, 0)
    assert monitor.flush(60)
    with psycopg.connect(cluster_url, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
            monitor.log({"income": 1.0}, 0)
            assert not monitor.flush(1)
            assert monitor.stats()["queued"] == 1
        finally:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert monitor.flush(60)
    stats = monitor.stats()
    assert (stats["accepted"], stats["duplicates"], stats["rejected"]) == (2, 0, 0)
    assert stats["retries"] > 0


def test_a_sample_is_weighed_by_the_server_as_the_whole(
    api: str, client: httpx.Client, database_url: str
) -> None:
    register(client)
    monitor = Monitor("loans", "7", url=api, interval=0.01, sample=0.25)
    for row in range(400):
        made = monitor.log({"income": row}, 0, prediction_id=f"row-{row}")
        monitor.label(made, 1)
    assert monitor.flush(60)
    kept = 400 - monitor.stats()["unsampled"]
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT count(*), sum(weight) FROM prediction").fetchone()
        labels = connection.execute("SELECT count(*) FROM label").fetchone()
    assert rows == (kept, 4.0 * kept)
    # Labels of rows that are not there wait a while, and harm nobody.
    assert labels == (400,)
