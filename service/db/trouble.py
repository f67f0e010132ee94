"""Whether a failure is the database's, or that of what was asked of it."""

import psycopg
from psycopg import errors
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.errors import NotMigratedError

_CANCELLED = "57014"
# As PEP 249 names them: the API reads nothing by ADBC, whose import takes its time.
_PASSING = frozenset({"OperationalError", "InterfaceError"})
# Lost connections, and a server that starts or stops.
_ABSENCE = ("08", "57P")
_LACKING = (
    *(errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName),
    NotMigratedError,
)
_LONGEST_CAUSE = 300


def _driver_error(error: BaseException | None) -> BaseException | None:
    """Return what the driver raised."""
    return error.orig if isinstance(error, DBAPIError) else error


def is_passing(error: BaseException | None) -> bool:
    """Say whether the same may succeed once the database is well.

    It is away, full, restarts, or somebody else holds a lock.  A statement that was cancelled
    because it took too long is no such failure: it will take as long again.
    """
    if isinstance(error, PoolTimeoutError):
        return True
    error = _driver_error(error)
    named = {each.__name__ for each in type(error).__mro__}
    return bool(named & _PASSING) and getattr(error, "sqlstate", None) != _CANCELLED


def is_absence(error: BaseException) -> bool:
    """Say whether there is no server to be asked, rather than one that refuses or is busy."""
    if isinstance(error, PoolTimeoutError) or not is_passing(error):
        return False
    state: str | None = getattr(_driver_error(error), "sqlstate", None)
    return not state or state.startswith(_ABSENCE)


def lacks_tables(error: BaseException) -> bool:
    """Say whether the database has not the tables of this release."""
    return isinstance(_driver_error(error), _LACKING)


def is_refusal(error: BaseException) -> bool:
    """Say whether the database's role lacks a right."""
    return isinstance(_driver_error(error), errors.InsufficientPrivilege)


def cause_of(error: BaseException) -> str:
    """Return what to log of a failure: nothing in it is of a row.

    What the server says of itself helps whoever has to repair it; what it says of a value that it
    refuses has the value in it.
    """
    found = _driver_error(error) or error
    named = " ".join(filter(None, (type(found).__name__, getattr(found, "sqlstate", None))))
    if not (is_passing(found) or lacks_tables(found) or is_refusal(found)):
        return named
    said = found.diag.message_primary if isinstance(found, psycopg.Error) else None
    # A client's own message has no parts; that of an attempt to connect has several lines.
    text = said or " ".join(str(found).split())
    return f"{named}: {text[:_LONGEST_CAUSE]}" if text else named
