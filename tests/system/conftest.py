"""The service for all tests of a file, over a database of their own."""

from collections.abc import Iterator

import pytest

from tests.conftest import a_database
from tests.system.harness import Service, running


@pytest.fixture(scope="module")
def module_database(cluster_url: str) -> Iterator[str]:
    """Make an empty migrated database, and return its URL."""
    with a_database(cluster_url) as url:
        yield url


@pytest.fixture(scope="module")
def service(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run an API and a worker."""
    with running(module_database, tmp_path_factory.mktemp("logs")) as started:
        started.start_worker()
        yield started
