"""One embedded PostgreSQL for a whole test run, and an empty migrated database for each test."""

import fcntl
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import hypothesis
import psycopg
import pytest
from pytest_socket import socket_allow_hosts
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from service.db.embedded import EmbeddedPostgres
from service.db.engine import make_engine, make_sessions
from service.db.migrate import upgrade
from service.db.postmaster import clear_dead_owner
from tests import patience

# Test processes that each use every core spend their time waiting for each other.  Read when
# the first library that has threads of its own is loaded, by tests and by what they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# An example that takes long was drawn on a machine that has other things to do.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

T = TypeVar("T")

LONG = ("tests/contract/test_house.py", "tests/system/")
TEMPLATE = "template_migrated"
RUN_DIRECTORY = pytest.StashKey[Path]()
SERVER = pytest.StashKey[EmbeddedPostgres]()
SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_BYTES = 2 << 30


def sized(*, default: T, full: T) -> T:
    """Return how much of a long proof runs: MODELWATCH_TEST_SIZE is ``default`` or ``full``."""
    return {"default": default, "full": full}[os.environ.get("MODELWATCH_TEST_SIZE", "default")]


def pytest_configure(config: pytest.Config) -> None:
    workers_input = getattr(config, "workerinput", None)
    if workers_input is not None:
        config.stash[RUN_DIRECTORY] = Path(workers_input["run_directory"])
        return
    # In memory, where there is enough of it: the tests keep fsync on, as production does.
    roomy = (
        SHARED_MEMORY.is_dir()
        and os.access(SHARED_MEMORY, os.W_OK)
        and shutil.disk_usage(SHARED_MEMORY).free > SHARED_MEMORY_BYTES
    )
    directory = tempfile.mkdtemp(prefix="modelwatch-tests-", dir=SHARED_MEMORY if roomy else None)
    config.stash[RUN_DIRECTORY] = Path(directory)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What takes long comes first, so that at the end nobody works while the others are done.
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_collection_finish() -> None:
    # What no test file has imported by now, none of these tests runs.
    patience.lift_limits()


@pytest.fixture
def production_limits() -> Iterator[None]:
    """Give up as soon as production does."""
    with patience.limits_of_production():
        yield


def pytest_configure_node(node: Any) -> None:
    node.workerinput["run_directory"] = str(node.config.stash[RUN_DIRECTORY])


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or RUN_DIRECTORY not in config.stash:
        return
    # Whichever worker needed the cluster first started it, and may have gone before the others.
    directory = config.stash[RUN_DIRECTORY]
    if SERVER in config.stash:
        config.stash[SERVER].stop()
    clear_dead_owner(directory / "postgres")
    url = directory / "url"
    if url.exists():
        shutil.rmtree(url.read_text().partition("?host=")[2], ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


def pytest_runtest_logfinish() -> None:
    # A process that began in a test logs to a stream that has ended with it.
    for handler in list(logging.root.handlers):
        if isinstance(handler, logging.StreamHandler) and handler.stream.closed:
            logging.root.removeHandler(handler)


def pytest_runtest_setup() -> None:
    socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


def with_database(url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def as_user(url: str, name: str) -> str:
    """Return the URL of the same database for another role, whose name is its password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{name}:{name}@{parts.netloc.rpartition('@')[2]}"))


@pytest.fixture(scope="session")
def cluster_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of the run's server, whose database TEMPLATE is empty and migrated."""
    directory = request.config.stash[RUN_DIRECTORY]
    known = directory / "url"
    with (directory / "starting").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if known.exists():
            return known.read_text()
        server = EmbeddedPostgres(directory)
        url = server.start()
        request.config.stash[SERVER] = server
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {TEMPLATE}")
        upgrade(with_database(url, TEMPLATE))
        known.write_text(url)
    return url


@contextmanager
def a_database(cluster_url: str) -> Iterator[str]:
    """Make an empty migrated database, and give its URL for a while."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(cluster_url, autocommit=True) as connection:
        # Files of so small a database are copied, and dropped, in half the time that its log takes.
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
        yield with_database(cluster_url, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(cluster_url: str) -> Iterator[str]:
    """Make an empty migrated database of the test's own, and return its URL."""
    with a_database(cluster_url) as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Return an engine on the test's database."""
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    """Return the session factory on the test's database."""
    return make_sessions(engine)
