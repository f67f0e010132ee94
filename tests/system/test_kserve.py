"""A deployed model whose server logs as KServe does, against the running service."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import sized
from tests.system.harness import Service, eventually, running
from tests.system.kserve import Logger, inferences

REQUESTS = 1_000
KILLS = sized(default=1, full=20)
FEATURES = [{"name": name, "kind": "numeric"} for name in ("sl", "sw", "pl", "pw")]


@pytest.fixture(scope="module")
def service(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    logs = tmp_path_factory.mktemp("logs")
    with running(module_database, logs, MODELWATCH_PENDING_TTL="PT2S") as made:
        yield made


@pytest.fixture
def model(service: Service) -> str:
    name = f"iris-{uuid.uuid4().hex[:8]}"
    service.put(f"/v1/models/{name}", {"task": "binary"})
    service.put(
        f"/v1/models/{name}/versions/1",
        {"features": FEATURES, "classes": ["0", "1"], "positive_class": "1"},
    )
    return name


def table(model: str) -> str:
    return f'logs."{model}@1"'


def address(service: Service, model: str) -> str:
    """Return where the logger is told to send events, with a key that is for nothing else."""
    answer = service.client.post("/v1/keys", json={"scopes": ["ingest"], "models": [model]})
    assert answer.is_success, answer.text
    return f"http://logger:{answer.json()['key']}@127.0.0.1:{service.port}/v1/cloudevents"


def test_a_thousand_requests_of_kserve_are_all_paired(
    service: Service, model: str, module_database: str
) -> None:
    # It would lose what comes while the machine stalls.
    logger = Logger(address(service, model), model, jitter=0.005, patience=60)
    sent = list(inferences(REQUESTS))
    for name, asked, answered in sent:
        logger.log("request", name, asked)
        logger.log("response", name, answered)
    assert logger.close() == {200: 2 * REQUESTS}
    with psycopg.connect(module_database) as connection:
        stored = connection.execute(
            f"SELECT prediction_id, sl, sw, pl, pw, score FROM {table(model)} ORDER BY 1"
        ).fetchall()
    assert stored == sorted(
        (name, *asked["instances"][0], answered["predictions"][0][1])
        for name, asked, answered in sent
    )
    metrics = service.client.get("/metrics").text
    assert (
        f'modelwatch_foreign_events_total{{model="{model}",result="paired"}} {REQUESTS}.0'
        in metrics
    )


def test_an_api_that_is_killed_among_events_loses_and_doubles_none(
    service: Service, model: str, module_database: str
) -> None:
    broker = Logger(address(service, model), model, patience=120)
    sent = list(inferences(KILLS * 130))
    for number, (name, asked, answered) in enumerate(sent):
        broker.log("request", name, asked)
        broker.log("response", name, answered)
        if number % 130 == 90:
            service.processes[-1].kill()
            service.processes[-1].wait()
            service.start_api()
    assert broker.close() == {200: 2 * len(sent)}
    with psycopg.connect(module_database) as connection:
        stored = connection.execute(
            f"SELECT prediction_id, sl, score FROM {table(model)} ORDER BY 1"
        )
        assert stored.fetchall() == sorted(
            (name, asked["instances"][0][0], answered["predictions"][0][1])
            for name, asked, answered in sent
        )


def test_a_key_of_one_model_sends_events_of_no_other(
    service: Service, model: str, module_database: str
) -> None:
    service.put("/v1/models/roses", {"task": "binary"})
    service.put("/v1/models/roses/versions/1", {"classes": ["0", "1"], "positive_class": "1"})
    logger = Logger(address(service, model), "roses")
    for name, _, answered in inferences(3):
        logger.log("response", name, answered)
    assert logger.close() == {422: 3}
    for shown in ("", "logger:@", "logger:mw_nothing@", ":%FF@"):
        stranger = Logger(f"http://{shown}127.0.0.1:{service.port}/v1/cloudevents", model)
        stranger.log("response", "a", {"predictions": [1]})
        assert stranger.close() == {401: 1}
    with psycopg.connect(module_database) as connection:
        assert connection.execute(f"SELECT count(*) FROM {table(model)}").fetchone() == (0,)


def test_halves_that_stay_alone_are_the_workers(
    service: Service, model: str, module_database: str
) -> None:
    logger = Logger(address(service, model), model, patience=60)
    for number, (name, asked, answered) in enumerate(inferences(40)):
        logger.log(*(("request", name, asked) if number % 2 else ("response", name, answered)))
    assert logger.close() == {200: 40}
    service.start_worker()

    def swept() -> bool:
        with psycopg.connect(module_database) as connection:
            return connection.execute("SELECT count(*) FROM pending_pair").fetchone() == (0,)

    eventually(swept, seconds=120, message="the worker did not sweep")
    with psycopg.connect(module_database) as connection:
        found = connection.execute(f"SELECT count(*), count(sl), count(score) FROM {table(model)}")
        assert found.fetchone() == (20, 0, 20)
