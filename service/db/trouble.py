"""Whether a failure is the database's, or that of what was asked of it."""

import adbc_driver_manager
import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

_CANCELLED = "57014"


def is_passing(error: BaseException | None) -> bool:
    """Say whether the same may succeed once the database is well.

    It is away, full, restarts, or somebody else holds a lock.  A statement that was cancelled
    because it took too long is no such failure: it will take as long again.
    """
    if isinstance(error, PoolTimeoutError):
        return True
    if isinstance(error, DBAPIError):
        error = error.orig
    troubles = (
        *(psycopg.OperationalError, psycopg.InterfaceError),
        *(adbc_driver_manager.OperationalError, adbc_driver_manager.InterfaceError),
    )
    return isinstance(error, troubles) and getattr(error, "sqlstate", None) != _CANCELLED
