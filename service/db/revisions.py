"""Which migrations belong to this release, without Alembic, whose import takes its time."""

from functools import cache
from pathlib import Path

from sqlalchemy import Connection, text

from service.errors import ModelwatchSetupError, NotMigratedError

_EXISTS = text("SELECT to_regclass('alembic_version') IS NOT NULL")
_APPLIED = text("SELECT max(version_num) FROM alembic_version")


def migrations_directory() -> Path:
    """Find the migrations, which lie inside an installed package and beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for directory in (package / "_migrations", package.parent / "migrations"):
        if (directory / "env.py").exists():
            return directory
    message = "the migrations are missing from the installation; install modelwatch-server again"
    raise ModelwatchSetupError(message)


@cache
def newest_revision() -> str:
    """Return the revision that this release needs; revisions are numbers of one width."""
    files = (migrations_directory() / "versions").glob("[0-9]*.py")
    return max(path.name.partition("_")[0] for path in files)


def is_migrated(connection: Connection) -> bool:
    """Say whether the tables are those of this release, or of a later one."""
    if not connection.scalar(_EXISTS):
        return False
    applied: str | None = connection.scalar(_APPLIED)
    return applied is not None and applied >= newest_revision()


def require_migrated(connection: Connection) -> None:
    """Raise ``NotMigratedError`` unless this release can work with the tables."""
    if not is_migrated(connection):
        raise NotMigratedError
