"""Which database a process works on: the one that is configured, or one that `up` brings."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError

from service.errors import ModelwatchSetupError
from service.settings import Settings

if TYPE_CHECKING:
    from service.db.embedded import EmbeddedPostgres


class DatabaseUnreachableError(ModelwatchSetupError):
    """The configured database does not answer."""

    exit_code = 4


def required_url(settings: Settings, command: str) -> str:
    """Return the URL of the configured database, or say how to get one."""
    if settings.database_url is None:
        message = (
            f"`modelwatch {command}` needs MODELWATCH_DATABASE_URL, the address of a PostgreSQL"
            " server (postgresql://user:password@host/name); `modelwatch up` brings its own"
        )
        raise ModelwatchSetupError(message)
    url = settings.database_url.get_secret_value()
    try:
        backend = make_url(url).get_backend_name()
    except (ArgumentError, ValueError):
        backend = ""
    if backend != "postgresql" or not url.startswith("postgresql://"):
        message = "MODELWATCH_DATABASE_URL is not a postgresql://user:password@host/name address"
        raise ModelwatchSetupError(message)
    return url


def shown(url: str) -> str:
    """Return the URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


def migrate(url: str) -> None:
    """Bring the tables to this release, or say that the database does not answer."""
    from service.db.migrate import upgrade

    try:
        upgrade(url)
    except OperationalError as fault:
        raise unreachable(url, fault) from fault


def unreachable(url: str, fault: OperationalError) -> DatabaseUnreachableError:
    """Return what to say of a database that does not answer."""
    # The first line says what failed; the rest is SQLAlchemy's advice.
    cause = str(fault.orig or fault).strip().splitlines()[0]
    message = (
        f"the database at {shown(url)} cannot be used: {cause}; MODELWATCH_DATABASE_URL names it"
    )
    return DatabaseUnreachableError(message)


@dataclass(frozen=True)
class Provided:
    """A database that answers at ``url``; ``embedded`` is None for a server of the user's."""

    url: str
    embedded: "EmbeddedPostgres | None" = None

    @property
    def is_gone(self) -> bool:
        """Whether an embedded server has ended on its own."""
        return self.embedded is not None and not self.embedded.is_running()


@contextlib.contextmanager
def reached(settings: Settings, *, make: bool = False) -> Iterator[str]:
    """Yield the URL of the database that is meant, whether or not `up` runs on it just now.

    Unless one may be made, a directory without any is refused: it is rarely the one that is meant.
    """
    if settings.database_url is not None:
        yield required_url(settings, "key")
        return
    from service.db.embedded import EmbeddedPostgres

    embedded = EmbeddedPostgres(settings.data_dir)
    running = embedded.running_url()
    if running is not None:
        yield running
        return
    if not make and not embedded.cluster.exists():
        message = f"there is no database in {embedded.data_dir}; --data-dir names another directory"
        raise ModelwatchSetupError(message)
    with provided(settings) as database:
        migrate(database.url)
        yield database.url


@contextlib.contextmanager
def provided(settings: Settings) -> Iterator[Provided]:
    """Yield the configured database, or an embedded one for as long as it lasts."""
    if settings.database_url is not None:
        yield Provided(required_url(settings, "up"))
        return
    from service.db.embedded import EmbeddedPostgres

    embedded = EmbeddedPostgres(settings.data_dir)
    try:
        yield Provided(embedded.start(), embedded)
    finally:
        embedded.stop()
