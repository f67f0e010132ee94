"""The keys that `up` makes once; that of personal data must be the same ever after."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from service.db.engine import make_engine, make_sessions
from service.errors import ModelwatchSetupError, ServiceError
from service.registry.privacy import pseudonyms_of
from service.registry.service import require_key
from service.settings import Settings

# Settings, and the files that stand in for them.
OWN_KEYS = (("pii_key", "pii.key"), ("secret_key", "secret.key"))
_BYTES = 32


def own_key(data_dir: Path, name: str) -> str:
    """Return the key in a file of the data directory; it is made where there is none."""
    path = data_dir.expanduser() / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Under a name of its own until it is whole: half a key would hash, too.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=name) as file:
            file.write(secrets.token_urlsafe(_BYTES))
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
    return path.read_text().strip()


def refuse_other_key(settings: Settings, url: str) -> None:
    """Refuse to start without the key that the database is hashed under, or with another.

    A database that does not answer, or has no tables yet, is asked again with every schema.
    """
    engine = make_engine(url, pool=1)
    try:
        with make_sessions(engine).begin() as session:
            require_key(session, pseudonyms_of(settings))
    except ServiceError as fault:
        raise ModelwatchSetupError(fault.detail) from None
    except DBAPIError:
        return
    finally:
        engine.dispose()
