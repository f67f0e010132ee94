"""Engines and sessions."""

from typing import Any

import psycopg
from psycopg import errors
from psycopg.abc import RV, PQGen
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session, sessionmaker

from service.db.visibility import hide_other_models

CONNECT_SECONDS = 3
PATIENCE_SECONDS = 30.0

# Only who waits for a frozen process waits for a lock so long.
# A server that hears nothing of its client stops working for it.
SERVER_OPTIONS = "-c timezone=UTC -c lock_timeout=10s -c client_connection_check_interval=5s"


class ImpatientConnection(psycopg.Connection[Any]):
    """Gives a server up that is silent for too long: frozen, or behind a wire that leads nowhere.

    No timeout of the server's own can tell, and those of TCP do not where it still acknowledges.
    """

    patience: float | None = None
    """Seconds; those of connecting until somebody has lent it out."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for an answer."""
        try:
            patience = CONNECT_SECONDS if self.patience is None else self.patience
            return super().wait(gen, interval, patience if timeout is None else timeout)
        except errors._WaitTimeout:  # noqa: SLF001  it has no public name
            self.pgconn.finish()
            message = "the server has been silent for too long"
            raise psycopg.OperationalError(message) from None


def make_engine(url: str, *, pool: int = 8, patience: float = PATIENCE_SECONDS) -> Engine:
    """Build an engine for a ``postgresql://`` URL; connecting is left to first use.

    ``patience`` is how many seconds a server may take for an answer; whether it is there at all is
    known sooner, as whoever takes a connection from the pool asks it first.
    """
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1),
        pool_size=pool,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,
        # An exception is logged; what was stored is not.
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "options": SERVER_OPTIONS,
            "prepare_threshold": None,
        },
    )

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, args: Any, options: Any) -> ImpatientConnection:
        return ImpatientConnection.connect(*args, **options)

    @event.listens_for(engine, "checkout")
    def lend(connection: ImpatientConnection, *_: Any) -> None:
        connection.patience = patience

    @event.listens_for(engine, "checkin")
    def take_back(connection: ImpatientConnection | None, *_: Any) -> None:
        if connection is not None:
            connection.patience = None

    return engine


def make_sessions(engine: Engine) -> sessionmaker[Session]:
    """Build the session factory; rows stay readable after the commit."""
    sessions = sessionmaker(engine, expire_on_commit=False)
    hide_other_models(sessions)
    return sessions
