"""Who may read the metrics of a worker."""

import base64
from http import HTTPStatus

from sqlalchemy.orm import Session, sessionmaker

from service.access.door import Door
from service.access.grants import Scope
from service.access.service import revoke_key
from service.access.tokens import new_token
from service.db.engine import make_engine, make_sessions
from tests.integration.access.conftest import MakeKey


def test_a_key_that_reads_all_models_opens_the_metrics_of_a_worker(
    sessions: sessionmaker[Session], make_key: MakeKey
) -> None:
    door = Door(sessions)
    revoked = make_key()
    with sessions.begin() as session:
        revoke_key(session, "cli", revoked.split("_")[2])
    reader = make_key()
    for shown, status in (
        (f"Bearer {reader}", HTTPStatus.OK),
        (f"bearer {make_key(Scope.ADMIN)}", HTTPStatus.OK),
        (f"Bearer {make_key(Scope.INGEST)}", HTTPStatus.FORBIDDEN),
        (f"Bearer {make_key(models=['loans'])}", HTTPStatus.FORBIDDEN),
        (f"Bearer {revoked}", HTTPStatus.UNAUTHORIZED),
        (f"Bearer {new_token('live').text}", HTTPStatus.UNAUTHORIZED),
        (f"Bearer {reader[:-1]}", HTTPStatus.UNAUTHORIZED),
        (f"Basic {base64.b64encode(reader.encode()).decode()}", HTTPStatus.UNAUTHORIZED),
        ("Bearer ключ", HTTPStatus.UNAUTHORIZED),
        ("", HTTPStatus.UNAUTHORIZED),
        (None, HTTPStatus.UNAUTHORIZED),
    ):
        assert door.admits(shown) is status, shown
    nowhere = Door(make_sessions(make_engine("postgresql://nobody@127.0.0.1:1/none")))
    assert nowhere.admits(f"Bearer {reader}") is HTTPStatus.SERVICE_UNAVAILABLE
