"""Turns are taken one at a time, and nothing else waits for them."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from service.access.audit import audit, verify
from service.db.trouble import is_passing
from service.db.turns import turn
from tests.system.harness import eventually

IMPATIENT = "SET lock_timeout = '200ms'"
PATIENT = "SET lock_timeout = '20s'"
AS_BEFORE = (
    "INSERT INTO audit (id, at, actor, action, subject, details, hash) "
    "VALUES (:id, now(), 'cli', 'key.create', 'key:abc', '{}', '')"
)

WAITING = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def change(session: Session) -> None:
    audit(session, "cli", "key.create", "key:abc")


def test_a_turn_ends_with_its_transaction_and_is_one_of_several(
    sessions: sessionmaker[Session],
) -> None:
    with sessions() as one, sessions() as other:
        one.execute(turn("this"))
        other.execute(text(IMPATIENT))
        other.execute(turn("that"))
        other.commit()
        with pytest.raises(OperationalError) as refused:
            other.execute(turn("this"))
        assert isinstance(refused.value.orig, errors.LockNotAvailable)
        other.rollback()
        one.commit()
        other.execute(turn("this"))


def test_a_turn_that_was_taken_before_is_no_write(sessions: sessionmaker[Session]) -> None:
    where = text("SELECT ctid::text FROM turn WHERE name = 'this'")
    with sessions.begin() as session:
        session.execute(turn("this"))
        first = session.scalar(where)
    with sessions.begin() as session:
        session.execute(turn("this"))
    with sessions.begin() as session:
        assert session.scalar(where) == first == "(0,1)"


def test_a_change_and_vacuum_do_not_wait_for_each_other(
    sessions: sessionmaker[Session], database_url: str
) -> None:
    with sessions() as session, psycopg.connect(database_url, autocommit=True) as operator:
        change(session)
        operator.execute(PATIENT)
        operator.execute("VACUUM (ANALYZE) audit, turn, webhook")
        session.commit()
        with operator.transaction():
            for table in ("audit", "turn", "webhook"):
                operator.execute(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE".encode())
            session.execute(text(PATIENT))
            session.execute(turn("webhook"))
            change(session)
            session.commit()


def test_a_change_waits_for_one_of_a_release_from_before(
    sessions: sessionmaker[Session],
) -> None:
    with sessions() as before, ThreadPoolExecutor(1) as pool, sessions() as watch:
        before.execute(text(AS_BEFORE), {"id": 1})

        def log() -> None:
            with sessions.begin() as session:
                change(session)

        def waits() -> bool:
            found = watch.scalar(text(WAITING))
            watch.rollback()
            return bool(found)

        done = pool.submit(log)
        eventually(waits, seconds=60, message="nobody waits")
        before.commit()
        done.result()
        assert watch.scalar(text("SELECT array_agg(id ORDER BY id) FROM audit")) == [1, 2]


def test_a_release_from_before_is_told_that_the_same_may_succeed(
    sessions: sessionmaker[Session],
) -> None:
    with sessions.begin() as session:
        change(session)
    with sessions() as before:
        with pytest.raises(OperationalError) as refused:
            before.execute(text(AS_BEFORE), {"id": 1})
        assert is_passing(refused.value)
        before.rollback()
        assert verify(before).entries == 1
