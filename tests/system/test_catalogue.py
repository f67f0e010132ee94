"""The catalogue of bad input over a real socket: each case, its bytes, its answer."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from service.access.grants import Scope
from service.access.service import Wish
from tests.conftest import a_database
from tests.system.catalogue.case import MODEL, VERSION, Case
from tests.system.catalogue.proxy import WITHOUT, proxied
from tests.system.catalogue.table import CASES
from tests.system.catalogue.wire import Reply, exchange
from tests.system.harness import Service, a_key, running

FEATURES = [
    {"name": "income", "kind": "numeric"},
    {"name": "region", "kind": "categorical"},
    {"name": "owner", "kind": "boolean"},
]
WISHES = {
    "another": Wish(scopes=[Scope.ADMIN], models=["another"]),
    "ingest": Wish(scopes=[Scope.INGEST]),
    "read": Wish(scopes=[Scope.READ]),
    "slow": Wish(scopes=[Scope.INGEST], requests_per_minute=1),
}
PROBLEM = {"type", "title", "status", "detail", "code"}


class Front:
    """A running service, and the answers that take their time, asked for all at once."""

    def __init__(self, service: Service, proxy: int | None, database_url: str) -> None:
        self.service = service
        self.proxy = proxy
        self._connection = psycopg.connect(database_url, autocommit=True)
        self._keys = {
            "admin": service.key,
            "bad": service.key[:-1] + ("0" if service.key[-1] != "0" else "1"),
            **{name: a_key(database_url, wish) for name, wish in WISHES.items()},
        }
        self._pool = ThreadPoolExecutor(16)
        self._slow = {
            id(case): self._pool.submit(self._ask, case)
            for case in CASES
            if case.slow and (proxy or not case.proxied)
        }

    def ask(self, case: Case) -> Reply:
        """Return the answer to a case."""
        if case.proxied and self.proxy is None:
            pytest.skip(WITHOUT)
        coming: Future[Reply] | None = self._slow.get(id(case))
        return self._ask(case) if coming is None else coming.result()

    def _ask(self, case: Case) -> Reply:
        port = (self.proxy if case.proxied else None) or self.service.port
        for sent in case.before:
            assert exchange(port, self.keyed(sent, case.key)).status == 200
        sent = case.sent() if callable(case.sent) else case.sent
        sent = self.keyed(sent, case.key)
        reply = exchange(port, sent)
        # A machine that stalls keeps the database away for a moment.
        while reply.status == 503 and b"database-away" in reply.body:
            time.sleep(float(reply.headers["retry-after"]))
            reply = exchange(port, sent)
        return reply

    def keyed(self, sent: bytes, key: str) -> bytes:
        """Return a request with the key of that name."""
        header = b"Authorization: Bearer " + self._keys[key].encode() + b"\r\n" if key else b""
        return sent.replace(b"\r\nHost: x\r\n", b"\r\nHost: x\r\n" + header, 1)

    def close(self) -> None:
        """Wait for what still runs."""
        self._pool.shutdown()
        self._connection.close()

    def query(self, statement: str, *values: Any) -> list[Any]:
        """Ask the database."""
        return self._connection.execute(statement, values).fetchall()


@pytest.fixture(scope="module")
def front(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    logs = tmp_path_factory.mktemp("logs")
    with (
        a_database(cluster_url) as url,
        running(url, logs) as service,
        proxied(service.port, logs / "haproxy.log") as proxy,
    ):
        service.put(f"/v1/models/{MODEL}", {"task": "binary"})
        document = {"features": FEATURES, "classes": ["0", "1"], "positive_class": "1"}
        service.put(f"/v1/models/{MODEL}/versions/{VERSION}", document)
        front = Front(service, proxy, url)
        yield front
        front.close()


def test_every_case_is_in_the_table() -> None:
    assert {case.number for case in CASES} == set(range(1, 91))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_is_answered_as_the_catalogue_says(front: Front, case: Case) -> None:
    reply = front.ask(case)
    assert case.within[0] <= reply.seconds <= case.within[1]
    if case.proxied:
        assert reply.status == case.status, reply.body[:500]
        return
    assert reply.status == case.status, reply.body[:500]
    for name, value in case.headers.items():
        assert reply.headers.get(name) == value
    document = json.loads(reply.body)
    if case.status >= 400:
        check_problem(case, reply, document)
    if case.rows:
        check_verdicts(case, document)
    check_stored(front, case)


def check_problem(case: Case, reply: Reply, document: dict[str, Any]) -> None:
    assert reply.headers["content-type"] == "application/problem+json"
    assert document.keys() >= PROBLEM
    assert document["status"] == case.status
    assert len(document["detail"]) <= 300
    if case.code:
        assert document["code"] == case.code
    assert document["type"] == f"/problems/{document['code']}"
    # The path is the one thing that RFC 9457 repeats.
    document.pop("instance", None)
    assert not case.secret or case.secret not in json.dumps(document).encode()


def check_verdicts(case: Case, document: dict[str, Any]) -> None:
    found = {row["index"]: row["code"] for row in document["rejected"]}
    assert found == case.verdicts
    assert all(
        row.keys() == {"index", "prediction_id", "field", "code", "detail"}
        for row in document["rejected"]
    )
    assert not case.secret or case.secret not in json.dumps(document).encode()
    if case.status == 200:
        accepted, duplicates = document["accepted"], document["duplicates"]
        assert accepted + duplicates + len(found) == case.rows
        assert duplicates == case.duplicates
        assert tuple(f"{w['field']}/{w['code']}" for w in document["warnings"]) == case.warnings


def check_stored(front: Front, case: Case) -> None:
    statement = "SELECT prediction_id FROM {} WHERE starts_with(prediction_id, %s) ORDER BY 1"
    for table in ("prediction", "prediction_identity"):
        found = front.query(statement.format(table), case.prefix)
        assert tuple(row[0] for row in found) == case.stored
    if case.columns:
        names = ", ".join(f'"{name}"' for name in case.columns)
        statement = f'SELECT {names} FROM logs."loans@7" WHERE prediction_id = %s'
        [row] = front.query(statement, case.stored[0])
        assert row == tuple(case.columns.values())


def test_the_proxy_changes_no_answer(front: Front) -> None:
    if front.proxy is None:
        pytest.skip(WITHOUT)
    for case in CASES:
        # What is no HTTP it answers itself.
        if case.status < 400 or case.slow or case.number in {47, *range(70, 76), 88}:
            continue
        sent = case.sent() if callable(case.sent) else case.sent
        reply = exchange(front.proxy, front.keyed(sent, case.key))
        document = json.loads(reply.body)
        assert (reply.status, document["code"]) == (case.status, case.code), case


def test_nothing_that_was_sent_names_a_series(front: Front) -> None:
    for path in ("/metrics", "/metrics/models"):
        text = front.service.client.get(path).text
        assert 'model="loans"' in text or path == "/metrics/models"
        for sent in ("flood", "<script", "secret", "DROP", "vector(1)", "passwd", "__proto__"):
            assert sent not in text
