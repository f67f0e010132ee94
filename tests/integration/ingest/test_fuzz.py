from sqlalchemy.orm import Session, sessionmaker

from tests.conftest import sized
from tests.integration.ingest.fuzzing import fuzz, register

REQUESTS = sized(default=2_000, full=200_000)


def test_hostile_requests_get_a_documented_answer_and_every_row_is_accounted_for(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    register(sessions)
    found = fuzz(database_url, REQUESTS, seed=REQUESTS)
    assert not found.broken, found.report()
    assert found.answers.total() == REQUESTS
    # Most of what can be answered was answered.
    assert len(found.answers) >= 12, found.report()
    assert min(found.stored.values()) > REQUESTS // 20
    found.compare(database_url)
