import httpx
import pytest

from modelwatch import LostRecordsError, Monitor


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
    assert monitor.flush(20)
    monitor.label(made, 1)
    assert monitor.flush(20)
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
        assert monitor.flush(20)
    assert monitor.stats()["accepted"] == 100
    assert monitor.stats()["duplicates"] == 100


def test_a_model_that_is_not_registered_costs_its_rows_only(api: str) -> None:
    monitor = Monitor("nobody", "1", url=api, interval=0.01)
    monitor.log({"x": 1}, 0)
    with pytest.raises(LostRecordsError, match=r"1 record was refused: unknown-model \(1\)"):
        monitor.flush(20)
    assert monitor.stats()["rejected"] == 1


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
    assert cards.flush(20)
    assert prices.flush(20)
    found = client.get(f"/v1/models/cards/predictions/{card}").json()["predictions"][0]
    assert (found["prediction"], found["scores"]) == ("b", scores)
    logged = client.get(f"/v1/models/prices/predictions/{price}").json()
    assert (logged["predictions"][0]["prediction"], logged["label"]) == (12.5, 13)
