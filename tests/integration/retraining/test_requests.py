"""A version has one live request, and its event is recorded once for whoever listens."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from service.db.engine import make_engine, make_sessions
from service.errors import UnknownVersionError
from service.registry.tables import Model, Version
from service.retraining.service import handle, request_retraining
from service.retraining.tables import RequestWindow, RetrainingRequest
from service.webhooks.tables import Outbox
from tests.integration.webhooks.receiver import add_webhook

DAY = timedelta(days=1)
START = datetime(2026, 11, 1, tzinfo=UTC)

Sessions = sessionmaker[Session]


def add_version(sessions: Sessions, stage: str = "live") -> tuple[int, int]:
    add_webhook(sessions, "ci")
    with sessions.begin() as session:
        model = Model(name="loans", task="binary")
        session.add(model)
        session.flush()
        version = Version(model_id=model.id, name="7", stage=stage)
        session.add(version)
        session.flush()
        return model.id, version.id


def ask_within(
    session: Session, ids: tuple[int, int], day: int = 0, cooldown: timedelta = timedelta(0)
) -> int | None:
    return request_retraining(
        session,
        model_id=ids[0],
        version_id=ids[1],
        model="loans",
        version="7",
        action="retrain",
        reason="the model got worse",
        window=(START + day * DAY, START + (day + 1) * DAY),
        signals=[{"metric": "roc_auc", "value": 0.8, "threshold": 0.89, "n": 5000}],
        cooldown=cooldown,
    )


def ask(sessions: Sessions, ids: tuple[int, int], day: int = 0) -> int | None:
    with sessions.begin() as session:
        return ask_within(session, ids, day)


def count(sessions: Sessions, table: type) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def close(sessions: Sessions, request_id: int | None, state: str) -> None:
    with sessions.begin() as session:
        session.execute(
            update(RetrainingRequest).where(RetrainingRequest.id == request_id).values(state=state)
        )


def test_forty_identical_calls_at_once_open_one_request_and_burn_no_id(
    database_url: str,
) -> None:
    engine = make_engine(database_url, pool=20)
    sessions = make_sessions(engine)
    ids = add_version(sessions)
    barrier = threading.Barrier(20)

    def call(_: int) -> int | None:
        barrier.wait(timeout=60)
        return ask(sessions, ids)

    with ThreadPoolExecutor(20) as pool:
        answers = set(pool.map(call, range(40)))
    assert len(answers) == 1
    assert count(sessions, RetrainingRequest) == 1
    assert count(sessions, Outbox) == 1
    assert count(sessions, RequestWindow) == 1
    with sessions() as session:
        for table in ("retraining_request", "outbox"):
            sequence = text("SELECT last_value FROM pg_sequences WHERE sequencename = :name")
            assert session.scalar(sequence, {"name": f"{table}_id_seq"}) == 1
    engine.dispose()


def test_later_windows_join_the_live_request(sessions: Sessions) -> None:
    ids = add_version(sessions)
    assert len({ask(sessions, ids, day) for day in range(3)}) == 1
    assert count(sessions, RequestWindow) == 3
    assert count(sessions, Outbox) == 1


def test_a_window_opens_one_request_in_its_life_and_a_new_window_another(
    sessions: Sessions,
) -> None:
    ids = add_version(sessions)
    first = ask(sessions, ids)
    close(sessions, first, "dismissed")
    assert ask(sessions, ids) == first
    second = ask(sessions, ids, day=1)
    assert second != first
    assert count(sessions, Outbox) == 2


def test_within_the_cooldown_after_one_was_closed_no_other_opens_for_the_model(
    sessions: Sessions,
) -> None:
    ids = add_version(sessions)
    first = ask(sessions, ids)
    with sessions.begin() as session:
        request = session.get_one(RetrainingRequest, first)
        handle(request, "dismiss", by="ana", note="", at=datetime.now(UTC) - 3 * DAY)

    def again(day: int, cooldown: timedelta) -> int | None:
        with sessions.begin() as session:
            return ask_within(session, ids, day, cooldown=cooldown)

    assert again(1, 4 * DAY) is None
    assert again(0, 4 * DAY) == first
    assert count(sessions, Outbox) == 1
    assert again(1, 2 * DAY) not in (None, first)


def test_a_retired_version_opens_none(sessions: Sessions) -> None:
    ids = add_version(sessions, stage="retired")
    assert ask(sessions, ids) is None
    assert count(sessions, RetrainingRequest) == 0
    with pytest.raises(UnknownVersionError):
        ask(sessions, (ids[0], ids[1] + 1))


def test_what_is_rolled_back_was_never_announced(sessions: Sessions) -> None:
    ids = add_version(sessions)

    with sessions() as session:
        ask_within(session, ids)
        session.flush()
        session.rollback()
    assert (count(sessions, RetrainingRequest), count(sessions, Outbox)) == (0, 0)
