"""Locks for taking turns, which nobody can take who may only read.

An advisory lock is for everybody who may connect to take, and to keep: somebody who draws
dashboards could hold up every change.
"""

from sqlalchemy import false
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base


class Turn(Base):
    """What is done by one transaction at a time."""

    __tablename__ = "turn"

    name: Mapped[str] = mapped_column(primary_key=True)


def turn(name: str) -> Insert:
    """Return the statement that waits for one's turn, until the transaction ends.

    It locks a row, which neither VACUUM nor a migration waits for, nor it for them: one that is
    made when it is first wanted, and never written again.
    """
    return (
        insert(Turn)
        .values(name=name)
        .on_conflict_do_update(index_elements=[Turn.name], set_={"name": name}, where=false())
    )


def table_turn(table: str) -> str:
    """Return the statement that waits for one's turn with a table, until the transaction ends.

    It holds up neither those who read the table nor those who write to it, but VACUUM and
    migrations; it is no write, so that a long one holds back no vacuum of other tables.
    """
    return f"LOCK TABLE ONLY {table} IN SHARE UPDATE EXCLUSIVE MODE"
