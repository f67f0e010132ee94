"""Engines and sessions."""

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from service.db.visibility import hide_other_models

CONNECT_SECONDS = 3


def make_engine(url: str, *, pool: int = 8) -> Engine:
    """Build an engine for a ``postgresql://`` URL; connecting is left to first use."""
    return create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1),
        pool_size=pool,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,
        # An exception is logged; what was stored is not.
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "options": "-c timezone=UTC",
            "prepare_threshold": None,
        },
    )


def make_sessions(engine: Engine) -> sessionmaker[Session]:
    """Build the session factory; rows stay readable after the commit."""
    sessions = sessionmaker(engine, expire_on_commit=False)
    hide_other_models(sessions)
    return sessions
