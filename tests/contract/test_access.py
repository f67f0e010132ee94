"""Every route of the document, asked without a key, with too small a key, and with another's."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from service.access.gate import WITHOUT_KEY
from service.access.grants import Scope
from service.access.scopes import NEEDS, need_of
from service.access.service import Wish, create_key
from service.db.engine import make_engine, make_sessions
from service.ingest.tables import DeadLetter
from service.processes.api import create_app
from service.registry.repository import find_version
from service.runs.tables import Evaluation
from service.settings import Settings
from tests.conftest import a_database
from tests.contract.conftest import served
from tests.contract.test_openapi import APP, OPERATIONS, address, routes
from tests.integration.seeded import START, add_incident, add_request, seed

KEYED = {name: each for name, each in OPERATIONS.items() if name.split()[1] not in WITHOUT_KEY}
PAGES = ("get /", "get /docs", "get /openapi.json")
# Of these a key that is bound to models gets its own part, which may be nothing.
LISTS = {
    "get /v1/models": "models",
    "get /v1/incidents": "incidents",
    "get /v1/retraining-requests": "requests",
}


@dataclass(frozen=True)
class World:
    """An API that wants keys, over a database in which ``loans`` has one of everything."""

    url: str
    key: Callable[..., str]
    sessions: sessionmaker[Session]

    def ask(self, name: str, key: str | None, **other: object) -> httpx.Response:
        """Send an operation's example."""
        method, path = name.split()
        operation = OPERATIONS.get(name, {})
        where, query = address(path, operation, start=START.isoformat(), **other)
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        content = None
        for kind, body in operation.get("requestBody", {}).get("content", {}).items():
            if "example" in body:
                headers["Content-Type"], example = kind, body["example"]
                content = example if isinstance(example, str) else json.dumps(example)
                break
        with httpx.Client(base_url=self.url, trust_env=False, timeout=60) as client:
            for _ in range(10):
                answer = client.request(
                    method, where, params=query, content=content, headers=headers
                )
                # A machine that stalls keeps the database away for a while, and says so.
                if answer.status_code != 503:
                    break
                time.sleep(float(answer.headers["Retry-After"]))
            return answer


@pytest.fixture(scope="module")
def world(cluster_url: str) -> Iterator[World]:
    made: dict[tuple[object, ...], str] = {}
    with a_database(cluster_url) as url:
        engine = make_engine(url)
        sessions = make_sessions(engine)
        _fill(sessions)

        def key(*scopes: Scope, models: tuple[str, ...] | None = None) -> str:
            if (scopes, models) not in made:
                with sessions.begin() as session:
                    token = create_key(session, "cli", Wish(scopes=scopes, models=models))
                made[scopes, models] = token.text
            return made[scopes, models]

        with served(create_app(Settings(database_url=SecretStr(url)))) as address:
            yield World(address, key, sessions)
        engine.dispose()


def _fill(sessions: sessionmaker[Session]) -> None:
    version = seed(sessions)
    add_incident(sessions, id=3)
    add_request(sessions, id=12, state="dismissed")
    with sessions.begin() as session:
        session.add(Evaluation(id=17, model_id=version.model_id, until=START, alert=False))


def _add_letter(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        loans = find_version(session, "loans", "7")
        session.merge(
            DeadLetter(
                id=5,
                model_id=loans.model_id,
                version_id=loans.version_id,
                kind="predictions",
                state="23514",
                record=b"{}",
                digest=b"",
            )
        )


def test_every_route_declares_the_scope_that_it_wants() -> None:
    found = {f"{method} {path}" for method, path in routes(APP)}
    without = {f"get {path}" for path in WITHOUT_KEY}
    assert NEEDS.keys() == found - without - {"get /openapi.json"}


@pytest.mark.parametrize("name", KEYED)
def test_the_document_says_which_scope_a_route_wants(name: str) -> None:
    assert KEYED[name]["security"] == [{"key": [need_of(*name.split()).scope.value]}]


@pytest.mark.parametrize("name", [*KEYED, *PAGES, "get /nowhere"])
def test_without_a_key_a_route_answers_401(world: World, name: str) -> None:
    answer = world.ask(name, None)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", sorted(WITHOUT_KEY))
def test_health_and_readiness_need_no_key(world: World, path: str) -> None:
    assert httpx.get(world.url + path, trust_env=False).status_code == 200


@pytest.mark.parametrize("name", KEYED)
def test_a_key_of_too_small_a_scope_is_refused(world: World, name: str) -> None:
    wanted = need_of(*name.split()).scope
    for scope in {Scope.INGEST, Scope.READ} - {wanted}:
        answer = world.ask(name, world.key(scope))
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize("name", KEYED)
def test_a_key_of_another_model_finds_nothing(world: World, name: str) -> None:
    key = world.key(Scope.ADMIN, models=("another",))
    answer = world.ask(name, key)
    if need_of(*name.split()).whole:
        assert answer.status_code == 403
    elif name == "get /metrics/models":
        assert "loans" not in answer.text
    elif name == "post /v1/alertmanager":
        # Refused, it would be sent again for ever.
        assert answer.json()["alerts"][0]["outcome"] == "ignored"
    elif name != "get /v1/models":
        assert answer.status_code == 404, answer.text
        assert answer.json()["code"].startswith("unknown-")
    if name in LISTS:
        answer = world.ask(name, key, model=None, version=None)
        assert answer.json()[LISTS[name]] == []


BY_ID = [name for name in KEYED if "_id}" in name or "{evaluation}" in name]


@pytest.mark.parametrize("name", [each for each in BY_ID if "prediction_id" not in each])
def test_what_another_s_key_did_not_find_was_there(world: World, name: str) -> None:
    # A letter that is replayed or deleted is gone.
    _add_letter(world.sessions)
    another, own = (world.key(Scope.ADMIN, models=(model,)) for model in ("another", "loans"))
    assert world.ask(name, another).status_code == 404
    assert world.ask(name, own).status_code in {200, 409}


@pytest.mark.parametrize("name", [name for name in KEYED if name.startswith("get ")])
def test_the_model_s_own_key_finds_it_all(world: World, name: str) -> None:
    need = need_of(*name.split())
    if need.whole or "prediction_id" in name:
        return
    key = world.key(need.scope, models=("loans", "later"))
    answer = world.ask(name, key, metric="drift", state=None, revision=None)
    assert answer.status_code in {200, 202}, answer.text
    if name in LISTS:
        assert answer.json()[LISTS[name]] != []
