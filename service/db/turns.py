"""Locks for taking turns, which nobody can take who may only read.

An advisory lock is for everybody who may connect to take, and to keep: somebody who draws
dashboards could hold up every change.
"""

from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base


class Turn(Base):
    """What is done by one transaction at a time."""

    __tablename__ = "turn"

    name: Mapped[str] = mapped_column(primary_key=True)


def turn(table: str) -> str:
    """Return the statement that waits for one's turn with a table, until the transaction ends.

    It holds up neither those who read the table nor those who write to it.
    """
    return f"LOCK TABLE ONLY {table} IN SHARE UPDATE EXCLUSIVE MODE"
