"""A deployed model whose server logs as KServe does, against the running service."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.system.harness import Service, eventually, running
from tests.system.kserve import Logger, inferences

REQUESTS = 1_000
FEATURES = [{"name": name, "kind": "numeric"} for name in ("sl", "sw", "pl", "pw")]


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with running(database_url, tmp_path, MODELWATCH_PENDING_TTL="PT2S") as made:
        made.put("/v1/models/iris", {"task": "binary"})
        made.put(
            "/v1/models/iris/versions/1",
            {"features": FEATURES, "classes": ["0", "1"], "positive_class": "1"},
        )
        yield made


def address(service: Service) -> str:
    """Return where the logger is told to send events, with a key that is for nothing else."""
    answer = service.client.post("/v1/keys", json={"scopes": ["ingest"], "models": ["iris"]})
    assert answer.is_success, answer.text
    return f"http://logger:{answer.json()['key']}@127.0.0.1:{service.port}/v1/cloudevents"


def test_a_thousand_requests_of_kserve_are_all_paired(service: Service, database_url: str) -> None:
    logger = Logger(address(service), "iris", jitter=0.005)
    sent = list(inferences(REQUESTS))
    for name, asked, answered in sent:
        logger.log("request", name, asked)
        logger.log("response", name, answered)
    assert logger.close() == {200: 2 * REQUESTS}
    with psycopg.connect(database_url) as connection:
        stored = connection.execute(
            "SELECT prediction_id, n1, n2, n3, n4, score FROM prediction ORDER BY 1"
        ).fetchall()
    assert stored == sorted(
        (name, *asked["instances"][0], answered["predictions"][0][1])
        for name, asked, answered in sent
    )
    metrics = service.client.get("/metrics").text
    assert (
        f'modelwatch_foreign_events_total{{model="iris",result="paired"}} {REQUESTS}.0' in metrics
    )


def test_a_key_of_one_model_sends_events_of_no_other(service: Service, database_url: str) -> None:
    service.put("/v1/models/roses", {"task": "binary"})
    service.put("/v1/models/roses/versions/1", {"classes": ["0", "1"], "positive_class": "1"})
    logger = Logger(address(service), "roses")
    for name, _, answered in inferences(3):
        logger.log("response", name, answered)
    assert logger.close() == {422: 3}
    for shown in ("", "logger:@", "logger:mw_nothing@", ":%FF@"):
        stranger = Logger(f"http://{shown}127.0.0.1:{service.port}/v1/cloudevents", "iris")
        stranger.log("response", "a", {"predictions": [1]})
        assert stranger.close() == {401: 1}
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM pending_pair").fetchone() == (0,)


def test_halves_that_stay_alone_are_the_workers(service: Service, database_url: str) -> None:
    logger = Logger(address(service), "iris")
    for number, (name, asked, answered) in enumerate(inferences(40)):
        logger.log(*(("request", name, asked) if number % 2 else ("response", name, answered)))
    assert logger.close() == {200: 40}
    service.start_worker()

    def swept() -> bool:
        with psycopg.connect(database_url) as connection:
            return connection.execute("SELECT count(*) FROM pending_pair").fetchone() == (0,)

    eventually(swept, seconds=120, message="the worker did not sweep")
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT count(*), count(n1), count(score) FROM prediction")
        assert found.fetchone() == (20, 0, 20)
