"""The audit log only grows, and shows where somebody has changed it all the same."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session, sessionmaker

from service.access.audit import audit, verify
from service.access.tables import AuditEntry


def write(sessions: sessionmaker[Session], number: int) -> None:
    with sessions.begin() as session:
        audit(session, "key:abc", "model.put", f"model:m{number}", {"number": number, "x": 0.1})


def test_the_chain_of_an_empty_log_holds(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        assert verify(session).entries == 0


def test_the_chain_holds_when_many_write_at_once(sessions: sessionmaker[Session]) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: write(sessions, number), range(40)))
    with sessions() as session:
        found = verify(session)
        entries = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    assert (found.entries, found.broken_at) == (40, None)
    assert found.head == entries[-1].hash.hex()
    assert {entry.subject for entry in entries} == {f"model:m{number}" for number in range(40)}
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)


def test_what_is_rolled_back_leaves_no_entry_and_no_gap(sessions: sessionmaker[Session]) -> None:
    write(sessions, 1)
    with sessions() as session:
        audit(session, "cli", "key.create", "key:abc")
        session.rollback()
    write(sessions, 2)
    with sessions() as session:
        assert verify(session).entries == 2


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "TRUNCATE audit"],
)
def test_the_database_refuses_to_change_an_entry(
    sessions: sessionmaker[Session], engine: Engine, statement: str
) -> None:
    write(sessions, 1)
    with engine.connect() as connection, pytest.raises(ProgrammingError, match="only grows"):
        connection.execute(text(statement))


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE id = 2", 2),
        ("UPDATE audit SET details = '{}' WHERE id = 3", 3),
        ("UPDATE audit SET at = at + interval '1 s' WHERE id = 1", 1),
        ("DELETE FROM audit WHERE id = 2", 2),
    ],
)
def test_an_owner_who_goes_round_the_trigger_breaks_the_chain(
    sessions: sessionmaker[Session], engine: Engine, statement: str, broken: int
) -> None:
    for number in range(4):
        write(sessions, number)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE audit DISABLE TRIGGER audit_only_grows"))
        connection.execute(text(statement))
    with sessions() as session:
        assert verify(session).broken_at == broken
