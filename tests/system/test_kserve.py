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


def test_a_thousand_requests_of_kserve_are_all_paired(service: Service, database_url: str) -> None:
    logger = Logger(f"{service.url}/v1/cloudevents", "iris", jitter=0.005)
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


def test_halves_that_stay_alone_are_the_workers(service: Service, database_url: str) -> None:
    logger = Logger(f"{service.url}/v1/cloudevents", "iris")
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
